"""Keep the values of Secrets out of everything that is written down."""

from __future__ import annotations

from typing import Any

MASK = "REDACTED"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def redacted(obj: dict[str, Any]) -> dict[str, Any]:
    """Return *obj*; for a Secret, a copy that keeps the keys and loses the values."""
    if obj.get("kind") != "Secret":
        return obj
    masked = dict(obj)
    for section in ("data", "stringData"):
        if masked.get(section):
            masked[section] = dict.fromkeys(masked[section], MASK)
    metadata = dict(masked.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    if _LAST_APPLIED in annotations:
        # kubectl's copy of the whole object, values included.
        annotations[_LAST_APPLIED] = MASK
        metadata["annotations"] = annotations
        masked["metadata"] = metadata
    return masked
