"""kubectl's JSONPath: templates that are read once, then searched and printed.

It does what ``kubectl get -o jsonpath`` does, also where that surprises: a dot in a
key has to be escaped even in brackets, an index out of bounds is an error, ``1`` and
``1.0`` cannot be compared. No I/O; of ours only the text of errors is imported.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_kube.fieldpath import mistake, why_missing, written
from pytest_kube.jsonpath_nodes import (
    INTEGERS,
    OPERATORS,
    Array,
    EvaluationError,
    Field,
    Filter,
    Literal,
    Recursive,
    Run,
    Sequence,
    Text,
    Union,
    Wildcard,
    Word,
    printed,
)

if TYPE_CHECKING:
    from pytest_kube.jsonpath_nodes import Node

__tracebackhide__ = True  # what a user wrote is wrong, or raised

_WHAT = "JSONPath"
_SIDE = '@.path, "text", a number, true or false'
_AFTER_SIDE = "one comparison or )"
_SLICE = re.compile(r"(-?[0-9]*)(:-?[0-9]*)?(:-?[0-9]*)?")
_COMPARISON = re.compile(r"([^!<>=]+)([!<>=]+)(.+)", re.DOTALL)
_RELAXED = re.compile(r"\{\.?([^{}]+)\}|\.?([^{}]+)")
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([\da-fA-F]{2})|([0-3][0-7]{2})"
    r"|u([\da-fA-F]{4})|U([\da-fA-F]{8}))"
)
_ESCAPED = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))


class Template:
    r"""A template of text and of expressions in braces.

    Args:
        text: What stands behind ``kubectl get -o jsonpath=``.

    Raises:
        ValueError: kubectl's parser does not accept it, or it could never be
            evaluated; the error points to the place.

    Example:
        >>> items = "{range .items[*]}{.name}={.n}{'\\n'}{end}"
        >>> Template(items).render({"items": [{"name": "a", "n": 1}]})
        'a=1\n'
    """

    def __init__(self, text: str) -> None:
        if not text:
            raise mistake(_WHAT, text, 0, "a template")
        self.text = text
        self._nodes: list[Node] = []
        place = 0
        while (brace := text.find("{", place)) >= 0:
            if brace > place:
                self._nodes.append(Text(text[place:brace]))
            parser = _Parser(text, text, brace + 1)
            self._nodes.append(Sequence(parser.action()))
            place = parser.place
        if text[place:]:
            self._nodes.append(Text(text[place:]))

    @classmethod
    def relaxed(cls, text: str) -> Template:
        """Read what ``kubectl wait --for=jsonpath=`` takes: braces, dot may lack.

        kubectl puts a dot in front of whatever is in the braces. That of ``{$.a}`` and
        ``{['a']}`` makes paths that find nothing, so we read those as they are meant.

        Raises:
            ValueError: Neither one expression nor a template.
        """
        if text in {"", "{}"}:
            raise mistake(_WHAT, text, len(text) // 2, ".name or [index]")
        match = _RELAXED.fullmatch(text)
        if match is None:
            return cls(text)
        group = match.lastindex or 1
        body, start = match[group], match.start(group)
        dot = "" if body[0] in " $@[" else "."
        template = cls.__new__(cls)
        template.text = f"{{{dot}{body}}}"
        parser = _Parser(f"{dot}{body}}}", text, 0, start - len(dot))
        template._nodes = [Sequence(parser.action())]  # noqa: SLF001 - its own class
        return template

    @property
    def single(self) -> bool:
        """Whether it is one expression: no text around it, no second one, no range."""
        only = self._nodes[0]
        words = any(isinstance(n, Word) for n in getattr(only, "nodes", ()))
        return len(self._nodes) == 1 and isinstance(only, Sequence) and not words

    def find(self, obj: Any) -> list[list[Any]]:
        """Return what each part finds, in the order of printing.

        Raises:
            EvaluationError: kubectl fails for this object.
        """
        return Run(self._nodes).search(obj, 0)

    def render(self, obj: Any) -> str:
        """Return the text that ``kubectl get -o jsonpath`` prints.

        Raises:
            EvaluationError: kubectl fails for this object.
        """
        try:
            found = self.find(obj)
            return "".join(" ".join(map(printed, results)) for results in found)
        except RecursionError:
            raise EvaluationError("the object is too deep to print", []) from None

    def why_nothing(self, obj: Any) -> str:
        """Say where a single expression that finds nothing stops."""
        names: list[str | int] = []
        node: Node | None = None
        for node in getattr(self._nodes[0], "nodes", ()):
            if isinstance(node, Field):
                names.append(node.name)
            elif isinstance(node, Array) and node.derived:
                names.append(node.start or 0)
            else:
                break
        if missing := why_missing(obj, names):
            return missing
        filtered = isinstance(node, Filter)
        where = written(names) or "the object"
        return f"{where} has nothing that {'passes the filter' if filtered else 'fits'}"


class _Parser:
    """Reads one action, up to its closing brace; parts of it by parsers of its kind.

    Args:
        text: What to read.
        whole: The text that errors show.
        place: Where to start in *text*.
        offset: Where *text* starts in *whole*.
        side: Whether it is a side of a filter.
    """

    def __init__(
        self, text: str, whole: str, place: int, offset: int = 0, *, side: bool = False
    ) -> None:
        self.text, self.whole, self.place, self.offset = text, whole, place, offset
        self.side = side

    def action(self) -> list[Node]:
        nodes: list[Node] = []
        while not self._next("}"):
            start = self.place
            if self._next("[?("):
                nodes.append(self._filter())
            elif self._next(".."):
                if nodes and isinstance(nodes[-1], Recursive):
                    raise self._mistake(start, "a name; only one .. can stand there")
                nodes.append(Recursive())
                if _is_word(self.text[self.place : self.place + 1]):
                    nodes.append(self._field())
            elif self._next("["):
                nodes += self._brackets()
            elif self._next("."):
                nodes.append(self._field())
            # The object itself stands before everything, written or not.
            elif not self._until("[ @$]+"):
                nodes.append(self._word_or_value(bool(nodes)))
        return nodes

    def _word_or_value(self, inside: bool) -> Node:  # noqa: FBT001 - of one caller
        first = self.text[self.place : self.place + 1]
        if first in {"'", '"'}:
            return Text(self._quoted(first))
        if first in {"+", "-"} or first.isdecimal():
            return Literal(self._number())
        if _is_word(first):
            return self._word()
        if self.side:
            raise self._mistake(self.place, _AFTER_SIDE if inside else _SIDE)
        raise self._mistake(self.place, ".name, [index] or }")

    def _next(self, text: str) -> bool:
        found = self.text.startswith(text, self.place)
        self.place += len(text) * found
        return found

    def _mistake(self, place: int, expected: str) -> ValueError:
        place = min(self.offset + place, len(self.whole))
        return mistake(_WHAT, self.whole, place, expected)

    def _part(self, text: str, start: int, *, side: bool = False) -> Sequence:
        """Read a part of the text, given where it starts, as if it stood in braces."""
        parser = _Parser(f"{text}}}", self.whole, 0, self.offset + start, side=side)
        return Sequence(parser.action())

    def _until(self, pattern: str) -> str:
        match = re.compile(pattern).match(self.text, self.place)
        self.place = match.end() if match else self.place
        return match[0] if match else ""

    def _field(self) -> Node:
        name = self._until(r"(?:\\[\s\S]?|[^\\ \t\r\n.,\[\]$@{}])*")
        return Wildcard() if name == "*" else Field(name.replace("\\", ""))

    def _word(self) -> Node:
        start = self.place
        word = self._until(r"[^ \t\r\n.,\[\]$@{}]*")
        if word in {"true", "false"}:
            return Literal(word == "true")
        if word not in {"range", "end"} or self.side:
            words = f"range, end, .{word} or '{word}' in quotes"
            raise self._mistake(start, _SIDE if self.side else words)
        return Word(word)

    def _number(self) -> float:
        start = self.place
        text = self._until(r"[+-]?[\d.]*")
        if re.fullmatch(r"[+-]?[0-9]+", text) and int(text) in INTEGERS:
            return int(text)
        if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)", text):
            return float(text)
        raise self._mistake(start, "a number")

    def _quoted(self, quote: str) -> str:
        start = self.place
        # A quote after a backslash does not end it, even if that is escaped itself.
        if not self._until(rf"{quote}(?:[^\n]*?[^\n\\])??{quote}"):
            raise self._mistake(len(self.text), f"{quote} at the end of the text")
        raw = b""
        inner = start + 1
        while inner < self.place - 1:
            if self.text[inner] != "\\":
                raw += self.text[inner].encode()
                inner += 1
                continue
            match = _ESCAPE.match(self.text, inner, self.place - 1)
            code = int(match[4] or match[5] or "0", 16) if match else 0
            other_quote = "'" if quote == '"' else '"'
            surrogate = 0xD800 <= code <= 0xDFFF  # noqa: PLR2004 - not characters
            if not match or match[1] == other_quote or surrogate or code > 0x10FFFF:  # noqa: PLR2004 - the last character
                raise self._mistake(inner, "an escape of Go, such as \\n or \\u00e9")
            if match[2] or match[3]:
                byte = int(match[2], 16) if match[2] else int(match[3], 8)
                raw += bytes([byte])
            else:
                raw += (_ESCAPED.get(match[1], match[1]) or chr(code)).encode()
            inner = match.end()
        return raw.decode(errors="replace")

    def _brackets(self) -> list[Node]:
        start = self.place
        text = self._until(r"[^\]\n]*")
        if not self._next("]"):
            brace = text.find("}")  # where it was probably meant to end
            raise self._mistake(self.place if brace < 0 else start + brace, "]")
        if "," in text:
            parts = []
            for part in text.split(","):
                bare = part.strip(" ")
                space = len(part) - len(part.lstrip(" "))
                parts.append(self._part(f"[{bare}]", start + space - 1))
                start += len(part) + 1
            return [Union(parts)]
        if re.fullmatch("'[^']*'", text):
            # kubectl reads the key like a name: a dot in it has to be escaped.
            return self._part(f".{text[1:-1]}", start).nodes
        return [self._array(":" if text == "*" else text, start)]

    def _array(self, text: str, start: int) -> Array:
        match = _SLICE.fullmatch(text)
        numbers = (
            [(group or "").removeprefix(":") for group in match.groups()]
            if match
            else []
        )
        sizes = [int(number) for number in numbers if number not in {"", "-"}]
        outside = any(size not in INTEGERS for size in sizes)
        if match is None or "-" in numbers or outside:
            raise self._mistake(start, "an index, a slice, a 'key', * or ?(filter)")
        first, last, step = (int(number) if number else None for number in numbers)
        if step is not None and step <= 0:
            place = start + match.start(3) + 1
            raise self._mistake(place, "a step of 1 or more")
        derived = not match[2]
        if derived:
            last = (first or 0) + 1
        return Array(first, last, step or 1, derived)

    def _filter(self) -> Node:
        start = self.place
        quote, closed = "", False
        while True:
            char = self.text[self.place : self.place + 1]
            if char in {"", "\n"}:
                raise self._mistake(len(self.text), ")]")
            if char == ")" and bool(quote) == closed:
                break
            if char in "\"'" and not quote:
                quote = char
            elif char == quote and self.text[self.place - 1] != "\\":
                closed = True
            self.place += 1
        text = self.text[start : self.place]
        if not self._next(")]"):
            raise self._mistake(self.place + 1, "]")
        match = _COMPARISON.fullmatch(text)
        if match is None:
            return Filter(self._part(text, start, side=True))
        if match[2] not in OPERATORS:
            raise self._mistake(start + match.start(2), "==, !=, <, <=, > or >=")
        left, right = (
            self._part(match[n], start + match.start(n), side=True) for n in (1, 3)
        )
        return Filter(left, match[2], right)


def _is_word(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdecimal()
