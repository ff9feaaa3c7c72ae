"""What SECURITY.md promises of kind: its ports are published on this machine only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_kube.cluster import Cluster


@pytest.mark.timeout(300)
def test_ports_of_the_nodes_are_published_on_loopback(
    kind_cluster: Cluster, docker_client: Any
) -> None:
    """Those of the API server and of etcd, and no other."""
    nodes = docker_client.containers.list(filters={"label": "io.x-k8s.kind.cluster"})
    published = [
        [binding for bindings in node.ports.values() for binding in bindings or ()]
        for node in nodes
    ]
    port = kind_cluster.client.server.rpartition(":")[2]
    (ours,) = [b for b in published if port in [binding["HostPort"] for binding in b]]

    assert {binding["HostIp"] for binding in ours} == {"127.0.0.1"}
    assert len(ours) == 2
