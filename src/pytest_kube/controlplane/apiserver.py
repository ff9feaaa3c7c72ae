"""kube-apiserver: the flags of a server for one machine and one test run."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kube.profiles import Profile

AUDIT_POLICY = Path(__file__).with_name("audit-policy.yaml")

SERVED = ("feature-gates", "runtime-config")
"""The flags that decide what is served."""

NODE_ADDRESS = "pytest-kube-replay"
"""The type of the one address of a node at which a server with a kubelet asks it."""


def recorded(*, policy: PurePath, audit: PurePath) -> Mapping[str, str]:
    """Return what rollback and history need of a server, whoever starts it.

    Args:
        policy: The audit policy, where the server finds it.
        audit: The audit log; rotated files come to stand beside it.
    """
    return {
        # Every stored object is plain JSON, readable without Kubernetes' protobufs.
        "storage-media-type": "application/json",
        # Old history goes when no mark needs it: state/rollback.py.
        "etcd-compaction-interval": "0",
        "audit-policy-file": str(policy),
        "audit-log-path": str(audit),
        # Costs no more than batches do; no line is lost, and none is late.
        "audit-log-mode": "blocking",
        # At most 200 MB, however long the session.
        "audit-log-maxsize": "50",
        "audit-log-maxbackup": "3",
    }


def flags(
    *, pki: Path, audit: Path, port: int, etcd_port: int, service_accounts: bool
) -> Mapping[str, str]:
    """Return the flags.

    Args:
        pki: The folder with certificates and keys.
        audit: The audit log; rotated files come to stand beside it.
        port: Where to listen, on the loopback interface.
        etcd_port: Where etcd listens.
        service_accounts: Whether a controller-manager makes the ServiceAccounts that
            pods need; without one, pods are admitted without.
    """
    disabled = (
        {} if service_accounts else {"disable-admission-plugins": "ServiceAccount"}
    )
    return {
        "etcd-servers": f"https://127.0.0.1:{etcd_port}",
        "etcd-cafile": str(pki / "ca.crt"),
        "etcd-certfile": str(pki / "etcd-client.crt"),
        "etcd-keyfile": str(pki / "etcd-client.key"),
        "bind-address": "127.0.0.1",
        "advertise-address": "127.0.0.1",
        "secure-port": str(port),
        # A loopback address can be no endpoint of the service "kubernetes".
        "endpoint-reconciler-type": "none",
        "tls-cert-file": str(pki / "kube-apiserver.crt"),
        "tls-private-key-file": str(pki / "kube-apiserver.key"),
        "client-ca-file": str(pki / "ca.crt"),
        "authorization-mode": "Node,RBAC",
        "service-cluster-ip-range": "10.96.0.0/16",
        "allow-privileged": "true",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": str(pki / "service-accounts.pub"),
        "service-account-signing-key-file": str(pki / "service-accounts.key"),
        **recorded(policy=AUDIT_POLICY, audit=audit),
        **disabled,
    }


def served(profile: Profile) -> dict[str, str]:
    """Return the flags that decide what a server serves, as a profile has them."""
    further = profile.extra_args.get("kube-apiserver", {})
    flags = {
        **gates(profile.feature_gates),
        "runtime-config": _pairs(profile.runtime_config),
        **{name: further[name] for name in SERVED if name in further},
    }
    return {name: value for name, value in flags.items() if value}


def gates(values: Mapping[str, bool]) -> dict[str, str]:
    """Return the flag for feature gates, if there are any."""
    pairs = _pairs({name: str(value).lower() for name, value in values.items()})
    return {"feature-gates": pairs} if pairs else {}


def _pairs(values: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in values.items())


def kubelet_flags(pki: Path) -> Mapping[str, str]:
    """Return what a server needs that has a kubelet, and is its one client."""
    return {
        "kubelet-certificate-authority": str(pki / "kubelet-ca.crt"),
        "kubelet-client-certificate": str(pki / "kubelet-client.crt"),
        "kubelet-client-key": str(pki / "kubelet-client.key"),
        # The others lead to what is gone, or to strangers.
        "kubelet-preferred-address-types": NODE_ADDRESS,
    }
