"""Pure conditions on one object, or on its absence. No I/O, no clock, no pytest.

Any callable of an object or ``None`` is a condition. Those made here never raise: an
object that lacks what they look for, or has it in another shape, does not satisfy them.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

Predicate = Callable[[Mapping[str, Any] | None], object]
_Step = Callable[[Any], Iterable[Any]]

_ANY = object()

_FORMS = """a condition in kubectl's words is one of
  condition=Ready
  condition=Ready=False
  jsonpath={.status.phase}=Running
  jsonpath={.status.loadBalancer.ingress}
  create
  delete"""


@dataclass(frozen=True)
class Condition:
    """A named predicate; the name is what a timeout reports.

    Conditions are combined by ``&``, ``|`` and ``~``, with each other and with plain
    functions.
    """

    name: str
    holds: Predicate

    def __call__(self, obj: Mapping[str, Any] | None) -> bool:
        return bool(self.holds(obj))

    def __and__(self, other: Predicate) -> Condition:
        right = as_condition(other)
        return Condition(
            f"({self.name} and {right.name})", lambda obj: self(obj) and right(obj)
        )

    def __or__(self, other: Predicate) -> Condition:
        right = as_condition(other)
        return Condition(
            f"({self.name} or {right.name})", lambda obj: self(obj) or right(obj)
        )

    def __rand__(self, other: Predicate) -> Condition:
        return as_condition(other) & self

    def __ror__(self, other: Predicate) -> Condition:
        return as_condition(other) | self

    def __invert__(self) -> Condition:
        return Condition(f"not {self.name}", lambda obj: not self(obj))

    def __bool__(self) -> bool:
        # "ready and exists" would silently be just the latter.
        raise TypeError(
            f"the condition {self.name!r} has no truth value by itself; combine"
            " conditions by & | ~, and call them with an object"
        )


def condition(
    type_: str, status: str = "True", *, reason: str | None = None
) -> Condition:
    """Hold when the object reports status condition *type_* as *status*.

    Like kubectl, regardless of case, and only if what is reported is not older than
    the spec: an ``observedGeneration`` below ``metadata.generation`` does not count.
    """

    def holds(obj: Mapping[str, Any] | None) -> bool:
        found = _reported(obj, type_)
        return (
            found is not None
            and str(found.get("status")).casefold() == str(status).casefold()
            and reason in {None, found.get("reason")}
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
        return obj is None or _at(obj, "metadata", "uid") != uid

    return Condition("deleted", holds)


def field(path: str, value: object = _ANY) -> Condition:
    """Hold when the field at *path* has *value*; without one, when it is not null.

    Args:
        path: Names and indexes: ``status.readyReplicas``,
            ``spec.containers[0].image``, ``metadata.labels["app.kubernetes.io/name"]``.
        value: JSON data; ``None`` for an absent or null field; or a predicate, which
            is asked only about a field that is there.

    Raises:
        ValueError: *path* has another syntax.
    """
    parser = _Parser(path, "field path", plain=True)
    steps = parser.path(end="")

    def holds(obj: Mapping[str, Any] | None) -> object:
        found = next(_walk(obj, steps), None)
        if found is None or value is _ANY:
            return found is not None or (value is None and obj is not None)
        return value(found) if callable(value) else _equal(found, value)

    if value is _ANY:
        return Condition(f"{path} present", holds)
    if callable(value):
        return Condition(f"{path} satisfies {as_condition(value).name}", holds)
    return Condition(f"{path} = {_text(value)}", holds)


def jsonpath(expression: str, value: object = None) -> Condition:
    """Hold when kubectl's JSONPath *expression* finds something, or finds *value*.

    Like ``kubectl wait``: one scalar must be found, and it is compared as the text
    that kubectl prints. Null counts as nothing. Understood are children, indexes,
    slices, ``*``, unions, ``..`` and filters; one expression, not a template.

    Raises:
        ValueError: *expression* has another syntax.
    """
    parser = _Parser(expression, "JSONPath")
    return _jsonpath(parser, parser.expression(end=""), value)


def parse(text: str) -> Condition:
    """Return the condition that ``kubectl wait --for=TEXT`` waits for.

    Raises:
        ValueError: *text* is nothing that kubectl accepts there.
    """
    form, _, rest = text.strip().partition("=")
    if form == "condition" and rest.strip("="):
        type_, equals, status = rest.partition("=")
        if type_ and (status or not equals):
            return condition(type_, status or "True")
    if form == "jsonpath" and rest:
        parser = _Parser(rest, "JSONPath")
        steps = parser.expression(end="=")
        if parser.ended():
            return _jsonpath(parser, steps, None)
        # The quotes that a shell would have removed.
        if value := rest[parser.position + 1 :].strip("'\""):
            return _jsonpath(parser, steps, value)
    if text.strip().lower() in {"create", "delete"}:
        return exists if text.strip().lower() == "create" else deleted
    raise ValueError(f"{text!r} is no condition; {_FORMS}")


def as_condition(value: Condition | str | Predicate) -> Condition:
    """Return *value* as a condition with a name.

    Args:
        value: A condition, a text for `parse`, or a callable, whose errors are its own.
    """
    if isinstance(value, Condition):
        return value
    if isinstance(value, str):
        return parse(value)
    if not callable(value):
        raise TypeError(
            f"{value!r} is no condition; pass a Condition, a text such as"
            " 'condition=Ready', or a callable that takes the object or None"
        )
    name = getattr(value, "__name__", type(value).__name__)
    code = getattr(value, "__code__", None)
    if name == "<lambda>" and code is not None:
        name = f"lambda at {PurePath(code.co_filename).name}:{code.co_firstlineno}"
    return Condition(name, value)


def _jsonpath(parser: _Parser, steps: list[_Step], value: object) -> Condition:
    wanted = None if value is None else _text(value)

    def holds(obj: Mapping[str, Any] | None) -> bool:
        found = [item for item in _walk(obj, steps) if item is not None]
        if wanted is None:
            return bool(found)
        single = len(found) == 1 and not isinstance(found[0], Mapping | list)
        return single and _text(found[0]) == wanted

    name = f"{{{parser.source}}}"
    return Condition(name if wanted is None else f"{name} = {wanted}", holds)
