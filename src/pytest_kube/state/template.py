"""The state of a fresh cluster, kept so that the next one need not make it again.

An API server spends two seconds on writing roles, namespaces and priority levels into
an empty etcd, controllers write for another one, and CRDs take theirs. Loaded before
the API server starts, all of it takes 10 ms.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_kube.state.etcd import Entry

FORMAT = 3
"""Raised when what a template holds changes; older ones are then not found."""

KEPT = 20
"""How many templates stay, those used last; each is half a megabyte."""

DAY = 24 * 3600.0
VALID = (-DAY, 300 * DAY)
"""Seconds before and after its making that a template can be used: its certificates
are valid for a little longer. A clock that was set back ends it, too."""

LEFT_OUT = (
    "/registry/leases/",  # held by processes that are gone
    "/registry/events/",  # not state
    "/registry/peerserverleases/",  # names ports
    "/registry/masterleases/",  # names ports
)


@dataclass(frozen=True)
class Content:
    """What a template holds.

    Attributes:
        pki: File name to PEM: the certificates that the state was made with. Tokens
            and copies of the authority in the state are worth nothing without them.
        values: What etcd stored, by key.
    """

    pki: Mapping[str, bytes]
    values: Mapping[str, bytes]

    @classmethod
    def of(cls, pki: Mapping[str, bytes], entries: Iterable[Entry]) -> Content:
        """Take what is worth keeping of the state of a cluster."""
        kept = {e.key: e.value for e in entries if not e.key.startswith(LEFT_OUT)}
        return cls(pki, kept)


@dataclass(frozen=True)
class Template:
    """A template file; it need not exist yet.

    Attributes:
        path: The file.
    """

    path: Path

    @classmethod
    def of(cls, folder: Path, *described: Any) -> Template:
        """Return the template in *folder* for clusters that are *described* alike."""
        digest = hashlib.sha256(repr((FORMAT, described)).encode()).hexdigest()
        return cls(folder / f"{digest[:24]}.json")

    def read(self) -> Content | None:
        """Return the content, or ``None`` when there is none that can be used.

        A file that is damaged, or too old, is removed.
        """
        try:
            stored = json.loads(self.path.read_bytes())
            body = stored["body"]
            made, pki, values = body["made"], body["pki"], body["values"]
            usable = stored["sha256"] == _checksum(body) and _is_valid(made)
            content = Content(_decoded(pki), _decoded(values))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            usable = False
        if usable:
            with contextlib.suppress(OSError):
                os.utime(self.path)  # those that are used longest ago go first
            return content
        self.discard()
        return None

    def save(self, content: Content) -> None:
        """Keep *content*, for this user only. That it cannot be kept is no error."""
        body = {
            "made": time.time(),
            "pki": _encoded(content.pki),
            "values": _encoded(content.values),
        }
        stored = json.dumps({"sha256": _checksum(body), "body": body})
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self.path.with_suffix(f".{os.getpid()}.new")
            new.unlink(missing_ok=True)  # left by a process of that id that was killed
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            with os.fdopen(os.open(new, flags, 0o600), "w") as file:
                file.write(stored)
            new.replace(self.path)
            kept = sorted(self.path.parent.glob("*.json"), key=_last_used)
            for old in kept[:-KEPT]:
                old.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def _last_used(path: Path) -> float:
    return path.stat().st_mtime


def _is_valid(made: float) -> bool:
    earliest, latest = (made + offset for offset in VALID)
    return earliest < time.time() < latest


def _checksum(body: Any) -> str:
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def _encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode("ascii") for key, value in data.items()}


def _decoded(data: Mapping[str, str]) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in data.items()}
