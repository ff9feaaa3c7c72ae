"""Paths into an object: kubectl's JSONPath, and the plain field paths of `field`.

A path is read once into steps, and then finds values. No I/O; nothing of ours is
imported.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Step = Callable[[Any], Iterable[Any]]
"""What one part of a path does: it turns a value into those that it selects."""

__tracebackhide__ = True  # what a user wrote is wrong, or raised

_NAME = r"((?:\\.|[^\s\\.,=<>!?*@$'\"()\[\]{}])+)"
_QUOTED = r"""\s*(?:'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)")\s*"""
_INTEGER = r"\s*(-?\d+)\s*(?!\s*[:\d])"
_SLICE = r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*(?::\s*([1-9]\d*)?\s*)?"
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


class Parser:
    """Reads one path from left to right, and points to what it does not understand.

    A *plain* path has names and indexes only.
    """

    def __init__(self, text: str, what: str, *, plain: bool = False) -> None:
        self.text, self.what, self.plain = text, what, plain
        self.position = 0
        self.source = text

    def _take(self, pattern: str) -> re.Match[str] | None:
        if match := re.compile(pattern).match(self.text, self.position):
            self.position = match.end()
        return match

    def need(self, pattern: str, expected: str) -> re.Match[str]:
        """Read on, or raise ValueError that points to where *expected* is missing."""
        if match := self._take(pattern):
            return match
        place = len(self.text) - len(self.text[self.position :].lstrip())
        raise ValueError(
            f"{self.what}: expected {expected}\n  {self.text}\n  {' ' * place}^"
        )

    def expression(self) -> list[Step]:
        """Read a path with or without braces and root."""
        braces = self._take(r"\s*\{\s*")
        start = self.position
        root = not self.plain and self._take(r"[$@]")
        steps = self._steps()
        if not steps and not root:
            self.need(r"(?!)", ".name or [index]")
        self.source = self.text[start : self.position]
        if braces:
            self.need(r"\s*\}", ".name, [index] or }")
        return steps

    def _steps(self) -> list[Step]:
        found: list[Step] = []
        dot = r"\.?"
        while True:
            if not self.plain and self._take(r"\.\."):
                found.append(_descendants)
                dot = ""
                continue
            if match := self._take(dot + _NAME):
                found.append(_child(_unescaped(match[1])))
            elif not self.plain and self._take(rf"{dot}\*"):
                found.append(_children)
            elif self._take(r"\.?\["):
                found.append(self._selectors())
            else:
                return found
            dot = r"\."

    def _selectors(self) -> Step:
        found: list[Step] = []
        while not found or (not self.plain and self._take(",")):
            if match := self._take(_QUOTED):
                found.append(_child(_unescaped(match[1] or match[2] or "")))
            elif match := self._take(_INTEGER):
                found.append(_index(int(match[1])))
            elif self.plain:
                self.need(r"(?!)", 'an index or a "key"')
            elif self._take(r"\s*\*\s*"):
                found.append(_children)
            elif self._take(r"\s*\?\s*\("):
                found.append(self._filter())
            else:
                match = self.need(_SLICE, "an index, a slice, a 'key', * or ?(filter)")
                found.append(
                    _slice(slice(*(int(n) if n else None for n in match.groups())))
                )
        self.need(r"\]", "]")
        return lambda v: [result for step in found for result in step(v)]

    def _filter(self) -> Step:
        left = self._operand()
        name = self._take(r"==|!=|<=|>=|<|>")
        right = self._operand() if name else left
        self.need(r"\)\s*", "a comparison or )")

        def passes(item: Any) -> bool:
            if name is None:
                return bool(left(item))
            return _compare(left(item), name[0], right(item))

        return lambda v: (
            [item for item in v if passes(item)] if isinstance(v, list) else []
        )

    def _operand(self) -> Callable[[Any], list[Any]]:
        if match := self._take(_QUOTED):
            text = _unescaped(match[1] or match[2] or "")
            return lambda _: [text]
        if match := self._take(r"\s*(-?\d+(?:\.\d+)?|true|false)\s*"):
            value = json.loads(match[1])
            return lambda _: [value]
        self.need(r"\s*@", '@.path, "text", a number, true or false')
        steps = self._steps()
        self._take(r"\s*")
        return lambda item: find(item, steps)


def find(value: Any, steps: Iterable[Step]) -> list[Any]:
    """Return what the steps select of a value; of ``None`` nothing."""
    found = [] if value is None else [value]
    for step in steps:
        found = [result for item in found for result in step(item)]
    return found


def _child(name: str) -> Step:
    return lambda v: [v[name]] if isinstance(v, Mapping) and name in v else []


def _slice(part: slice) -> Step:
    return lambda v: v[part] if isinstance(v, list) else []


def _index(index: int) -> Step:
    # [-1:0] would be empty.
    return _slice(slice(index, index + 1 or None))


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def _descendants(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        yield (item := waiting.pop())
        waiting += reversed(list(_children(item)))


def _compare(left: list[Any], name: str, right: list[Any]) -> bool:
    if len(left) != 1 or len(right) != 1:
        return False
    kinds = {
        float if isinstance(item, int) and not isinstance(item, bool) else type(item)
        for item in (left[0], right[0])
    }
    comparable = len(kinds) == 1 and kinds <= {bool, float, str}
    return comparable and _OPERATORS[name](left[0], right[0])


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
