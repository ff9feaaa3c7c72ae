from typing import Any

import pytest

from pytest_kube import APIError, Controller, Kube, condition, field

SAMPLE = "config/samples/memcached.yaml"
INVENTORY = "memcached-system"


def manifest(name: str = "sample", **spec: int) -> dict[str, Any]:
    return {
        "apiVersion": "cache.example.com/v1alpha1",
        "kind": "Memcached",
        "metadata": {"name": name},
        "spec": spec,
    }


def quota(pods: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few-pods"},
        "spec": {"hard": {"pods": str(pods)}},
    }


@pytest.mark.usefixtures("kube_controller", "nodes")
def test_becomes_available(kube: Kube) -> None:
    """A Memcached is Available when all its servers are ready."""
    kube.apply(SAMPLE)

    memcached = kube.wait_for("memcached/sample", condition("Available"))

    assert memcached["status"]["readyReplicas"] == 2
    assert len(kube.list("pods", labels=memcached["status"]["selector"])) == 2


@pytest.mark.usefixtures("kube_controller", "nodes")
def test_scales_up_and_down(kube: Kube) -> None:
    """The servers follow the size, also when an autoscaler sets it."""
    kube.apply(SAMPLE)
    kube.wait_for("memcached/sample", condition("Available"))

    kube.patch("memcached/sample", {"spec": {"size": 4}})
    kube.wait_for("memcached/sample", field("status.readyReplicas", 4))

    kube.patch("memcached/sample", {"spec": {"replicas": 1}}, subresource="scale")
    kube.wait_for("memcached/sample", field("status.readyReplicas", 1))
    kube.wait_for("memcached/sample", condition("Available"))


@pytest.mark.usefixtures("kube_controller")
def test_is_not_available_without_servers(kube: Kube) -> None:
    """While no server can run, the condition says how many are missing."""
    kube.apply(quota(pods=0))
    kube.apply(SAMPLE)

    memcached = kube.wait_for("memcached/sample", condition("Available", "False"))

    [available] = memcached["status"]["conditions"]
    assert available["reason"] == "ServersNotReady"
    assert available["message"] == "0 of 2 servers are ready"
    assert available["observedGeneration"] == 1


@pytest.mark.usefixtures("kube_controller", "nodes")
def test_becomes_available_when_the_quota_allows(kube: Kube) -> None:
    """Until then the condition counts the servers that the quota leaves."""
    kube.apply(quota(pods=1))
    kube.apply(SAMPLE)

    memcached = kube.wait_for("memcached/sample", field("status.readyReplicas", 1))
    [available] = memcached["status"]["conditions"]
    assert available["message"] == "1 of 2 servers are ready"

    kube.apply(quota(pods=2))
    kube.wait_for("memcached/sample", condition("Available", reason="ServersReady"))


@pytest.mark.usefixtures("kube_controller")
def test_owns_its_deployment(kube: Kube) -> None:
    """The Deployment is the Memcached's own, so that it goes with it."""
    [memcached] = kube.apply(SAMPLE)

    deployment = kube.wait_for("deployment/sample", "create")

    [owner] = deployment["metadata"]["ownerReferences"]
    assert owner["uid"] == memcached.uid
    assert owner["controller"]


@pytest.mark.usefixtures("kube_controller")
def test_undoes_what_others_change(kube: Kube) -> None:
    """A Deployment that somebody changed or deleted is as it was a moment later."""
    kube.apply(SAMPLE)
    first = kube.wait_for("deployment/sample", "create")

    kube.patch(first, {"spec": {"replicas": 5}})
    kube.wait_for(first, field("spec.replicas", 2))

    kube.delete(first)
    again = kube.wait_for("deployment/sample", field("spec.replicas", 2))
    assert again.uid != first.uid


@pytest.mark.usefixtures("kube_controller")
def test_deletes_its_deployment_first(kube: Kube) -> None:
    """When a Memcached is gone, its servers are: a finalizer holds it until then."""
    kube.apply(SAMPLE)
    kube.wait_for("deployment/sample", "create")
    assert kube.get("memcached/sample")["metadata"]["finalizers"]

    kube.delete("memcached/sample")

    assert kube.find("deployment/sample") is None


@pytest.mark.usefixtures("kube_controller")
def test_is_in_the_inventory_while_it_exists(kube: Kube) -> None:
    """The entry is in another namespace: only the finalizer can remove it."""
    entry = f"configmap/{kube.namespace}.sample"
    kube.apply(SAMPLE)
    kube.wait_for(entry, field("data.megabytes", "64"), namespace=INVENTORY)

    kube.patch("memcached/sample", {"spec": {"size": 3}})
    kube.wait_for(entry, field("data.megabytes", "96"), namespace=INVENTORY)

    kube.delete("memcached/sample")
    assert kube.find(entry, namespace=INVENTORY) is None


def test_catches_up_after_a_restart(kube: Kube, kube_controller: Controller) -> None:
    """What was changed, created and deleted while no controller ran is not lost."""
    kube.apply([manifest("changed", size=1), manifest("deleted", size=1)])
    kube.wait_for("deployment/changed", "create")
    kube.wait_for("deployment/deleted", "create")
    kube_controller.stop()

    kube.patch("memcached/changed", {"spec": {"size": 3}})
    kube.create(manifest("created", size=2))
    kube.delete("memcached/deleted", wait=False)
    kube_controller.restart()

    kube.wait_for("deployment/changed", field("spec.replicas", 3))
    kube.wait_for("deployment/created", field("spec.replicas", 2))
    kube.wait_for("memcached/deleted", "delete")
    assert kube.find("deployment/deleted") is None


@pytest.mark.parametrize("size", [-1, 6])
def test_refuses_a_size_out_of_range(kube: Kube, size: int) -> None:
    """The CRD allows 0 to 5 servers; no controller is needed for that."""
    with pytest.raises(APIError, match=r"spec\.size: Invalid value") as refused:
        kube.create(manifest(size=size))

    assert refused.value.status == 422


def test_has_defaults(kube: Kube) -> None:
    """An empty spec asks for one small server."""
    created = kube.create(manifest())

    spec = {"size": 1, "memory": 64, "image": "memcached:1.6-alpine"}
    assert created["spec"] == spec
