"""Kubeconfig files: one cluster, one user, certificates inline."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

from pytest_kube.client import load_kubeconfig
from pytest_kube.errors import ClusterError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kube.controlplane.certs import KeyPair


def write(path: Path, *, server: str, ca: bytes, user: str, pair: KeyPair) -> Path:
    """Write a kubeconfig that only its owner can read, and return its path.

    It is JSON, which every YAML reader reads alike.
    """
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pytest-kube",
        "clusters": [
            {
                "name": "pytest-kube",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": _base64(ca),
                },
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _base64(pair.certificate),
                    "client-key-data": _base64(pair.key),
                },
            }
        ],
        "contexts": [
            {"name": "pytest-kube", "context": {"cluster": "pytest-kube", "user": user}}
        ],
    }
    _write_private(path, config)
    return path


def select(source: Path, context: str, target: Path) -> Path:
    """Copy a kubeconfig so that *context* is its current and only one.

    Raises:
        ClusterError: The file has no such context; the text lists those it has.
    """
    config = load_kubeconfig(source)
    chosen = [c for c in config.get("contexts") or () if c["name"] == context]
    if not chosen:
        known = ", ".join(c["name"] for c in config.get("contexts") or ()) or "none"
        raise ClusterError(
            f"kubeconfig {source}: no context {context!r}; there are: {known}"
        )
    for section, key in (("clusters", "cluster"), ("users", "user")):
        wanted = chosen[0]["context"][key]
        config[section] = [e for e in config[section] if e["name"] == wanted]
        for entry in config[section]:
            details = entry.get(key) or {}
            for name in _FILES & set(details):
                details[name] = str((source.parent / details[name]).absolute())
    _write_private(target, {**config, "contexts": chosen, "current-context": context})
    return target


_FILES = {"certificate-authority", "client-certificate", "client-key", "tokenFile"}


def _write_private(path: Path, config: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(path, flags, 0o600), "w") as f:
        json.dump(config, f, indent=1)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
