"""Rollback on a real plane: whatever a test did, the state is the mark's, and works."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pytest_kube.errors import APIError, NotFoundError, UnknownResourceError
from pytest_kube.kube import Kube
from pytest_kube.profiles import NodeGroup, Profile
from pytest_kube.providers import kwok
from pytest_kube.settings import Settings
from pytest_kube.state.keys import (
    EVENTS,
    HEARTBEATS,
    MANAGERS,
    NODES,
    NOT_STATE,
    PREFIX,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kube.cluster import Cluster

Operation = Callable[[Kube], Any]
Step = tuple[str, str]

EXAMPLES = 70
"""Each makes three rollbacks."""

NAMESPACES = ("base", "a", "b")
LABELS = {"app": "x"}
POD = {"containers": [{"name": "main", "image": "none"}]}
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "foos.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"kind": "Foo", "plural": "foos", "singular": "foo"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


def workload(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    """Return an object of the group apps whose pods have the label."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {**LABELS, "of": name}},
            "template": {
                "metadata": {"labels": {**LABELS, "of": name}},
                "spec": dict(POD),
            },
            **spec,
        },
    }


def deployment(name: str, replicas: int) -> dict[str, Any]:
    return workload("Deployment", name, replicas=replicas)


def stateful_set(replicas: int) -> dict[str, Any]:
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    return workload(
        "StatefulSet",
        "sts",
        replicas=replicas,
        serviceName="sts",
        volumeClaimTemplates=[claim],
    )


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": LABELS, "ports": [{"port": 80}], **spec},
    }


def plain(api_version: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, **rest.pop("metadata", {})},
        **rest,
    }


# --- what a test may do ------------------------------------------------------


def apply(*objects: dict[str, Any]) -> Operation:
    return lambda kube: [kube.apply(obj) for obj in objects]


def delete(ref: str, propagation: str = "Background") -> Operation:
    def run(kube: Kube) -> None:
        path = kube._path(ref)
        body = {"propagationPolicy": propagation}
        kube.cluster.client.request("DELETE", path, body=body)

    return run


def scale(ref: str, replicas: int) -> Operation:
    return lambda kube: kube.patch(
        ref, {"spec": {"replicas": replicas}}, subresource="scale"
    )


def until(ref: str, condition: str) -> Operation:
    return lambda kube: kube.wait_for(ref, condition, timeout=0.5)


def delete_pods(kube: Kube) -> None:
    client = kube.cluster.client
    client.request("DELETE", f"/api/v1/namespaces/{kube.namespace}/pods")


def webhook(policy: str) -> dict[str, Any]:
    """A webhook that cannot be reached, asked about ConfigMaps."""
    return plain(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "nowhere",
        webhooks=[
            {
                "name": "nowhere.example.com",
                "failurePolicy": policy,
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 1,
                "clientConfig": {"url": "https://127.0.0.1:1/"},
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["secrets"],
                    }
                ],
            }
        ],
    )


JOB = plain(
    "batch/v1",
    "Job",
    "job",
    spec={
        "completions": 2,
        "parallelism": 2,
        "template": {"spec": {**POD, "restartPolicy": "Never"}},
    },
)
FOO = plain("example.com/v1", "Foo", "foo", metadata={"finalizers": ["example.com/x"]})
VOLUME = plain(
    "v1",
    "PersistentVolume",
    "volume",
    spec={
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/none"},
    },
)
RULES = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
OPERATIONS: dict[str, Operation] = {
    "deploy": apply(deployment("web", 3)),
    "deploy one": apply(deployment("web", 1)),
    "deploy and see": lambda k: (
        k.apply(deployment("web", 2)),
        k.wait_for("deployment/web", "condition=Available", timeout=5),
    ),
    "scale up": scale("deployment/web", 5),
    "scale down": scale("deployment/web", 0),
    "undeploy": delete("deployment/web"),
    "undeploy, orphaning": delete("deployment/web", "Orphan"),
    "undeploy, foreground": delete("deployment/web", "Foreground"),
    "base: scale": scale("deployment/base", 4),
    "base: delete": delete("deployment/base"),
    "base: delete service": delete("service/base"),
    "base: see it scaled": until("deployment/base", "jsonpath={.status.replicas}=4"),
    "delete pods": delete_pods,
    "run a job": apply(JOB),
    "see the job done": until("job/job", "condition=Complete"),
    "delete the job": delete("job/job"),
    "claim": apply(service("sts", clusterIP="None"), stateful_set(2)),
    "claim more": scale("statefulset/sts", 3),
    "unclaim": delete("statefulset/sts"),
    "volume": apply(VOLUME),
    "volume gone": delete("pv/volume"),
    "service": apply(service("svc")),
    "node port": apply(
        service("np", type="NodePort", ports=[{"port": 80, "nodePort": 30123}])
    ),
    "fixed IP": apply(service("ip", clusterIP="10.96.77.77")),
    "service gone": delete("service/svc"),
    "crd": apply(CRD),
    "crd gone": delete("crd/foos.example.com"),
    "custom resource": apply(CRD, FOO),
    "custom resource gone": delete("foo/foo"),
    "webhook": apply(webhook("Fail")),
    "webhook, ignoring": apply(webhook("Ignore")),
    "role": apply(plain("rbac.authorization.k8s.io/v1", "Role", "r", rules=RULES)),
    "aggregated role": apply(
        plain(
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            "aggregated",
            rules=RULES,
            metadata={
                "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
            },
        )
    ),
    "quota": apply(plain("v1", "ResourceQuota", "few", spec={"hard": {"pods": "2"}})),
    "quota gone": delete("quota/few"),
    "account": apply(plain("v1", "ServiceAccount", "sa")),
    "account gone": delete("sa/default"),
    "namespace": lambda k: k.apply(plain("v1", "Namespace", k.namespace)),
    "namespace gone": lambda k: delete(f"ns/{k.namespace}")(k),
    "node": apply(plain("v1", "Node", "further", spec={"podCIDR": "10.9.9.0/24"})),
    "node gone": delete("node/node-1"),
    "cordon": lambda k: k.patch("node/node-0", {"spec": {"unschedulable": True}}),
}
steps = st.lists(
    st.tuples(st.sampled_from(sorted(OPERATIONS)), st.sampled_from(NAMESPACES)),
    min_size=1,
    max_size=8,
)


