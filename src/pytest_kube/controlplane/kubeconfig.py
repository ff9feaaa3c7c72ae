"""Kubeconfig files: one cluster, one user, certificates inline."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

from pytest_kube.client import load_kubeconfig, named

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
        ClusterError: The file has no such context, or none that is complete; the text
            lists what it has.
    """
    config = load_kubeconfig(source)
    chosen = named(config, "contexts", context, "context", source)
    config["contexts"] = [{"name": context, "context": chosen}]
    config["current-context"] = context
    for section, key in (("clusters", "cluster"), ("users", "user")):
        name = chosen.get(key, "")
        details = named(config, section, name, key, source)
        for file in _FILES & set(details):
            details[file] = str((source.parent / details[file]).absolute())
        config[section] = [{"name": name, key: details}]
    _write_private(target, config)
    return target


_FILES = {"certificate-authority", "client-certificate", "client-key", "tokenFile"}


def _write_private(path: Path, config: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(path, flags, 0o600), "w") as f:
        os.fchmod(f.fileno(), 0o600)  # it may have been there before
        json.dump(config, f, indent=1)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
