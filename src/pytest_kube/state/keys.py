"""Where etcd stores what, who writes it, and what no rollback takes back. No I/O."""

from __future__ import annotations

import json
from typing import Any

PREFIX = "/registry/"

_SYSTEM = (
    "coredns",
    "etcd-",
    "kindnet",
    "kube-apiserver-",
    "kube-controller-manager-",
    "kube-dns",
    "kube-proxy",
    "kube-scheduler-",
)
_RUN_BY = (
    "daemonsets",
    "deployments",
    "endpointslices",
    "pods",
    "replicasets",
    "services/endpoints",
)

LEASES = (
    # The API server's own, renewed every few seconds; it ends without them.
    "/registry/leases/kube-system/apiserver-",
    "/registry/masterleases/",
    "/registry/peerserverleases/",
    # Held by the components of a cluster of several control planes (kind).
    "/registry/leases/kube-system/kube-controller-manager",
    "/registry/leases/kube-system/kube-scheduler",
    "/registry/leases/local-path-storage/",
)
"""Keys of processes, which renew them all the time, or end without them."""

NOT_STATE = (
    *LEASES,
    # What kubeadm and kind run in the cluster. It gets ready while the first tests
    # run, and is no test's.
    *(f"/registry/{place}/kube-system/{name}" for place in _RUN_BY for name in _SYSTEM),
    *(f"/registry/{place}/local-path-storage/" for place in _RUN_BY),
)
"""Keys that no rollback touches: they belong to processes, which go on."""

HEARTBEATS = "/registry/leases/kube-node-lease/"
"""Nodes renew their leases; with the old time in them they would seem dead. So their
values stay, and missing ones come back. New ones go with their node: who holds one of
a node that stays would think that it has lost the node."""

EVENTS = "/registry/events/"
"""They expire by themselves, and are counted up by who emitted them. New ones go."""

STAYS = (*NOT_STATE, HEARTBEATS, EVENTS)
"""Keys that never get back the value they had."""

OWNERS = {
    kind: f"{PREFIX}{place}/"
    for kind, place in {
        "CronJob": "cronjobs",
        "DaemonSet": "daemonsets",
        "Deployment": "deployments",
        "Job": "jobs",
        "Namespace": "namespaces",
        "ReplicaSet": "replicasets",
        "ReplicationController": "controllers",
        "Service": "services/specs",
        "StatefulSet": "statefulsets",
    }.items()
}
"""Where objects are for which controllers make others."""

OWNED = (OWNERS["Job"], OWNERS["ReplicaSet"])
"""Those that controllers make for other owners, and would make again, too."""

NODES = "/registry/minions/"
"""A node of which nothing but the time of a heartbeat differs stays as it is."""

MANAGERS = {
    "clusterrole-aggregation-controller",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kwok",
}
"""What managedFields call the components, who write by themselves."""

COMPONENTS = {
    "kwok",
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
}
"""What they are called as users."""

_ROLES = ("system:node:", "system:serviceaccount:kube-system:")
"""How the users start that a kubelet is, and each controller of the manager (kind)."""


def is_component(user: str | None) -> bool:
    """Say whether a user is a component of the control plane, or a kubelet."""
    return user in COMPONENTS or (user or "").startswith(_ROLES)


def alike(key: str, one: bytes | None, other: bytes) -> bool:
    """Say whether nothing that matters differs between two values of a key."""
    if one == other or one is None or not key.startswith(NODES):
        return one == other
    return bool(_without_heartbeat(one) == _without_heartbeat(other))


def _without_heartbeat(node: bytes) -> Any:
    """Return a node without what a kubelet writes every few seconds."""
    parsed = json.loads(node)
    parsed["metadata"].pop("managedFields", None)
    for condition in parsed.get("status", {}).get("conditions") or ():
        condition.pop("lastHeartbeatTime", None)
    return parsed


def folder(key: str) -> str:
    """Return where a key is, up to its last slash."""
    return key[: key.rindex("/") + 1]


def namespace(value: bytes) -> str:
    """Return where an object is; what has no namespace is where everything is."""
    return str(_metadata(value).get("namespace") or "default")


def node_of(key: str) -> str:
    """Return the node whose lease this is; empty for every other key."""
    return key.removeprefix(HEARTBEATS) if key.startswith(HEARTBEATS) else ""


def owner(value: bytes) -> str:
    """Return the key of the object for which this one was made; empty for none."""
    metadata = _metadata(value)
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller") and owner["kind"] in OWNERS:
            return f"{OWNERS[owner['kind']]}{metadata.get('namespace')}/{owner['name']}"
    return ""


def by_component(value: bytes) -> bool:
    """Say whether nobody but components of the control plane has written an object."""
    managers = {m.get("manager") for m in _metadata(value).get("managedFields") or ()}
    return bool(managers) and managers <= MANAGERS


def foreign(value: bytes | None) -> list[Any]:
    """Return what managedFields tell of others than the components."""
    managed = _metadata(value or b"").get("managedFields") or ()
    return [entry for entry in managed if entry.get("manager") not in MANAGERS]


def _metadata(value: bytes) -> dict[str, Any]:
    try:
        metadata = json.loads(value)["metadata"]
    except (ValueError, KeyError, TypeError):
        return {}  # no API object
    return metadata if isinstance(metadata, dict) else {}
