"""kube-controller-manager: all its controllers, at the speed of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def flags(*, kubeconfig: Path, pki: Path, port: int) -> Mapping[str, str]:
    """Return the flags; it is the only one, so it elects no leader."""
    return {
        "kubeconfig": str(kubeconfig),
        "bind-address": "127.0.0.1",
        "secure-port": str(port),
        "tls-cert-file": str(pki / "kube-controller-manager.crt"),
        "tls-private-key-file": str(pki / "kube-controller-manager.key"),
        "authorization-always-allow-paths": "/healthz,/readyz,/livez,/metrics",
        "leader-elect": "false",
        "root-ca-file": str(pki / "ca.crt"),
        "service-account-private-key-file": str(pki / "service-accounts.key"),
        # The default of 20 requests per second makes tests wait for nothing.
        "kube-api-qps": "5000",
        "kube-api-burst": "10000",
        # Simulated nodes renew their leases every 50 s.
        "node-monitor-period": "25s",
        "node-monitor-grace-period": "200s",
    }
