"""What differs between two versions of an object, path by path. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

LEFT_OUT = {"metadata.managedFields", "metadata.resourceVersion"}
"""Every write changes them, and they say nothing that is not said elsewhere."""

LONGEST = 60
"""Characters of a value that are shown."""

_ABSENT = object()
_IDENTIFYING = ("name", "type")
_PLAIN = re.compile(r"[A-Za-z_][\w-]*")


def differences(
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    *,
    hidden: Collection[str] = (),
) -> list[str]:
    """Say what differs, one line for each path: ``spec.replicas: 3 -> 5``.

    Items of lists are told apart by their name or type where all have one, else by
    their place.

    Args:
        before: The older version, or ``None`` when there was none.
        after: The newer version, or ``None`` when there is none.
        hidden: Paths below which no values are shown.
    """
    return list(_compared("", before or {}, after or {}, hidden))


def _compared(
    path: str, before: Any, after: Any, hidden: Collection[str]
) -> Iterator[str]:
    if before == after or path in LEFT_OUT:
        return
    one, other = _children(before, after)
    if path in hidden:
        yield f"{path}: changed (values are not shown)"
    elif one or other:
        # In the order of the newer version; what is gone comes last.
        for key in {**other, **one}:
            yield from _compared(
                path + key if path else key.removeprefix("."),
                one.get(key, _ABSENT),
                other.get(key, _ABSENT),
                hidden,
            )
    else:
        yield f"{path}: {_text(before)} -> {_text(after)}"


def _children(before: Any, after: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what can be compared one by one, by how its path goes on."""
    present = [value for value in (before, after) if value is not _ABSENT]
    if all(isinstance(value, Mapping) for value in present):
        one, other = (
            {} if value is _ABSENT else {_step(k): v for k, v in value.items()}
            for value in (before, after)
        )
        return one, other
    if len(present) == len((before, after)) and all(
        isinstance(value, list) for value in present
    ):
        key = next((k for k in _IDENTIFYING if _identifies(k, before, after)), None)
        one, other = (
            {f"[{item[key] if key else i}]": item for i, item in enumerate(value)}
            for value in (before, after)
        )
        return one, other
    return {}, {}


def _identifies(key: str, *lists: list[Any]) -> bool:
    for items in lists:
        if not all(
            isinstance(i, Mapping) and isinstance(i.get(key), str) for i in items
        ):
            return False
        if len({item[key] for item in items}) != len(items):
            return False
    return True


def _step(key: str) -> str:
    return f".{key}" if _PLAIN.fullmatch(key) else f"[{json.dumps(key)}]"


def _text(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
