"""Pure conditions on one object, or on its absence. No I/O, no clock, no pytest.

Any callable of an object or ``None`` is a condition. Those made here never raise: an
object that lacks what they look for, or has it in another shape, does not satisfy them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from pytest_kube.fieldpath import Parser, Step, find

Predicate = Callable[[Mapping[str, Any] | None], object]
"""A callable of the object, or of ``None`` when there is none."""

__tracebackhide__ = True  # what a user wrote is wrong, or raised

_ANY = object()

# How many replicas exist, are of the current revision, are available.
_COUNTS = {
    "DaemonSet": (
        "currentNumberScheduled",
        "updatedNumberScheduled",
        "numberAvailable",
    ),
    "Deployment": ("replicas", "updatedReplicas", "availableReplicas"),
    "ReplicaSet": ("replicas", "replicas", "availableReplicas"),
    "StatefulSet": ("replicas", "updatedReplicas", "availableReplicas"),
}
# Built-in kinds with a spec that nothing reports on.
_WITHOUT_STATUS = """CSIDriver CSINode CronJob DeviceClass IngressClass Lease LimitRange
    MutatingAdmissionPolicy MutatingAdmissionPolicyBinding NetworkPolicy
    ResourceClaimTemplate ResourceSlice Service ValidatingAdmissionPolicyBinding"""


@dataclass(frozen=True)
class Condition:
    """A named predicate; the name is what a timeout reports.

    Conditions combine by ``&``, ``|`` and ``~``, also with plain functions.
    """

    name: str
    holds: Predicate

    def __call__(self, obj: Mapping[str, Any] | None) -> bool:
        """Tell whether the condition holds for the object, or for its absence."""
        return bool(self.holds(obj))

    def __and__(self, other: Predicate | str) -> Condition:
        also = as_condition(other)
        name = f"({self.name} and {also.name})"
        return Condition(name, lambda obj: self(obj) and also(obj))

    def __or__(self, other: Predicate | str) -> Condition:
        also = as_condition(other)
        name = f"({self.name} or {also.name})"
        return Condition(name, lambda obj: self(obj) or also(obj))

    def __rand__(self, other: Predicate | str) -> Condition:
        return as_condition(other) & self

    def __ror__(self, other: Predicate | str) -> Condition:
        return as_condition(other) | self

    def __invert__(self) -> Condition:
        return Condition(f"not {self.name}", lambda obj: not self(obj))

    def __bool__(self) -> bool:
        # Else "ready and exists" would silently be just the latter.
        raise TypeError(
            f"the condition {self.name!r} is neither true nor false; combine conditions"
            " by & | ~, and ask them by a call with the object"
        )


def condition(
    type_: str, status: str = "True", *, reason: str | None = None
) -> Condition:
    """Hold when the object reports status condition *type_* as *status*.

    Like kubectl, regardless of case, and only if it was reported on the latest spec:
    an ``observedGeneration`` below ``metadata.generation`` does not count.
    """

    def holds(obj: Mapping[str, Any] | None) -> bool:
        found = _reported(obj, type_)
        return (
            bool(found)
            and str(found.get("status")).casefold() == status.casefold()
            and (reason is None or found.get("reason") == reason)
            and _observed(obj, found)
        )

    because = "" if reason is None else f" (reason {reason})"
    return Condition(f"{type_}={status}{because}", holds)


def phase(name: str) -> Condition:
    """Hold when the object's ``status.phase`` is *name*."""
    return Condition(f"phase {name}", lambda obj: _at(obj, "status", "phase") == name)


def deleted_uid(uid: str) -> Condition:
    """Hold when the object is gone, or a namesake with another uid took its place."""

    def holds(obj: Mapping[str, Any] | None) -> bool:
        # A recreated object would otherwise look as if it had never been deleted.
        present = _at(obj, "metadata", "uid")
        return obj is None or (present is not None and present != uid)

    return Condition("deleted", holds)


