"""The state of a fresh cluster, kept so that the next one need not make it again.

An API server spends two seconds on writing roles, namespaces and priority levels into
an empty etcd. Loaded before it starts, they take 10 ms.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kube.state.etcd import Entry

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kube.state.etcd import Etcd

FORMAT = 2
"""Raised when what a template holds changes; older ones are then not found."""

KEPT = 20
"""How many templates stay; each is a quarter of a megabyte."""

LEFT_OUT = (
    "/registry/leases/",  # held by processes that are gone
    "/registry/events/",  # not state
    "/registry/peerserverleases/",  # names ports
    "/registry/masterleases/",  # names ports
    "/registry/configmaps/kube-system/extension-apiserver-authentication",  # names a CA
)
CA_COPY = "/kube-root-ca.crt"
"""Every namespace's copy of the CA ends so; each cluster has a new one."""


@dataclass(frozen=True)
class Template:
    """A template file; it need not exist yet.

    Attributes:
        path: The file.
    """

    path: Path

    @classmethod
    def of(cls, folder: Path, *content: Any) -> Template:
        """Return the template in *folder* for clusters that *content* describes."""
        digest = hashlib.sha256(repr((FORMAT, content)).encode()).hexdigest()
        return cls(folder / f"{digest[:24]}.json")

    def load(self, etcd: Etcd) -> bool:
        """Put the template into an empty etcd; return whether there was one.

        A file that is damaged counts as none and is removed.
        """
        try:
            stored = json.loads(self.path.read_bytes())
            pairs = stored["entries"]
            intact = stored["sha256"] == _checksum(pairs)
            entries = [Entry(key, base64.b64decode(value)) for key, value in pairs]
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            self.discard()
            return False
        etcd.put(entries)
        return True

    def save(self, etcd: Etcd) -> None:
        """Keep what etcd holds now. That it cannot be kept is no error."""
        pairs = [
            [entry.key, base64.b64encode(entry.value).decode("ascii")]
            for entry in etcd.entries("/registry/")
            if not entry.key.startswith(LEFT_OUT) and not entry.key.endswith(CA_COPY)
        ]
        stored = json.dumps({"sha256": _checksum(pairs), "entries": pairs})
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = self.path.with_suffix(f".{os.getpid()}.new")
            new.write_text(stored, "utf-8")
            new.replace(self.path)
            kept = sorted(self.path.parent.glob("*.json"), key=_last_written)
            for old in kept[:-KEPT]:
                old.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def _last_written(path: Path) -> float:
    return path.stat().st_mtime


def _checksum(pairs: list[list[str]]) -> str:
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
