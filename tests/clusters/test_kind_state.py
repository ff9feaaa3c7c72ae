"""Rollback, history and audit on kind: real kubelets and containers come along."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube import APIError, deleted, field
from pytest_kube.client import Client
from pytest_kube.diagnostics.collect import collect
from pytest_kube.diagnostics.pod_logs import pod_logs
from pytest_kube.kube import Kube

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kube.cluster import Cluster

pytestmark = pytest.mark.timeout(300)


def pod_spec(image: str, *args: str) -> dict[str, Any]:
    container = {"name": "c", "image": image, "imagePullPolicy": "Never"}
    return {"containers": [{**container, "args": list(args)}]}


def deployment(name: str, image: str, *args: str, replicas: int = 2) -> dict[str, Any]:
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
                "spec": pod_spec(image, *args),
            },
        },
    }


@pytest.fixture(scope="session")
def image(talkative_image: str | None) -> str:
    if talkative_image is None:
        pytest.skip("there is no Go to build the program that runs in the pod")
    return talkative_image


@pytest.fixture
def kube(kind_cluster: Cluster) -> Iterator[Kube]:
    """A handle on a namespace of the test's own, which a rollback takes away."""
    mark = kind_cluster.mark()
    kube = Kube(kind_cluster, "real", timeout=60)
    kube.mark_revision = mark.since
    kind_cluster.create_namespace("real")
    yield kube
    kind_cluster.roll_back(mark)
    kind_cluster.release(mark)


def sandboxes(docker_client: Any, kube: Kube) -> set[str]:
    """Return which pods of the test have a container that runs, as the node says."""
    (node,) = kube.list("nodes")
    container = docker_client.containers.get(node.name)
    code, output = container.exec_run(["crictl", "pods", "--state=ready", "-o=json"])
    assert code == 0, output
    return {
        pod["metadata"]["name"]
        for pod in json.loads(output)["items"]
        if pod["metadata"]["namespace"] == kube.namespace
    }


@pytest.mark.parametrize("args", [(), ("stubborn",)], ids=["heeding", "stubborn"])
def test_containers_are_gone_with_their_pods(
    docker_client: Any, kube: Kube, image: str, args: tuple[str, ...]
) -> None:
    """Also those that do not heed SIGTERM: a rollback grants no grace period."""
    cluster = kube.cluster
    mark = cluster.mark()
    kube.apply(deployment("web", image, *args))
    kube.wait_for("deployment/web", field("status.availableReplicas", 2))
    assert len(sandboxes(docker_client, kube)) == 2

    cluster.roll_back(mark)

    assert sandboxes(docker_client, kube) == set()
    assert kube.list("pods") == []
    assert kube.find("deployment/web") is None
    cluster.release(mark)


def test_what_a_test_deleted_runs_again(
    docker_client: Any, kube: Kube, image: str
) -> None:
    """A workload of a wider scope, its owner and its Service's endpoints included."""
    cluster = kube.cluster
    kube.apply(deployment("base", image))
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "base"},
            "spec": {"selector": {"app": "base"}, "ports": [{"port": 80}]},
        }
    )
    kube.wait_for("deployment/base", field("status.availableReplicas", 2))
    pods = kube.list("pods")
    before = {pod.name for pod in pods}
    mark = cluster.mark()
    kube.delete("deployment/base")
    for pod in pods:
        kube.wait_for(pod, deleted)

    cluster.roll_back(mark)

    assert {pod.name for pod in kube.list("pods")} == before
    kube.eventually(lambda: sandboxes(docker_client, kube) == before)
    kube.patch("deployment/base", {"spec": {"replicas": 3}})
    kube.wait_for("deployment/base", field("status.availableReplicas", 3))
    (endpoints,) = kube.list("endpointslices")
    kube.wait_for(endpoints, lambda s: s and len(s["endpoints"]) == 3)
    cluster.release(mark)


def test_history_names_kubelets_and_controllers(kube: Kube, image: str) -> None:
    """Each change of a pod has an author: nobody is unknown."""
    kube.apply(deployment("web", image, replicas=1))
    kube.wait_for("deployment/web", field("status.availableReplicas", 1))
    (pod,) = kube.list("pods")
    kube.patch("deployment/web", {"spec": {"replicas": 0}}, subresource="scale")
    kube.wait_for(pod, deleted)
    (node,) = kube.list("nodes")

    versions = kube.history(pod)

    created, bound, *_, last = versions
    assert (created.user, created.verb) == (
        "system:serviceaccount:kube-system:replicaset-controller",
        "create",
    )
    assert (bound.user, bound.verb) == ("system:kube-scheduler", "update")
    assert (last.user, last.verb) == (f"system:node:{node.name}", "delete")
    here = [v for v in kube.history() if f" {kube.namespace}/" in v.ref]
    assert [str(v) for v in here if v.user is None] == []


