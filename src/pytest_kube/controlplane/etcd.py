"""etcd: one member, no peers, reachable with a client certificate only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TUNING = {
    # Nobody needs the data after a power cut.
    "unsafe-no-fsync": "true",
    # A single member elects itself: in 40 ms instead of 600.
    "heartbeat-interval": "10",
    "election-timeout": "50",
    "quota-backend-bytes": str(8 * 1024**3),
    "max-request-bytes": str(64 * 1024**2),
    "max-txn-ops": "100000",
}
"""What rollback needs of an etcd, and what makes one fast; whoever starts it."""


def flags(*, data: Path, pki: Path, port: int, peer_port: int) -> Mapping[str, str]:
    """Return the flags, tuned for a single member whose data need not last."""
    client, peer = f"https://127.0.0.1:{port}", f"https://127.0.0.1:{peer_port}"
    return {
        "name": "default",
        "data-dir": str(data),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "cert-file": str(pki / "etcd.crt"),
        "key-file": str(pki / "etcd.key"),
        "trusted-ca-file": str(pki / "ca.crt"),
        "client-cert-auth": "true",
        "peer-cert-file": str(pki / "etcd.crt"),
        "peer-key-file": str(pki / "etcd.key"),
        "peer-trusted-ca-file": str(pki / "ca.crt"),
        "peer-client-cert-auth": "true",
        "log-level": "warn",
        **TUNING,
    }
