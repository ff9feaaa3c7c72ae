"""YAML text as kubectl reads and writes it, which is not the dialect of PyYAML.

``10:30`` is text, ``1e3`` a number, ``y`` is true, and keys are always text. What an
object has to look like is no concern of this module.
"""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from reprlib import repr as brief
from typing import TYPE_CHECKING, Any

from pytest_kube.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# The tag of unquoted text, whose meaning is open until `_scalar` has seen it.
_OPEN = "?"
_YAML = "tag:yaml.org,2002:"
_WORDS: dict[str, bool | float | None] = {
    word: value
    for words, value in (
        ("y Y yes Yes YES true True TRUE on On ON", True),
        ("n N no No NO false False FALSE off Off OFF", False),
        (" ~ null Null NULL", None),
        (".inf .Inf .INF +.inf +.Inf +.INF -.inf -.Inf -.INF", math.inf),
        (".nan .NaN .NAN", math.nan),
    )
    for word in words.split(" ")
}
_INTEGER = re.compile(
    r"[-+]?(0[xX][\da-fA-F]+|0[oO][0-7]+|0[bB][01]+|0(?P<octal>[0-7]+)|0|[1-9]\d*)",
    re.ASCII,
)
_FLOAT = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?", re.ASCII)
_TAGS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "float": (int, float),
    "int": (int,),
    "null": (type(None),),
}


@dataclass(frozen=True)
class Document:
    """One object of a manifest, with its file and the line of its document."""

    object: dict[str, Any]
    source: Path | None = None
    line: int | None = None

    def error(self, text: str) -> ManifestError:
        """Return the error that says *text* about this object."""
        if self.source is None:
            line = self.line and f"line {self.line} of the text"
            text = f"{line or f'object {brief(self.object)}'}: {text}"
        return ManifestError(text, source=self.source, line=self.line)


def parse(text: str, source: Path | None) -> list[Document]:
    """Return the documents of YAML or JSON text, without the empty ones.

    Raises:
        ManifestError: The text is not YAML, or has what JSON cannot express.
    """
    import yaml

    try:
        documents = _parse_json(text, source) or [
            Document(_plain(node, source), source, node.start_mark.line + 1)
            for node in yaml.compose_all(text, _loader())
            if node is not None
        ]
    except (yaml.YAMLError, UnicodeError) as error:
        problem, line = _problem(error, text)
        raise Document({}, source, line).error(f"not YAML: {problem}") from error
    except RecursionError:
        problem = "nested too deeply, or by an anchor in itself; flatten it"
        raise Document({}, source, 1).error(problem) from None
    # Between two separators there may be comments only.
    return [document for document in documents if document.object is not None]


def dump(objects: Iterable[Any]) -> str:
    """Return JSON data as YAML documents, with quotes where kubectl needs them."""
    import yaml

    return "---\n".join(
        yaml.dump(
            obj,
            Dumper=_dumper(),
            allow_unicode=True,
            default_flow_style=False,
            sort_keys=False,
            width=1_000_000,  # folded lines are hard to search
        )
        for obj in objects
    )


def _parse_json(text: str, source: Path | None) -> list[Document]:
    """Return the object of JSON text, whose escapes YAML parsers do not all know."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(result := dict(pairs)) < len(pairs):
            raise ValueError
        return result

    try:
        value = text.lstrip().startswith("{") and json.loads(
            text, object_pairs_hook=unique, parse_float=_scalar, parse_int=_scalar
        )
    except ValueError:  # YAML's own braces, or a mistake, which YAML can locate
        return []
    return [Document(value, source, 1)] if value else []


def _problem(error: Any, text: str) -> tuple[str, int]:
    """Return what a parser met, with what to do about it, and the line."""
    if isinstance(character := getattr(error, "character", None), int):
        line = text.partition(chr(character))[0].count("\n") + 1
        return f"{error.reason}; remove the character {character:#04x}", line
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    if re.match(r"\s*\t", [*text.splitlines(), "", ""][line - 1]):
        advice = "indent with spaces, YAML allows no tabs there"
    elif "{{" in text:
        advice = "if this is a template, render it first"
    else:
        advice = "look at quotes and indentation, also in the line above"
    return f"{getattr(error, 'problem', error)}; {advice}", line


def _scalar(text: str) -> Any:
    """Return what unquoted text means to kubectl."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    plain = text.replace("_", "")
    if match := _INTEGER.fullmatch(plain):
        number = int(plain, 8 if match["octal"] else 0)
        if -(2**63) <= number < 2**64:
            return number if number < 2**63 else float(number)
    if _FLOAT.fullmatch(plain) and math.isfinite(real := float(plain)):
        # Go writes a float with the fewest digits, and reads an integer from them.
        number = int(Decimal(repr(real))) if real.is_integer() else 2**63
        return number if -(2**63) <= number < 2**63 else real
    return text


