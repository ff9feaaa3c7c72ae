import pytest

from pytest_kube import APIError, Kube, condition, field

SAMPLE = "config/samples/memcached.yaml"
NO_PODS = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "no-pods"},
    "spec": {"hard": {"pods": "0"}},
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
    kube.apply(NO_PODS)
    kube.apply(SAMPLE)

    memcached = kube.wait_for("memcached/sample", condition("Available", "False"))

    [available] = memcached["status"]["conditions"]
    assert available["reason"] == "ServersNotReady"
    assert available["message"] == "0 of 2 servers are ready"


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


@pytest.mark.parametrize("size", [-1, 6])
def test_refuses_a_size_out_of_range(kube: Kube, size: int) -> None:
    """The CRD allows 0 to 5 servers; no controller is needed for that."""
    memcached = {
        "apiVersion": "cache.example.com/v1alpha1",
        "kind": "Memcached",
        "metadata": {"name": "sample"},
        "spec": {"size": size},
    }

    with pytest.raises(APIError, match=r"spec\.size: Invalid value") as refused:
        kube.create(memcached)

    assert refused.value.status == 422


def test_has_defaults(kube: Kube) -> None:
    """An empty spec asks for one small server."""
    memcached = kube.create(
        {
            "apiVersion": "cache.example.com/v1alpha1",
            "kind": "Memcached",
            "metadata": {"name": "sample"},
            "spec": {},
        }
    )

    spec = {"size": 1, "memory": 64, "image": "memcached:1.6-alpine"}
    assert memcached["spec"] == spec