def test_test_and_identities_are_named(kube: Kube) -> None:
    """The names are those of our own planes."""
    ann = Client.from_kubeconfig(kube.cluster.identity("ann", ["system:masters"]))
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
    ann.request("DELETE", f"/api/v1/namespaces/{kube.namespace}/configmaps/a")

    found = [(v.user, v.verb) for v in kube.history("cm/a")]

    assert found == [("pytest-kube-admin", "patch"), ("ann", "delete")]


def test_what_roles_lack_is_reported(kube: Kube) -> None:
    """The audit log of a real node tells as much as that of our planes."""
    robot = f"system:serviceaccount:{kube.namespace}:robot"
    client = Client.from_kubeconfig(kube.cluster.identity(robot))
    with pytest.raises(APIError, match="forbidden"):
        client.request("GET", f"/api/v1/namespaces/{kube.namespace}/secrets")

    report = str(kube.eventually(lambda: kube.rbac_report(robot)))

    assert "secrets" in report
    assert "list" in report


def test_logs_of_a_container_that_crashes(kube: Kube, image: str) -> None:
    """What it said before it was started again comes first, then the rest."""
    spec = pod_spec(image, "fail")
    spec["initContainers"] = [{**spec["containers"][0], "name": "i", "args": ["hello"]}]
    pod = kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "crash"},
            "spec": spec,
        }
    )
    status = "status.containerStatuses[0]"
    kube.wait_for(pod, field(f"{status}.restartCount", 1))
    kube.wait_for(pod, field(f"{status}.lastState.terminated.exitCode", 3))
    deadline = time.monotonic() + 10

    logs = pod_logs(kube.cluster.client, [kube.get(pod)], deadline=deadline)

    found = {(log.container, log.previous): log.text for log in logs}
    assert next(iter(found)) == ("i", False)
    assert found["i", False].endswith("told: [hello]\n")
    assert "it was told to" in found["c", True]


def test_failed_test_leaves_the_logs_of_its_containers_and_of_the_node(
    kind_cluster: Cluster, docker_client: Any, image: str, tmp_path: Path
) -> None:
    """The previous life first; and the state, as on our own planes."""
    mark = kind_cluster.mark()
    kube = Kube(kind_cluster, "explained", timeout=60, mark_revision=mark.since)
    kind_cluster.create_namespace("explained")
    spec = pod_spec(image, "fail")
    kube.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "crash"},
            "spec": spec,
        }
    )
    kube.wait_for("pod/crash", field("status.containerStatuses[0].restartCount", 1))

    section = collect(kube, tmp_path / "t", shown="t", test="t", failure="E  no")
    kind_cluster.roll_back(mark)
    kind_cluster.release(mark)

    folder = tmp_path / "t"
    assert "objects     Pod crash" in section
    assert "replay      pytest-kube replay t" in section
    assert "incomplete" not in section
    previous = folder / "pods" / "explained" / "crash" / "c.previous.log"
    assert "it was told to" in previous.read_text("utf-8")
    recorded = folder / "crust-gather/namespaces/explained/v1/pod/crash/c/previous.log"
    assert recorded.read_text("utf-8") == previous.read_text("utf-8")
    logs = {path.name.partition(".")[2] for path in (folder / "logs").iterdir()}
    assert {"kubelet.log", "containerd.log", "etcd.log", "kube-apiserver.log"} <= logs
    (kubelet,) = (folder / "logs").glob("*.kubelet.log")
    lines = kubelet.read_text("utf-8").splitlines()
    assert any("explained/crash" in line for line in lines)
    # Those of this test only.
    assert datetime.fromisoformat(lines[0].split()[0]) >= kube.started


def test_isolation_by_namespace_leaves_containers_to_kubelet(
    kind_cluster: Cluster, docker_client: Any, image: str
) -> None:
    """As on an existing cluster: everything is deleted through the API."""
    kube = Kube(kind_cluster, "apart", timeout=60)
    kind_cluster.create_namespace("apart")
    kube.apply(deployment("web", image, replicas=1))
    kube.wait_for("deployment/web", field("status.availableReplicas", 1))

    kube.leftovers.clean_up()

    kube.eventually(lambda: sandboxes(docker_client, kube) == set())
