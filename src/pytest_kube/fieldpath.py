"""Plain paths of names and indexes into an object: those of `conditions.field`.

kubectl's own, richer language is in `kubectl_jsonpath`. No I/O; nothing of ours is
imported.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Part = str | int

__tracebackhide__ = True  # what a user wrote is wrong, or raised

_NAME = re.compile(r"((?:\\.|[^\s\\.,=<>!?*@$'\"()\[\]{}])+)")
_SELECTOR = re.compile(
    r"""\s*(?:'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)"|(-?\d+))\s*(?![^\s\]])"""
)
_SHOWN = 60
_NAMES_SHOWN = 5


def mistake(what: str, text: str, place: int, expected: str) -> ValueError:
    """Return the error that points to *place* in the text, where *expected* is not."""
    return ValueError(f"{what}: expected {expected}\n  {text}\n  {' ' * place}^")


def parse(text: str) -> list[Part]:
    """Return the names and indexes of a path like ``spec.containers[0].image``.

    Raises:
        ValueError: It is not written like that; the text points to the place.
    """
    parts: list[Part] = []
    place = 0
    while place < len(text):
        dot = text[place] == "."
        if match := _NAME.match(text, place + dot) if dot or not place else None:
            parts.append(_unescaped(match[1]))
        elif text[place + dot : place + dot + 1] == "[":
            start = place + dot + 1
            match = _SELECTOR.match(text, start)
            if match is None:
                raise mistake("field path", text, start, 'an index or a "key"')
            if match.end() >= len(text):
                raise mistake("field path", text, len(text), "]")
            quoted = _unescaped(match[1] or match[2] or "")
            parts.append(quoted if match[3] is None else int(match[3]))
            place = match.end() + 1
            continue
        else:
            break
        place = match.end()
    if not parts or place < len(text):
        end = ", [index] or the end" if parts else " or [index]"
        raise mistake("field path", text, place, f".name{end}")
    return parts


def find(value: Any, parts: Iterable[Part]) -> Any:
    """Return what the path leads to; ``None`` when that is absent or null."""
    for part in parts:
        value = _part(value, part)
    return value


def why_missing(obj: Any, parts: Sequence[Part]) -> str:
    """Say where a path that leads to nothing stops, and what is there instead.

    Example:
        >>> why_missing({"spec": {"size": 1}}, ["spec", "sise"])
        'spec has no sise; it has size'
    """
    for reached, part in enumerate(parts):
        inner = _part(obj, part)
        if inner is None:
            return _stopped(obj, part, written(parts[:reached]))
        obj = inner
    return ""


def written(parts: Iterable[Part]) -> str:
    """Return the path as one writes it."""
    text = "".join(
        f"[{json.dumps(part, ensure_ascii=False)}]"
        if isinstance(part, int) or not _NAME.fullmatch(part)
        else f".{part}"
        for part in parts
    )
    return text.removeprefix(".")


def nearest(name: str, names: Iterable[Any], cutoff: float = 0.0) -> list[str]:
    """Return the names, the most similar first, without those below the cutoff."""

    def likeness(other: str) -> float:
        return difflib.SequenceMatcher(
            None, name.casefold(), other.casefold(), autojunk=False
        ).ratio()

    # A map of thousands of names is not worth seconds.
    known = [str(other)[:100] for other, _ in zip(names, range(1000), strict=False)]
    rated = sorted(((likeness(other), other) for other in known), key=lambda r: -r[0])
    return [other for rating, other in rated if rating >= cutoff]


def brief(value: Any, limit: int = _SHOWN) -> str:
    """Return text or JSON data on one line, shortened."""
    text = value if isinstance(value, str) and value.strip() else _json(value, 3)
    text = " ".join(text[: 4 * limit].split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _part(value: Any, part: Part) -> Any:
    if isinstance(part, str):
        return value.get(part) if isinstance(value, Mapping) else None
    inside = isinstance(value, list) and -len(value) <= part < len(value)
    return value[part] if inside else None


def _stopped(value: Any, part: Part, path: str) -> str:
    if path == "" and part == "status":
        return "no status yet"
    if isinstance(value, Mapping) and part in value:
        return f"{written([path, part] if path else [part])} is null"
    path = path or "the object"
    if isinstance(value, Mapping) and isinstance(part, str):
        if not value:
            return f"{path} is empty"
        names = nearest(part, value)
        more = ", …" if len(names) > _NAMES_SHOWN else ""
        there = ", ".join(brief(name, 40) for name in names[:_NAMES_SHOWN])
        return f"{path} has no {brief(part, 40)}; it has {there}{more}"
    if isinstance(value, list) and isinstance(part, int):
        return f"{path} has {len(value)} items, and none at [{part}]"
    kind = "map" if isinstance(value, Mapping) else "list"
    shown = f"a {kind}" if isinstance(value, Mapping | list) else brief(value)
    return f"{path} is {shown}, which has no {written([part])}"


def _json(value: Any, depth: int) -> str:
    if isinstance(value, Mapping | list) and value and not depth:
        return "{…}" if isinstance(value, Mapping) else "[…]"
    if isinstance(value, Mapping):
        some = list(zip(value.items(), range(_NAMES_SHOWN), strict=False))
        inner = [f"{_json(str(k), 0)}: {_json(v, depth - 1)}" for (k, v), _ in some]
        inner += ["…"] * (len(value) > len(some))
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, list):
        inner = [_json(item, depth - 1) for item in value[:_NAMES_SHOWN]]
        inner += ["…"] * (len(value) > len(inner))
        return f"[{', '.join(inner)}]"
    if isinstance(value, str):
        value = value[: 4 * _SHOWN]
    return json.dumps(value, ensure_ascii=False, default=repr)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
