"""What differs between two versions of an object, path by path. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

LEFT_OUT = {"metadata.managedFields", "metadata.resourceVersion"}
"""Every write changes them, and they say nothing that is not said elsewhere."""

SECRETS = ("data", "stringData", "metadata.annotations")
"""Paths of a Secret whose values are not for everybody."""

NOISE = {
    "creationTimestamp",
    "lastHeartbeatTime",
    "lastProbeTime",
    "lastTransitionTime",
    "lastUpdateTime",
    "managedFields",
    "resourceVersion",
    "uid",
}
"""Of metadata and conditions: it differs from one object to the next anyway."""

COMPARED = 20
"""Differences that a failed assertion shows."""

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
    found = _compared("", before or {}, after or {}, {*LEFT_OUT}, hidden)
    return [line.format("->") for line in found]


def comparison(left: object, right: object) -> list[str]:
    """Explain a failed ``left == right`` of objects, for pytest.

    What the API server sets by itself is left out, unless nothing else differs.
    """
    lines = [f"{_title(left)} == {_title(right)}"]
    if not isinstance(left, Mapping) or not isinstance(right, Mapping):
        return [*lines, "one of them is no object"]
    hidden = SECRETS if "Secret" in {left.get("kind"), right.get("kind")} else ()
    found = list(_compared("", _quiet(left), _quiet(right), set(), hidden))
    noise = not found
    found = found or list(_compared("", left, right, set(), hidden))
    lines += [line.format("!=") for line in found[:COMPARED]]
    if len(found) > COMPARED:
        lines.append(f"and {len(found) - COMPARED} more")
    if noise:
        lines.append("(nothing differs but what the API server sets by itself)")
    return lines


def _quiet(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without what differs from one to the next anyway."""
    metadata, status = obj.get("metadata"), obj.get("status")
    quiet = dict(obj)
    if isinstance(metadata, Mapping):
        quiet["metadata"] = {k: v for k, v in metadata.items() if k not in NOISE}
    reported = status.get("conditions") if isinstance(status, Mapping) else None
    if isinstance(status, Mapping) and isinstance(reported, list):
        conditions = [
            {k: v for k, v in c.items() if k not in NOISE}
            if isinstance(c, Mapping)
            else c
            for c in reported
        ]
        quiet["status"] = {**status, "conditions": conditions}
    return quiet


def _title(value: object) -> str:
    if not isinstance(value, Mapping) or not isinstance(value.get("metadata"), Mapping):
        return f"<{type(value).__name__}>" if value is not None else "None"
    return f"{value.get('kind', 'object')} {value['metadata'].get('name')}"


@dataclass(frozen=True)
class _Difference:
    path: str
    before: str = ""
    after: str = ""

    def format(self, sign: str) -> str:
        if not self.before:
            return f"{self.path}: changed (values are not shown)"
        return f"{self.path}: {self.before} {sign} {self.after}"


def _compared(
    path: str, before: Any, after: Any, left_out: set[str], hidden: Collection[str]
) -> Iterator[_Difference]:
    if before == after or path in left_out:
        return
    one, other = _children(before, after)
    if path in hidden:
        yield _Difference(path)
    elif one or other:
        # In the order of the newer version; what is gone comes last.
        for key in {**other, **one}:
            yield from _compared(
                path + key if path else key.removeprefix("."),
                one.get(key, _ABSENT),
                other.get(key, _ABSENT),
                left_out,
                hidden,
            )
    else:
        yield _Difference(path, _text(before), _text(after))


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