def _plain(node: Any, source: Path | None) -> Any:
    """Return the data of a YAML node."""
    if node.id == "scalar":
        return _tagged(node, source)
    if node.id == "sequence":
        return [_plain(item, source) for item in node.value]
    result: dict[str, Any] = {}
    keys: dict[str, Any] = {}
    for key_node, value_node in node.value:
        value = _plain(value_node, source)
        if key_node.tag == _OPEN and key_node.value == "<<":
            for merged in reversed(value if isinstance(value, list) else [value]):
                if not isinstance(merged, dict):
                    text = f"<< merges mappings, not {brief(merged)}; correct it"
                    raise _at(key_node, source).error(text)
                # Over the keys above it, against YAML's own rule: so does kubectl.
                result.update(merged)
            continue
        key = _plain(key_node, source)
        if key is None or isinstance(key, dict | list):
            text = f"the key {brief(key)} is no text; quote it"
            raise _at(key_node, source).error(text)
        key = key if isinstance(key, str) else json.dumps(key)
        if key in keys:
            first, second = _at(keys[key], source), _at(key_node, source)
            raise second.error(
                f"the key {key!r} stands twice, in line {first.line} and in line"
                f" {second.line}; remove one"
            )
        keys[key], result[key] = key_node, value
    return result


def _tagged(node: Any, source: Path | None) -> Any:
    """Return what a scalar means, with regard to its tag."""
    text, tag = node.value, node.tag.removeprefix(_YAML)
    if tag == "binary":
        try:
            return base64.b64decode(text, validate=True).decode(errors="replace")
        except ValueError as error:
            problem = f"{brief(text)} is no base64 ({error}); encode it again"
            raise _at(node, source).error(problem) from error
    if tag != _OPEN and tag not in _TAGS:
        return text
    value = _scalar(text)
    if tag in _TAGS and type(value) not in _TAGS[tag]:
        problem = f"{text!r} is no !!{tag}; correct it, or remove the tag"
        raise _at(node, source).error(problem)
    if isinstance(value, float) and not math.isfinite(value):
        problem = f"JSON has no number {text}; quote it, or write another one"
        raise _at(node, source).error(problem)
    return value


def _at(node: Any, source: Path | None) -> Document:
    return Document({}, source, node.start_mark.line + 1)


@cache
def _loader() -> Any:
    """Return the parser class, which leaves the meaning of scalars open."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        def resolve(self, kind: Any, _value: Any, implicit: Any) -> str:
            return _OPEN if kind is yaml.ScalarNode and implicit[0] else f"{_YAML}str"

    return Loader


@cache
def _dumper() -> Any:
    """Return the printer class, which quotes what kubectl would read otherwise."""
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, _: Any) -> bool:
            return True

        def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
            tag = super().resolve(kind, value, implicit)
            text = kind is not yaml.ScalarNode or isinstance(_scalar(value), str)
            return tag if text or tag != f"{_YAML}str" or not implicit[0] else _OPEN

    def represent_text(dumper: Any, text: str) -> Any:
        style = "|" if "\n" in text else None
        return dumper.represent_scalar(f"{_YAML}str", text, style=style)

    Dumper.add_representer(str, represent_text)
    return Dumper
