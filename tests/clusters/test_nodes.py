"""What simulated nodes do with pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kube import deleted, field, phase, ready

if TYPE_CHECKING:
    from pytest_kube.kube import Kube


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "none"}], **spec},
    }


def deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "none"}]},
            },
        },
    }


def test_nodes_of_the_profile_are_ready(on_kwok: Kube) -> None:
    """Names, number, capacity, labels and taints are as the profile says."""
    nodes = {node.name: node for node in on_kwok.list("nodes")}

    assert sorted(nodes) == ["gpu-0", "node-0", "node-1"]
    assert all(ready(node) for node in nodes.values())
    assert nodes["gpu-0"]["status"]["capacity"]["example.com/gpu"] == "2"
    assert nodes["gpu-0"]["metadata"]["labels"]["tier"] == "gpu"
    assert nodes["gpu-0"]["spec"]["taints"] == [
        {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    ]
    assert "taints" not in nodes["node-0"]["spec"]


def test_pod_runs_on_a_node_that_it_tolerates(on_kwok: Kube) -> None:
    """The scheduler is real."""
    on_kwok.apply(pod("plain"))
    on_kwok.apply(
        pod(
            "gpu",
            nodeSelector={"tier": "gpu"},
            tolerations=[{"key": "gpu", "operator": "Exists"}],
        )
    )

    plain = on_kwok.wait_for("pod/plain", phase("Running"))
    gpu = on_kwok.wait_for("pod/gpu", ready)

    assert plain["spec"]["nodeName"].startswith("node-")
    assert gpu["spec"]["nodeName"] == "gpu-0"
    assert gpu["status"]["podIP"]


def test_deployment_becomes_available_and_scales(on_kwok: Kube) -> None:
    """The controllers are real."""
    on_kwok.apply(deployment("web", 3))
    on_kwok.wait_for("deployment/web", "condition=Available")

    on_kwok.patch("deployment/web", {"spec": {"replicas": 1}})

    on_kwok.wait_for("deploy/web", field("status.replicas", 1))
    assert len(on_kwok.list("pods", labels={"app": "web"})) >= 1


def test_job_completes(on_kwok: Kube) -> None:
    """Pods of a Job do their work at once."""
    on_kwok.apply(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "work"},
            "spec": {
                "completions": 2,
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [{"name": "main", "image": "none"}],
                    }
                },
            },
        }
    )

    job = on_kwok.wait_for("job/work", "condition=Complete")

    assert job["status"]["succeeded"] == 2


def test_pod_with_a_finalizer_stays_until_it_is_removed(on_kwok: Kube) -> None:
    """Simulated nodes respect finalizers as real ones do."""
    kept = pod("kept")
    kept["metadata"]["finalizers"] = ["example.com/keep"]
    on_kwok.apply(kept)
    on_kwok.wait_for("pod/kept", phase("Running"))
    on_kwok.delete("pod/kept", wait=False)
    on_kwok.wait_for("pod/kept", field("metadata.deletionTimestamp"))

    on_kwok.patch("pod/kept", {"metadata": {"finalizers": None}})

    on_kwok.wait_for("pod/kept", deleted)


def test_node_that_a_test_creates_becomes_ready(on_kwok: Kube) -> None:
    """Tests can add nodes of their own."""
    on_kwok.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "extra"}})

    on_kwok.wait_for("node/extra", ready)


def test_owned_objects_go_with_their_owner(on_kwok: Kube) -> None:
    """Garbage collection is real."""
    on_kwok.apply(deployment("web", 1))
    on_kwok.wait_for("deployment/web", ready)
    (replica_set,) = on_kwok.list("replicasets")

    on_kwok.delete("deployment/web")

    on_kwok.wait_for(replica_set, deleted)
