"""What a status reports, and how to say that it reports something else.

What that means for an object of some kind is the concern of `readiness`. No I/O, no
clock; nothing here raises, whatever an object looks like.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from pytest_kube.fieldpath import brief

Object = Mapping[str, Any]

ABSENT = "there is no such object"
NO_STATUS = "no status yet"

_SHOWN = 4


def at(value: Any, *names: str) -> Any:
    """Return what the names lead to; ``None`` when there is nothing."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def met(
    obj: Object | None, type_: str, status: str = "True", reason: str | None = None
) -> bool:
    """Tell whether a status condition is reported so, on the latest generation."""
    found = reported(obj, type_)
    return (
        bool(found)
        and _alike(found["status"], status)
        and (reason is None or found.get("reason") == reason)
        and not behind(obj, found)
    )


def unmet(
    obj: Object | None, type_: str, status: str = "True", reason: str | None = None
) -> str:
    """Say why a status condition is not met; nothing when it is.

    Example:
        >>> ready = {"type": "Ready", "status": "False", "reason": "QuotaExceeded"}
        >>> unmet({"status": {"conditions": [ready]}}, "Ready")
        'Ready=False, reason QuotaExceeded'
    """
    if met(obj, type_, status, reason):
        return ""
    if not at(obj, "status"):
        return ABSENT if obj is None else NO_STATUS
    if found := reported(obj, type_):
        text = f"{brief(found['type'])}={brief(found['status'])}"
        older = behind(obj, found)
        if not _alike(found["status"], status):
            return f"{text}{f', for {older}' if older else ''}{said(found)}"
        if older:
            return f"{text}, but for {older}"
        return f"{text}, but its reason is {brief(found.get('reason'))}"
    return _unreported(obj, type_)


def out_of_phase(obj: Object | None, *phases: str) -> str:
    """Say which phase the object is in; nothing when it is one of those."""
    if obj is None:
        return ABSENT
    if (status := at(obj, "status")) is None or status == {}:
        return NO_STATUS
    if (found := at(status, "phase")) in phases:
        return ""
    return f"phase is {brief(found)}{said(status)}" if found else "no phase yet"


def unobserved(obj: Object | None) -> str:
    """Say why the status is not about the latest spec; nothing when it is.

    It is by ``status.observedGeneration``, or else by that of all the conditions that
    have one. Without any, nobody knows.
    """
    if obj is None:
        return ABSENT
    generations = [_whole(at(obj, "status", "observedGeneration"))]
    if generations == [None]:
        generations = [_whole(e.get("observedGeneration")) for e in _conditions(obj)]
    known = [generation for generation in generations if generation is not None]
    if not known:
        return "no observedGeneration is reported" if at(obj, "status") else NO_STATUS
    wanted = count(obj, "metadata", "generation")
    older = min(known) < wanted
    return f"the status is about generation {min(known)} of {wanted}" if older else ""


def being_deleted(obj: Object | None) -> str:
    """Say that the object is still there, and what holds its deletion up."""
    if obj is None:
        return ""
    if not at(obj, "metadata", "deletionTimestamp"):
        return "it still exists"
    finalizers = at(obj, "metadata", "finalizers")
    left = finalizers if isinstance(finalizers, list) and finalizers else ["none"]
    return f"it is being deleted, finalizers left: {', '.join(map(brief, left))}"


def _unreported(obj: Object | None, type_: str) -> str:
    """Say which conditions are reported instead, the one that was meant first."""
    entries = [
        entry for entry in _conditions(obj) if isinstance(entry.get("type"), str)
    ]
    if not entries:
        return "no conditions yet"
    folded = {entry["type"].casefold(): brief(entry["type"]) for entry in entries}
    if near := difflib.get_close_matches(type_.casefold(), folded, n=1):
        return f"no condition {type_}; did you mean {folded[near[0]]}?"
    shown = [f"{brief(e['type'])}={brief(e.get('status'))}" for e in entries[:_SHOWN]]
    more = ", …" if len(entries) > _SHOWN else ""
    are = "there are" if len(entries) > 1 else "there is"
    return f"no condition {type_}; {are} {', '.join(shown)}{more}"


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def count(obj: Any, *names: str, default: int = 0) -> int:
    """Return the whole number that the names lead to, or else the default."""
    value = _whole(at(obj, *names))
    return default if value is None else value


def _alike(one: str, other: str) -> bool:
    # As kubectl compares: one letter folds to one letter.
    return len(one) == len(other) and one.casefold() == other.casefold()


def _conditions(obj: Any) -> list[Object]:
    found = at(obj, "status", "conditions")
    if at(obj, "apiVersion") == "autoscaling/v1" and found is None:
        found = _in_annotation(obj)
    return (
        [e for e in found if isinstance(e, Mapping)] if isinstance(found, list) else []
    )


def _in_annotation(obj: Any) -> Any:
    """Return the conditions of an old autoscaler, which have no field yet."""
    name = "autoscaling.alpha.kubernetes.io/conditions"
    try:
        return json.loads(at(obj, "metadata", "annotations", name))
    except (TypeError, ValueError, RecursionError):
        return None


def reported(obj: Any, type_: str) -> Object:
    """Return the status condition of that type; empty when it is not reported."""
    for entry in _conditions(obj):
        if (
            isinstance(entry.get("type"), str)
            and isinstance(entry.get("status"), str)
            and _alike(entry["type"], type_)
        ):
            return entry
    return {}


def behind(obj: Any, entry: Object) -> str:
    """Say which older generation that is about, if it is known."""
    generation = count(obj, "metadata", "generation")
    status = count(obj, "status", "observedGeneration", default=generation)
    about = count(entry, "observedGeneration", default=status)
    return f"generation {about} of {generation}" if about < generation else ""


def said(entry: Any) -> str:
    """Return the reason and the message of a condition, to be put behind it."""
    reason, message = at(entry, "reason"), at(entry, "message")
    text = f", reason {brief(reason, 40)}" if reason else ""
    return f"{text}: {brief(message, 100)}" if message else text
