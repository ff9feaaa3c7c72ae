"""What the parts of a JSONPath template do to an object, as kubectl has it.

It finds and prints; how a template is written is the concern of `kubectl_jsonpath`.
No I/O; nothing of ours is imported.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

INTEGERS = range(-(2**63), 2**63)
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_STRING, _WHOLE, _FRACTION = "text", "a whole number", "a number with a fraction"
_TRUTH = "true or false"
_NO_VALUE = object()
"""What a range over null, or over nothing, looks at: it is not even null."""


class EvaluationError(LookupError):
    """The template cannot be evaluated for this object: kubectl fails there.

    The attribute ``found`` is what had been found so far. It matters, because a filter
    that only asks whether something exists does not mind an error.
    """

    def __init__(self, text: str, found: list[Any]) -> None:
        super().__init__(text)
        self.found = found


def as_text(value: Any, null: str = "null") -> str:
    """Return a scalar as kubectl prints it."""
    if value is None:
        return null
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _number(value, -4, 6)
    return str(value)


Node = Callable[[list[Any], "Run"], list[Any]]
"""A part of a template: it turns values into those that it selects."""


class Run:
    """One evaluation: it keeps track of the ranges that are open.

    A range without an end goes on to the end of the template, and what follows is then
    evaluated once more, for the whole. So does kubectl.
    """

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.begun = self.inside = self.ended = 0
        self.last_end = -1

    def search(self, data: Any, start: int) -> list[list[Any]]:
        """Return what each part of the template finds, beginning with one of them."""
        found: list[list[Any]] = []
        place = start
        while place < len(self.nodes):
            results = self.nodes[place]([data], self)
            if 0 < self.ended <= self.inside:
                self.ended -= 1
                self.last_end = place
                break
            if self.begun:
                self.begun -= 1
                self.inside += 1
                for item in results:
                    if item is _NO_VALUE:
                        raise EvaluationError("a range over nothing in a range", [])
                    inner = _NO_VALUE if item is None else item
                    found += self.search(inner, place + 1)
                if not results:
                    self.search(_NO_VALUE, place + 1)  # to get to its end
                self.inside -= 1
                place = max(place, self.last_end)
            else:
                found.append(results)
            place += 1
        return found


@dataclass(frozen=True)
class Text:
    """Text that stands outside of braces, or in quotes."""

    text: str

    def __call__(self, values: list[Any], run: Run) -> list[Any]:  # noqa: ARG002
        """Return the text, once."""
        return [self.text]


@dataclass(frozen=True)
class Literal:
    """A number, true or false."""

    value: float | bool

    def __call__(self, values: list[Any], run: Run) -> list[Any]:  # noqa: ARG002
        """Return it for each value."""
        return [self.value for _ in values]


@dataclass(frozen=True)
class Sequence:
    """Parts one after the other, each on what the one before found."""

    nodes: list[Node]

    def __call__(self, values: list[Any], run: Run) -> list[Any]:
        """Return what the last part finds."""
        for node in self.nodes:
            values = node(values, run)
        return values


@dataclass(frozen=True)
class Word:
    """The words range and end."""

    name: str

    def __call__(self, values: list[Any], run: Run) -> list[Any]:
        """Open or close a range; only opening passes the values on."""
        if self.name == "range":
            run.begun += 1
            return values
        if not run.inside:
            raise EvaluationError("{end} without {range}", [])
        run.ended += 1
        return []


@dataclass(frozen=True)
class Field:
    """The value of a key."""

    name: str

    def __call__(self, values: list[Any], run: Run) -> list[Any]:  # noqa: ARG002
        """Return the values of the key, of maps that have it."""
        return [
            v[self.name] for v in values if isinstance(v, Mapping) and self.name in v
        ]


@dataclass(frozen=True)
class Array:
    """An index or a slice."""

    start: int | None
    end: int | None
    step: int
    derived: bool
    """Whether it is an index, and the end is that of one item."""

    def __call__(self, values: list[Any], run: Run) -> list[Any]:  # noqa: ARG002
        """Return the items; fail for what is no list, and out of bounds."""
        found: list[Any] = []
        for value in values:
            if value is None:
                continue
            if not isinstance(value, list):
                raise EvaluationError(f"{_kind(value)} has no index", values)
            size = len(value)
            start = self.start or 0
            start += size if start < 0 else 0
            end = size if self.end is None else self.end
            end += size if end < 0 or (end == 0 and self.derived) else 0
            if start == end:
                return found  # also of the lists before: kubectl looks no further
            if not 0 <= start < size or not 0 <= end <= size:
                index = end - 1 if 0 <= start < size else start
                text = f"index {index} is out of bounds of a list of {size}"
                raise EvaluationError(text, values)
            if start > end:
                text = f"the slice starts at {start} and ends at {end}"
                raise EvaluationError(text, values)
            found += value[start : end : self.step]
        return found


@dataclass(frozen=True)
class Union:
    """Several alternatives in brackets, with a comma between them."""

    parts: list[Sequence]

    def __call__(self, values: list[Any], run: Run) -> list[Any]:
        """Return what each alternative finds in all values, in turn."""
        try:
            return [found for part in self.parts for found in part(values, run)]
        except EvaluationError as e:
            raise EvaluationError(str(e), values) from None


class Wildcard:
    """All items, or the values of all keys."""

    def __call__(self, values: list[Any], run: Run) -> list[Any]:  # noqa: ARG002
        """Return the children of all values."""
        return [child for value in values for child in _children(value)]


class Recursive:
    """The value and everything in it that is not empty."""

    def __call__(self, values: list[Any], run: Run) -> list[Any]:  # noqa: ARG002
        """Return the values with children, each before its children."""
        found = []
        waiting = values[::-1]
        while waiting:
            value = waiting.pop()
            if children := _children(value):
                found.append(value)
                waiting += reversed(children)
        return found


@dataclass(frozen=True)
class Filter:
    """The items of a list that pass a comparison, or that have something."""

    left: Sequence
    name: str = ""
    right: Sequence = field(default_factory=lambda: Sequence([]))

    def __call__(self, values: list[Any], run: Run) -> list[Any]:
        """Return the items that pass; fail for what is no list."""
        found: list[Any] = []
        for value in values:
            if not isinstance(value, list):
                raise EvaluationError(f"{_kind(value)} cannot be filtered", values)
            for item in value:
                try:
                    passes = self._passes(item, run)
                except EvaluationError as e:
                    raise EvaluationError(str(e), values) from None
                if passes:
                    found.append(item)
        return found

    def _passes(self, item: Any, run: Run) -> bool:
        if not self.name:
            try:
                return bool(self.left([item], run))
            except EvaluationError as e:
                return bool(e.found)
        sides = []
        for side in (self.left, self.right):
            found = side([item], run)
            if len(found) > 1:
                raise EvaluationError("a filter compares single values", [])
            if not found:
                return False
            sides += found
        left, right = sides
        kinds = {_kind(left), _kind(right)}
        comparable = {_STRING, _WHOLE, _FRACTION}
        if self.name in {"==", "!="}:
            comparable.add(_TRUTH)
        if len(kinds) > 1 or not kinds <= comparable:
            what = " with ".join((_kind(left), _kind(right)))
            raise EvaluationError(f"kubectl does not compare {what}", [])
        return OPERATORS[self.name](left, right)


def _children(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, str):
        return list(value.encode())  # its bytes: kubectl iterates over Go's strings
    return value if isinstance(value, list) else []


def _kind(value: Any) -> str:
    """Name what can be compared only with its own kind."""
    if isinstance(value, bool):
        return _TRUTH
    if isinstance(value, int | float):
        whole = isinstance(value, int) and value in INTEGERS
        return _WHOLE if whole else _FRACTION
    named = (str, _STRING), (list, "a list"), (Mapping, "a map"), (type(None), "null")
    kinds = [name for type_, name in named if isinstance(value, type_)]
    return kinds[0] if kinds else "nothing"


def printed(value: Any) -> str:
    """Return a value as ``kubectl get -o jsonpath`` prints it."""
    if value is _NO_VALUE:
        return "<no value>"
    if isinstance(value, Mapping | list):
        return _json(value)
    return as_text(value)


def _json(value: Any) -> str:
    """Return JSON as Go writes it: sorted, without spaces, safe in HTML."""
    if isinstance(value, Mapping):
        pairs = sorted(value.items(), key=lambda pair: str(pair[0]))
        inner = ",".join(f"{_json(str(key))}:{_json(item)}" for key, item in pairs)
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_json, value))}]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, -6, 21).replace("e-0", "e-")
    text = json.dumps(value, ensure_ascii=False, default=str)
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _number(value: float, low: int, high: int) -> str:
    """Return a number as Go prints it: with an exponent below *low*, from *high* on."""
    if isinstance(value, int) and value in INTEGERS:
        return str(value)
    try:
        value = float(value)
    except OverflowError:
        return str(value)  # no server sends such a number
    if value - value != 0:
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    number = Decimal(repr(value)).normalize()
    exponent = number.adjusted() if value else 0
    if low <= exponent < high:
        return f"{number:f}"
    sign, digits, _ = number.as_tuple()
    first, rest = str(digits[0]), "".join(map(str, digits[1:]))
    mantissa = f"{'-' * sign}{first}{'.' * bool(rest)}{rest}"
    return f"{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
