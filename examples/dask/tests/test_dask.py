"""The operator of the dask-kubernetes wheel, as published, on its own manifests."""

from collections.abc import Callable
from importlib.resources import files

import pytest

from pytest_kube import Controller, Kube, Object, deleted, field, phase, ready

OPERATOR = files("dask_kubernetes") / "operator"
CRDS = OPERATOR / "deployment/helm/dask-kubernetes-operator/crds"
EXAMPLES = OPERATOR / "controller/tests/resources"

HANDLED = 'metadata.annotations["kopf.zalando.org/last-handled-configuration"]'
WaitForWorkers = Callable[[int], list[Object]]

pytestmark = [pytest.mark.kube(crds=[CRDS]), pytest.mark.usefixtures("nodes")]


@pytest.fixture
def cluster(
    kube: Kube, kube_controller: Controller, wait_for_workers: WaitForWorkers
) -> Object:
    """The operator's own example cluster, running: a scheduler and two workers."""
    [cluster] = kube.apply(EXAMPLES / "simplecluster.yaml")
    # At once: an operator that is slow to finish turns Running into Pending again.
    kube.wait_for(cluster, phase("Running"))
    kube.wait_for("deployment/simple-scheduler", ready)
    wait_for_workers(2)
    # The operator counts the workers of a new group twice. If the cluster is deleted
    # in between, it makes one more.
    kube.wait_for("daskworkergroup/simple-default", field(HANDLED))
    return cluster


@pytest.mark.usefixtures("cluster")
def test_runs_a_cluster(kube: Kube) -> None:
    """A DaskCluster becomes a scheduler with its Service, and workers: all run."""
    pods = kube.list("pods", labels="dask.org/cluster-name=simple")

    components = [pod["metadata"]["labels"]["dask.org/component"] for pod in pods]
    assert sorted(components) == ["scheduler", "worker", "worker"]
    assert all(map(phase("Running"), pods))
    assert kube.find("service/simple-scheduler")


@pytest.mark.usefixtures("scheduler", "cluster")
def test_scales_up_and_down(kube: Kube, wait_for_workers: WaitForWorkers) -> None:
    """The workers follow the cluster's number; the scheduler says which ones go."""
    kube.patch("daskcluster/simple", {"spec": {"worker": {"replicas": 4}}})
    four = wait_for_workers(4)

    kube.patch("daskcluster/simple", {"spec": {"worker": {"replicas": 1}}})
    [last] = wait_for_workers(1)

    assert last.name == max(worker.name for worker in four)
    group = kube.get("daskworkergroup/simple-default")
    assert group["spec"]["worker"]["replicas"] == 1


@pytest.mark.usefixtures("scheduler", "cluster")
def test_scales_by_itself(kube: Kube, wait_for_workers: WaitForWorkers) -> None:
    """An autoscaler gives the scheduler what it can use, within the limits."""
    kube.create(
        {
            "apiVersion": "kubernetes.dask.org/v1",
            "kind": "DaskAutoscaler",
            "metadata": {"name": "simple"},
            "spec": {"cluster": "simple", "minimum": 1, "maximum": 3},
        }
    )

    wait_for_workers(3)


def test_leaves_nothing(kube: Kube, cluster: Object) -> None:
    """All that belongs to a cluster goes with it."""
    kinds = ("daskworkergroups", "deployments", "services", "replicasets", "pods")
    there = [obj for kind in kinds for obj in kube.list(kind)]

    kube.delete(cluster)

    for obj in there:
        kube.wait_for(obj, deleted)
    assert [obj.name for kind in kinds for obj in kube.list(kind)] == []


def test_runs_a_job(kube: Kube, kube_controller: Controller) -> None:
    """A DaskJob has its cluster for as long as it runs."""
    kube.apply(EXAMPLES / "simplejob.yaml")
    kube.wait_for("daskjob/simple-job", field("status.jobStatus", "Running"))
    cluster = kube.get("daskcluster/simple-job")

    done = {"status": {"phase": "Succeeded"}}
    kube.patch("pod/simple-job-runner", done, subresource="status")

    kube.wait_for("daskjob/simple-job", field("status.jobStatus", "Successful"))
    kube.wait_for(cluster, deleted)
