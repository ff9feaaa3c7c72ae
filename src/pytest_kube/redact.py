"""Keep the values of Secrets out of everything that is written down."""

from __future__ import annotations

import base64
import json
from typing import Any

MASK = "REDACTED"
ENCODED = base64.b64encode(MASK.encode()).decode("ascii")
"""In ``data``, where an API server wants to decode what stands there."""

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def redacted(obj: dict[str, Any]) -> dict[str, Any]:
    """Return *obj*; for a Secret, a copy that keeps the keys and loses the values.

    What is left is still a Secret that an API server takes.
    """
    if obj.get("kind") != "Secret":
        return obj
    masked = _masked(obj)
    metadata = masked.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("annotations"), dict):
        annotations = {
            name: _copy(text) if _is_copy(name, text) else text
            for name, text in metadata["annotations"].items()
        }
        masked["metadata"] = {**metadata, "annotations": annotations}
    return masked


def _masked(secret: dict[str, Any]) -> dict[str, Any]:
    masked = dict(secret)
    for section, mask in (("data", ENCODED), ("stringData", MASK)):
        if isinstance(masked.get(section), dict):
            masked[section] = dict.fromkeys(masked[section], mask)
        elif masked.get(section):
            masked[section] = None
    return masked


def _is_copy(name: str, annotation: Any) -> bool:
    """Tell whether an annotation may hold the whole object, as kubectl's and kopf's."""
    return name == _LAST_APPLIED or str(annotation).lstrip().startswith("{")


def _copy(annotation: Any) -> str:
    try:
        return json.dumps(redacted({**json.loads(annotation), "kind": "Secret"}))
    except (ValueError, TypeError, RecursionError):
        return MASK