def field(path: str, value: object = _ANY) -> Condition:
    """Hold when the field at *path* is *value*; without one, when it is not null.

    Args:
        path: Names and indexes: ``status.readyReplicas``,
            ``spec.containers[0].image``, ``metadata.labels["app.kubernetes.io/name"]``.
        value: JSON data; ``None`` for a field that is absent or null; or a predicate,
            which is asked about the value of a field that is there.

    Raises:
        ValueError: *path* is not written like that; the text points to the place.
    """
    parser = Parser(path, "field path", plain=True)
    steps = parser.expression()
    parser.need(r"\Z", ".name, [index] or the end")

    def holds(obj: Mapping[str, Any] | None) -> object:
        found = next(iter(find(obj, steps)), None)
        if value is None:
            return obj is not None and found is None
        if found is None or value is _ANY:
            return found is not None
        if callable(value):
            return value(found)
        return isinstance(found, bool) == isinstance(value, bool) and found == value

    if value is _ANY:
        return Condition(f"{path} present", holds)
    if callable(value):
        return Condition(f"{path} satisfies {as_condition(value).name}", holds)
    return Condition(f"{path} = {_text(value)}", holds)


def jsonpath(expression: str, value: object = None) -> Condition:
    """Hold when kubectl's JSONPath *expression* finds something, or finds *value*.

    Like ``kubectl wait``: with a value, one scalar must be found, and is compared as
    the text that kubectl prints. Null counts as nothing. Children, indexes, slices,
    unions, ``*``, ``..`` and filters are understood; one expression, no template.

    Raises:
        ValueError: *expression* is not one; the text points to the place.
    """
    parser = Parser(expression, "JSONPath")
    steps = parser.expression()
    parser.need(r"\s*\Z", "the end")
    return _jsonpath(parser, steps, value)


def parse(text: str) -> Condition:
    """Return the condition that ``kubectl wait --for=TEXT`` waits for.

    Raises:
        ValueError: kubectl does not accept *text* there; the error lists the forms.
    """
    form, _, rest = text.strip().partition("=")
    if form == "condition" and re.fullmatch(r"[^=]+(=[^=]+)?", rest):
        return condition(*rest.split("="))
    if form == "jsonpath" and rest:
        parser = Parser(rest, "JSONPath")
        steps = parser.expression()
        value = parser.need(r"\s*(?:\Z|=(.+))", "=value or the end")[1]
        # The quotes are those that a shell would have removed.
        return _jsonpath(parser, steps, value and value.strip("'\""))
    if (word := text.strip().lower()) in {"create", "delete"}:
        return exists if word == "create" else deleted
    raise ValueError(
        f"no condition in kubectl's words: {text!r}; use one of\n"
        "  condition=Ready\n"
        "  condition=Ready=False\n"
        "  jsonpath={.status.phase}=Running\n"
        "  jsonpath={.status.loadBalancer.ingress}\n"
        "  create\n"
        "  delete"
    )


def as_condition(value: Predicate | str) -> Condition:
    """Return *value* as a condition with a name.

    Args:
        value: A condition, text for `parse`, or a callable; what it raises, it raises.
    """
    if isinstance(value, Condition):
        return value
    if isinstance(value, str):
        return parse(value)
    if not callable(value):
        raise TypeError(
            f"no condition: {value!r}; pass one of pytest_kube.conditions, a text like"
            " 'condition=Ready', or a callable that takes the object or None"
        )
    name = getattr(value, "__name__", type(value).__name__)
    if name == "<lambda>":
        code = value.__code__
        name = f"lambda at {PurePath(code.co_filename).name}:{code.co_firstlineno}"
    return Condition(name, value)


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _count(obj: Any, *names: str, default: int = 0) -> int:
    value = _at(obj, *names)
    return value if isinstance(value, int) else default


def _reported(obj: Any, type_: str) -> Mapping[str, Any]:
    """Return the status condition of that type; empty when it is not reported."""
    reported = _at(obj, "status", "conditions")
    for item in reported if isinstance(reported, list) else ():
        named = isinstance(item, Mapping) and isinstance(item.get("type"), str)
        if named and item["type"].casefold() == type_.casefold():
            return dict(item)
    return {}