def do(cluster: Cluster, steps: list[Step]) -> None:
    """Do what can be done; an operation may well be refused after another one."""
    for name, namespace in steps:
        try:
            OPERATIONS[name](Kube(cluster, namespace, timeout=5))
        except (APIError, UnknownResourceError, TimeoutError):
            continue


def state_of(cluster: Cluster) -> dict[str, Any]:
    """Return what is stored, key by key, but for what a rollback leaves alone."""
    assert cluster.state is not None
    found: dict[str, Any] = {}
    for key, value, *_ in cluster.state._etcd.entries(PREFIX):
        # Events come when they come: a controller-manager greets its nodes seconds later.
        if key.startswith((*NOT_STATE, EVENTS)):
            continue
        found[key] = json.loads(value)
        if key.startswith(HEARTBEATS):
            del found[key]  # made again when it is needed
            continue
        if key.startswith(NODES):
            found[key]["metadata"].pop("managedFields", None)
            for condition in found[key]["status"].get("conditions", ()):
                condition.pop("lastHeartbeatTime", None)
    return found


def difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {
        key: (one.get(key), other.get(key))
        for key in one.keys() | other.keys()
        if one.get(key) != other.get(key)
    }


def is_late_answer(was: Any, now: Any) -> bool:
    """Tell what a component wrote after the rollback of what it was an answer to."""
    known = was["metadata"].get("managedFields", ()) if was else ()
    entries = now["metadata"].get("managedFields", ()) if now else ()
    # Who applies the fields that are its own already leaves no trace: what nobody but
    # components has written, they have written last.
    authors = [e for e in entries if e not in known] or entries
    return bool(authors) and {entry["manager"] for entry in authors} <= MANAGERS


@pytest.fixture(scope="module")
def plane() -> Iterator[Cluster]:
    """A plane of this file's own, with a workload that was there before any mark."""
    profile = Profile("kwok", "kwok", nodes=(NodeGroup(count=2),))
    with kwok.create(profile, Settings(profile), print) as cluster:
        cluster.create_namespace("base")
        base = Kube(cluster, "base", timeout=20)
        base.apply(deployment("base", 2))
        base.apply(service("base"))
        base.wait_for("deployment/base", "jsonpath={.status.availableReplicas}=2")
        assert cluster.state is not None
        cluster.state.settle(1.0, 20.0)
        yield cluster


@pytest.mark.timeout(600)
def test_state_is_the_marks_after_any_workload(plane: Cluster) -> None:
    """Key by key: two tests, one after the other, inside of what a module made."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(wide=steps, narrow=st.lists(steps, min_size=2, max_size=2))
    def check(wide: list[Step], narrow: list[list[Step]]) -> None:
        # A late answer to the end of the last example, and what corrects it, is over.
        plane.state.settle(0.1, 5.0)  # type: ignore[union-attr]
        outer = plane.mark()
        before = state_of(plane)
        do(plane, wide)
        for steps in narrow:
            inner = plane.mark()
            do(plane, steps)
            plane.roll_back(inner)
            plane.release(inner)
        deadline = time.monotonic() + 2
        plane.roll_back(outer)
        while found := difference(before, state_of(plane)):
            assert time.monotonic() < deadline, found
            assert all(is_late_answer(*pair) for pair in found.values()), found
            plane.roll_back(outer)
        plane.release(outer)

    check()


def test_the_plane_works_as_a_fresh_one_after_all_that(plane: Cluster) -> None:
    """Scheduling, quotas, Service IPs, garbage collection, namespace deletion."""
    kube = Kube(plane, "fresh", timeout=20)
    plane.create_namespace("fresh")
    kube.apply(plain("v1", "ResourceQuota", "few", spec={"hard": {"pods": "2"}}))
    kube.wait_for("quota/few", "jsonpath={.status.hard.pods}=2")
    kube.apply(deployment("web", 3))
    kube.wait_for("deployment/web", "jsonpath={.status.availableReplicas}=2")
    kube.wait_for("deployment/web", "condition=ReplicaFailure")
    kube.apply(service("np", type="NodePort", ports=[{"port": 80, "nodePort": 30123}]))
    fixed = kube.apply(service("ip", clusterIP="10.96.77.77"))
    assert fixed["spec"]["clusterIP"] == "10.96.77.77"
    kube.apply(plain("v1", "Secret", "no-webhook-in-the-way"))
    slices = kube.list("endpointslices", labels="kubernetes.io/service-name=np")
    assert slices
    base = Kube(plane, "base", timeout=20)
    base.patch("deployment/base", {"spec": {"replicas": 3}})
    base.wait_for("deployment/base", "jsonpath={.status.availableReplicas}=3")
    (endpoints,) = base.list("endpointslices")
    base.wait_for(endpoints, lambda s: s and len(s["endpoints"]) == 3)
    kube.delete("deployment/web")
    deadline = time.monotonic() + 20
    while kube.list("pods") or kube.list("replicasets"):
        assert time.monotonic() < deadline, "nobody collects garbage"
    kube.delete("namespace/fresh", timeout=40)
    with pytest.raises(NotFoundError):
        kube.get("namespace/fresh")
