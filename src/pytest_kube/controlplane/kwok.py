"""kwok: the simulated nodes of a cluster, and what runs on them."""

from __future__ import annotations

import datetime as dt
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_kube.profiles import NodeGroup

STAGES = Path(__file__).with_name("stages.yaml")
CAPACITY = {"cpu": "32", "memory": "256Gi", "pods": "1000"}


def flags(*, kubeconfig: Path, pki: Path, port: int) -> Mapping[str, str]:
    """Return the flags of kwok's controller, for all nodes of the cluster."""
    return {
        "kubeconfig": str(kubeconfig),
        "config": str(STAGES),
        "manage-all-nodes": "true",
        "node-lease-duration-seconds": "200",
        "node-ip": "127.0.0.1",
        "node-port": str(port),
        "server-address": f"127.0.0.1:{port}",
        "tls-cert-file": str(pki / "kwok.crt"),
        "tls-private-key-file": str(pki / "kwok.key"),
    }


def nodes(groups: tuple[NodeGroup, ...], version: str) -> Iterator[dict[str, Any]]:
    """Make the Node objects of a profile as etcd stores them: Ready, and for pods.

    Made by the API, each would be tainted as not ready until a controller finds out.
    """
    for group in groups:
        for i in range(group.count):
            yield _node(group, f"{group.name}-{i}", version)


def _node(group: NodeGroup, name: str, version: str) -> dict[str, Any]:
    resources = {**CAPACITY, **group.capacity}
    healthy = {
        "Ready": ("True", "KubeletReady"),
        "MemoryPressure": ("False", "KubeletHasSufficientMemory"),
        "DiskPressure": ("False", "KubeletHasNoDiskPressure"),
        "PIDPressure": ("False", "KubeletHasSufficientPID"),
        "NetworkUnavailable": ("False", "RouteCreated"),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                # A controller would add these two, a second later.
                "beta.kubernetes.io/os": "linux",
                "beta.kubernetes.io/arch": "amd64",
                **group.labels,
            },
        },
        "spec": {
            "providerID": f"kwok://{name}",
            "taints": [dict(taint) for taint in group.taints],
        },
        "status": {
            "phase": "Running",
            "capacity": resources,
            "allocatable": resources,
            "conditions": [
                {"type": type_, "status": status, "reason": reason}
                for type_, (status, reason) in healthy.items()
            ],
            "addresses": [
                {"type": "Hostname", "address": name},
                {"type": "InternalIP", "address": "127.0.0.1"},
            ],
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "kubeletVersion": f"v{version}",
                "kubeProxyVersion": "",
                "kernelVersion": "",
                "osImage": "",
                "containerRuntimeVersion": "",
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
            },
        },
    }
