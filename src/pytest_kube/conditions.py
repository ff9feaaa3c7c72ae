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

from pytest_kube import fieldpath
from pytest_kube.fieldpath import brief
from pytest_kube.jsonpath_nodes import EvaluationError, as_text
from pytest_kube.kubectl_jsonpath import Template
from pytest_kube.readiness import failure as failure  # noqa: PLC0414 - also ours
from pytest_kube.readiness import unready
from pytest_kube.reports import (
    ABSENT,
    at,
    being_deleted,
    met,
    out_of_phase,
    unmet,
    unobserved,
)

Predicate = Callable[[Mapping[str, Any] | None], object]
"""A callable of the object, or of ``None`` when there is none."""

__tracebackhide__ = True  # what a user wrote is wrong, or raised

_ANY = object()
_TYPES = {str: "as text", int: "a number", float: "a number", bool: "true or false"}
_LONGEST = 160
# kubectl splits at each single = sign, so that there is none in path or value.
_PATH = r"(?P<path>\{[^{}]+\}|(?:[^={}]|==)+)"
_PATH_AND_VALUE = re.compile(rf"{_PATH}(?:=(?!=)(?P<value>(?:[^=]|==)*))?", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """A named predicate; the name is what a timeout reports.

    Conditions combine by ``&``, ``|`` and ``~``, also with plain functions.

    Args:
        name: What is waited for, as a timeout says it.
        holds: Tells whether it holds for an object, or for ``None``.
        why: Says on one line why it does not; `explain` asks it.

    Example:
        >>> big = Condition("big", lambda obj: bool(obj) and obj["spec"]["size"] > 3)
        >>> (big & exists).name
        '(big and exists)'
    """

    name: str
    holds: Predicate
    why: Callable[[Mapping[str, Any] | None], str] | None = None

    def __call__(self, obj: Mapping[str, Any] | None) -> bool:
        """Tell whether the condition holds for the object, or for its absence."""
        return bool(self.holds(obj))

    def explain(self, obj: Mapping[str, Any] | None) -> str:
        """Say on one line why the condition does not hold for the object.

        Args:
            obj: The object, or ``None`` when there is none.

        Returns:
            The most telling fact first; nothing if it holds, or nothing is known.

        Example:
            >>> phase("Running").explain({"status": {"phase": "Pending"}})
            'phase is Pending'
        """
        if self.why is None:
            return ""
        try:
            text = "" if self(obj) else self.why(obj)
        except Exception:  # noqa: BLE001 - a user's function; its error is told elsewhere
            return ""
        return brief(text, _LONGEST) if text else ""

    def __and__(self, other: Predicate | str) -> Condition:
        also = as_condition(other)
        name = f"({self.name} and {also.name})"
        return Condition(name, lambda obj: self(obj) and also(obj), _both(self, also))

    def __or__(self, other: Predicate | str) -> Condition:
        also = as_condition(other)
        name = f"({self.name} or {also.name})"
        return Condition(name, lambda obj: self(obj) or also(obj), _both(self, also))

    def __rand__(self, other: Predicate | str) -> Condition:
        return as_condition(other) & self

    def __ror__(self, other: Predicate | str) -> Condition:
        return as_condition(other) | self

    def __invert__(self) -> Condition:
        holds = f"{self.name} holds"
        return Condition(f"not {self.name}", lambda obj: not self(obj), lambda _: holds)

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
    because = "" if reason is None else f" (reason {reason})"
    return Condition(
        f"{type_}={status}{because}",
        lambda obj: met(obj, type_, status, reason),
        lambda obj: unmet(obj, type_, status, reason),
    )


def phase(name: str) -> Condition:
    """Hold when the object's ``status.phase`` is *name*."""
    return Condition(
        f"phase {name}",
        lambda obj: at(obj, "status", "phase") == name,
        lambda obj: out_of_phase(obj, name),
    )


def deleted_uid(uid: str) -> Condition:
    """Hold when the object is gone, or a namesake with another uid took its place."""

    def holds(obj: Mapping[str, Any] | None) -> bool:
        # A recreated object would otherwise look as if it had never been deleted.
        present = at(obj, "metadata", "uid")
        return obj is None or (present is not None and present != uid)

    return Condition("deleted", holds, being_deleted)


def field(path: str, value: Callable[[Any], object] | object = _ANY) -> Condition:
    """Hold when the field at *path* is *value*; without one, when it is not null.

    Args:
        path: Names and indexes: ``status.readyReplicas``,
            ``spec.containers[0].image``, ``metadata.labels["app.kubernetes.io/name"]``.
        value: JSON data; ``None`` for a field that is absent or null; or a predicate,
            which is asked about the value of a field that is there.

    Raises:
        ValueError: *path* is not written like that; the text points to the place.
    """
    parts = fieldpath.parse(path)

    def holds(obj: Mapping[str, Any] | None) -> object:
        found = fieldpath.find(obj, parts)
        if value is None:
            return obj is not None and found is None
        if found is None or value is _ANY:
            return found is not None
        if callable(value):
            return value(found)
        return isinstance(found, bool) == isinstance(value, bool) and found == value

    def why(obj: Mapping[str, Any] | None) -> str:
        found = fieldpath.find(obj, parts)
        if obj is None or found is None:
            return ABSENT if obj is None else fieldpath.why_missing(obj, parts)
        text = brief(found)
        if type(found) is not type(value) and text == brief(value):
            text += f", {_TYPES.get(type(found), 'of another type')}"
        return f"{fieldpath.written(parts)} is {text}"

    if value is _ANY:
        return Condition(f"{path} present", holds, why)
    if callable(value):
        return Condition(f"{path} satisfies {as_condition(value).name}", holds, why)
    return Condition(f"{path} = {_text(value)}", holds, why)


def jsonpath(expression: str, value: object = None) -> Condition:
    r"""Hold when kubectl's JSONPath *expression* finds something, or finds *value*.

    A single expression is what ``kubectl wait --for=jsonpath=`` takes, braces or not:
    it has to find exactly one thing, also null; with a value, that is a scalar, and is
    compared as text (of null, ``<nil>``). Where kubectl fails, the condition does not
    hold. A template with text, several expressions or a range is rendered like
    ``kubectl get -o jsonpath`` does, and its text compared; without a value, it holds
    when there is any. White space around texts does not count.

    Args:
        expression: An expression or a template.
        value: What to find: text, a number or a bool; ``None`` for anything.

    Raises:
        ValueError: kubectl does not accept *expression*; the text points to the place.

    Example:
        >>> up = jsonpath("{range .items[*]}{.name} {end}", "a b")
        >>> up({"items": [{"name": "a"}, {"name": "b"}]})
        True
    """
    return _jsonpath(Template.relaxed(expression), value)


def parse(text: str) -> Condition:
    """Return the condition that ``kubectl wait --for=TEXT`` waits for.

    Raises:
        ValueError: kubectl does not accept *text* there; the error lists the forms.
    """
    form, _, rest = text.strip().partition("=")
    if form == "condition" and re.fullmatch(r"[^=]+(=[^=]+)?", rest):
        return condition(*rest.split("="))
    if form == "jsonpath" and rest:
        return _parse_jsonpath(rest)
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


exists: Condition = Condition("exists", lambda obj: obj is not None)
"""Hold when the object is there."""

deleted: Condition = Condition("deleted", lambda obj: obj is None, being_deleted)
"""Hold when the object is gone; a namesake created since hides that: `deleted_uid`."""

ready: Condition = Condition("ready", lambda obj: not unready(obj), unready)
"""Hold when the object is in service, as far as its kind tells.

Nothing that is being deleted is ready. Built-in kinds:

- Deployment, StatefulSet, DaemonSet, ReplicaSet, ReplicationController: rolled out, all
  replicas available. Job: Complete. Pod: Ready, or Succeeded: its work is done.
- Node, ServiceCIDR: Ready. Namespace: Active. CustomResourceDefinition: Established and
  no name rejected. APIService: Available. FlowSchema: not Dangling.
- PersistentVolumeClaim: Bound. PersistentVolume: Available or Bound. VolumeAttachment:
  attached. ResourceClaim: allocated. Service of type LoadBalancer: has an ingress.
- HorizontalPodAutoscaler: AbleToScale and ScalingActive. PodDisruptionBudget: observed,
  enough pods are healthy. ResourceQuota: the status counts what the spec limits.
- CertificateSigningRequest: Approved and issued. ValidatingAdmissionPolicy: observed.
  PodCertificateRequest: Issued. PodGroup: PodGroupScheduled.
  ResourcePoolStatusRequest: Complete. StorageVersionMigration: Succeeded.
  StorageVersion: AllEncodingVersionsEqual.
- All others, such as ConfigMap, Ingress, CronJob or Role: exists.

Custom resources: the latest spec was seen, nothing is reported as Reconciling, and it
has not `failed`; Ready, or else Available, is true if it is reported. One with a spec
but without a status is not ready.
"""

observed: Condition = Condition("observed", lambda obj: not unobserved(obj), unobserved)
"""Hold when the status is about the latest spec, as an observedGeneration tells.

That of the status counts, or else those of its conditions. Without any, it does not.
"""

failed: Condition = Condition(
    "failed",
    lambda obj: bool(failure(obj)),
    lambda obj: ABSENT if obj is None else "it reports no failure",
)
"""Hold when the object reports that it will not get any further.

Job: Failed. Pod, PersistentVolume: phase Failed. PersistentVolumeClaim: Lost.
Deployment: ProgressDeadlineExceeded. CustomResourceDefinition: a name is rejected.
CertificateSigningRequest, PodCertificateRequest: Denied or Failed. Every other kind:
Stalled or Failed is true, or the phase is Failed. What was reported on an older
generation does not count. `failure` says what is reported.
"""


def _both(*parts: Condition) -> Callable[[Mapping[str, Any] | None], str]:
    """Return what explains a combination: the parts that do not hold."""

    def why(obj: Mapping[str, Any] | None) -> str:
        texts = list(dict.fromkeys(filter(None, (p.explain(obj) for p in parts))))
        # The last part should be seen, however long the first one is.
        short = _LONGEST if len("; ".join(texts)) <= _LONGEST else _LONGEST // 2 - 1
        return "; ".join(brief(text, short) for text in texts)

    return why


def _text(value: object) -> str:
    """Return a value as kubectl prints it."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, default=repr)
    return as_text(value)


def _parse_jsonpath(text: str) -> Condition:
    match = _PATH_AND_VALUE.fullmatch(text)
    value = match["value"] if match else None
    if match is None or (value is not None and not value.strip("'\"")):
        path = re.match(_PATH, text)
        place = match.end() if match else path.end() if path else 0
        after = "=value, without another =, or the end" if path else "one {expression}"
        raise fieldpath.mistake("JSONPath", text, place, after)
    # The quotes are those that a shell would have removed.
    return _jsonpath(Template.relaxed(match["path"]), value and value.strip("'\""))


def _jsonpath(template: Template, value: object) -> Condition:
    wanted = None if value is None else _text(value).strip()

    def holds(obj: Mapping[str, Any] | None) -> bool:
        found = [] if obj is None else _found(template, obj)
        if isinstance(found, str):
            return bool(found.strip()) if wanted is None else found.strip() == wanted
        if isinstance(found, EvaluationError) or len(found) != 1:
            return False
        scalar = not isinstance(found[0], Mapping | list)
        return wanted is None or (scalar and _found_text(found[0]).strip() == wanted)

    equals = "" if wanted is None else f" = {wanted}"
    name = f"{template.text}{equals}"
    return Condition(name, holds, lambda obj: _why_not_found(template, obj))


def _found(template: Template, obj: Any) -> str | list[Any] | EvaluationError:
    """Return what one expression finds, or the text of a template."""
    try:
        if template.single:
            return next(iter(template.find(obj)), [])
        return template.render(obj)
    except EvaluationError as e:
        return e


def _why_not_found(template: Template, obj: Mapping[str, Any] | None) -> str:
    if obj is None:
        return ABSENT
    found = _found(template, obj)
    if isinstance(found, EvaluationError):
        return f"kubectl fails there: {found}"
    if isinstance(found, str):
        return f"found {brief(found)}"
    if len(found) > 1:
        some = ", ".join(map(brief, found[:3]))
        return f"{len(found)} values are found instead of one: {some}"
    if found and isinstance(found[0], Mapping | list):
        return f"found no single value, but {brief(found[0])}"
    return f"found {_found_text(found[0])}" if found else template.why_nothing(obj)


def _found_text(value: object) -> str:
    return as_text(value, null="<nil>")
