"""Kubeconfig files: one cluster, one user, certificates inline."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

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
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
    ) as f:
        json.dump(config, f, indent=1)
    return path


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