def _observed(obj: Any, reported: Mapping[str, Any]) -> bool:
    generation = _count(obj, "metadata", "generation")
    status = _count(obj, "status", "observedGeneration", default=generation)
    return _count(reported, "observedGeneration", default=status) >= generation


def _is_ready(obj: Mapping[str, Any] | None) -> bool:
    if obj is None or _at(obj, "metadata", "deletionTimestamp"):
        return False
    group = str(_at(obj, "apiVersion")).rpartition("/")[0]
    kind = str(_at(obj, "kind"))
    rule = _READY.get((group, kind))
    if rule is not None:
        return bool(rule(obj))
    built_in = "." not in group or group.endswith(".k8s.io")
    return (built_in and kind in _WITHOUT_STATUS.split()) or _is_current(obj)


def _is_current(obj: Mapping[str, Any]) -> bool:
    """Judge an object of any kind by the conventions for what it reports."""
    if _at(obj, "spec") is not None and not _at(obj, "status"):
        return False  # nothing has looked at it yet
    if not _observed(obj, {}) or (condition("Reconciling") | condition("Stalled"))(obj):
        return False
    positive = [type_ for type_ in ("Ready", "Available") if _reported(obj, type_)]
    return not positive or condition(positive[0])(obj)


def _is_rolled_out(obj: Mapping[str, Any] | None) -> bool:
    """Tell whether all replicas exist in their current revision and are available."""
    kind = str(_at(obj, "kind"))
    present, updated, available = (_count(obj, "status", n) for n in _COUNTS[kind])
    wanted = _count(obj, "spec", "replicas", default=1)
    if kind == "DaemonSet":
        wanted = _count(obj, "status", "desiredNumberScheduled")
    strategy = _at(obj, "spec", "updateStrategy")
    partition = _count(strategy, "rollingUpdate", "partition")
    return (
        _at(obj, "status", "observedGeneration") is not None
        and _observed(obj, {})
        and present == wanted
        and available >= wanted
        and (updated >= wanted - partition or _at(strategy, "type") == "OnDelete")
    )


exists = Condition("exists", lambda obj: obj is not None)
"""Hold when the object is there."""

deleted = Condition("deleted", lambda obj: obj is None)
"""Hold when the object is gone; a namesake created since hides that: `deleted_uid`."""

ready = Condition("ready", _is_ready)
"""Hold when the object is in service, as far as its kind tells.

Workloads: rolled out, all replicas available. Pod, Node: Ready. Job: Complete. CRD:
Established. PersistentVolumeClaim: Bound. Namespace: Active. Service and other kinds
without a status: exists. Every other kind: the latest spec was seen, nothing is
reported as Reconciling or Stalled, and Ready, or else Available, is true if reported;
with a spec but no status it is not ready. Nothing that is being deleted is ready.
"""

_READY: dict[tuple[str, str], Predicate] = {
    ("", "Namespace"): phase("Active"),
    ("", "Node"): condition("Ready"),
    ("", "PersistentVolumeClaim"): phase("Bound"),
    ("", "Pod"): condition("Ready"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): condition("Established"),
    ("batch", "Job"): condition("Complete"),
    **{("apps", kind): _is_rolled_out for kind in _COUNTS},
}


def _text(value: object) -> str:
    """Return a scalar as kubectl prints it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:  # noqa: PLR2004 - where Go turns to exponents
        value = int(value)
    return json.dumps(value, default=repr)


def _jsonpath(parser: Parser, steps: list[Step], value: object) -> Condition:
    def holds(obj: Mapping[str, Any] | None) -> bool:
        found = [item for item in find(obj, steps) if item is not None]
        if value is None:
            return bool(found)
        single = len(found) == 1 and not isinstance(found[0], Mapping | list)
        return single and _text(found[0]) == _text(value)

    equals = "" if value is None else f" = {_text(value)}"
    return Condition(f"{{{parser.source}}}{equals}", holds)
