"""Runs Memcached servers: a Deployment for each Memcached object."""

from __future__ import annotations

import datetime as dt
import threading
from typing import TYPE_CHECKING, Any

import kopf
import kubernetes
from kubernetes.client import ApiException, AppsV1Api, CoreV1Api, CustomObjectsApi

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KIND = ("cache.example.com", "v1alpha1", "memcacheds")
OPERATOR = "memcached-operator"
LABEL = "app.kubernetes.io/managed-by"
INVENTORY = "memcached-system"
APPLY: dict[str, Any] = {
    "field_manager": OPERATOR,
    "force": True,
    "_content_type": "application/apply-patch+yaml",
}

# One reconciliation at a time: what it read stays true until it has written.
_lock = threading.Lock()


@kopf.on.startup()
def connect(**_: Any) -> None:
    """Find the cluster: by KUBECONFIG, or the one that the operator's pod is in."""
    kubernetes.config.load_config()


@kopf.on.create(*KIND)
@kopf.on.update(*KIND, field="spec")
@kopf.on.resume(*KIND)
def memcached_changed(
    namespace: str, name: str, spec: Mapping[str, Any], **_: Any
) -> None:
    """Act on a new or changed Memcached."""
    entry = inventory_entry(namespace, name, spec)
    CoreV1Api().patch_namespaced_config_map(
        entry["metadata"]["name"], INVENTORY, entry, **APPLY
    )
    reconcile(namespace, name)


@kopf.on.event("apps", "v1", "deployments", labels={LABEL: OPERATOR})
def deployment_changed(namespace: str, name: str, **_: Any) -> None:
    """Report what became of a Deployment, and undo what others did to it."""
    reconcile(namespace, name)


@kopf.on.delete(*KIND)
def memcached_deleted(namespace: str, name: str, **_: Any) -> None:
    """Delete what is there for a Memcached before it is gone itself.

    Its inventory entry is in another namespace, where no owner reference reaches.
    """
    with _lock:
        delete(AppsV1Api().delete_namespaced_deployment, name, namespace)
        delete(
            CoreV1Api().delete_namespaced_config_map, f"{namespace}.{name}", INVENTORY
        )


def delete(call: Callable[[str, str], object], name: str, namespace: str) -> None:
    """Delete an object, if it is there."""
    try:
        call(name, namespace)
    except ApiException as e:
        if e.status != 404:
            raise


def reconcile(namespace: str, name: str) -> None:
    """Make the Deployment what the Memcached asks for, and report how it is."""
    objects = CustomObjectsApi()
    group, version, plural = KIND
    with _lock:
        try:
            memcached = objects.get_namespaced_custom_object(
                group, version, namespace, plural, name
            )
        except ApiException as e:
            if e.status == 404:
                return
            raise
        if "deletionTimestamp" in memcached["metadata"]:
            return
        deployment = AppsV1Api().patch_namespaced_deployment(
            name, namespace, deployment_for(memcached), **APPLY
        )
        status = status_for(memcached, deployment.status)
        if status != memcached.get("status"):
            objects.patch_namespaced_custom_object_status(
                group, version, namespace, plural, name, {"status": status}
            )


def deployment_for(memcached: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Deployment that a Memcached asks for."""
    spec = memcached["spec"]
    labels = labels_of(memcached)
    server = {
        "name": "memcached",
        "image": spec["image"],
        "args": [f"--memory-limit={spec['memory']}"],
        "ports": [{"name": "memcached", "containerPort": 11211}],
        "readinessProbe": {"tcpSocket": {"port": "memcached"}},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": memcached["metadata"]["name"],
            "labels": {**labels, LABEL: OPERATOR},
        },
        "spec": {
            "replicas": spec["size"],
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [server]},
            },
        },
    }
    kopf.append_owner_reference(deployment, owner=kopf.Body(memcached))
    return deployment


def inventory_entry(
    namespace: str, name: str, spec: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the inventory says of a Memcached: how much it stores in all."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{namespace}.{name}", "labels": {LABEL: OPERATOR}},
        "data": {"megabytes": str(spec["size"] * spec["memory"])},
    }


def status_for(memcached: Mapping[str, Any], deployment: Any) -> dict[str, Any]:
    """Return the status of a Memcached whose Deployment has that status."""
    size = memcached["spec"]["size"]
    ready = deployment.ready_replicas or 0
    available = ready >= size
    condition = {
        "type": "Available",
        "status": str(available),
        "reason": "ServersReady" if available else "ServersNotReady",
        "message": f"{ready} of {size} servers are ready",
        "observedGeneration": memcached["metadata"]["generation"],
    }
    return {
        "replicas": deployment.replicas or 0,
        "readyReplicas": ready,
        "selector": ",".join(f"{k}={v}" for k, v in labels_of(memcached).items()),
        "conditions": [with_transition_time(condition, memcached)],
    }


def with_transition_time(
    condition: dict[str, Any], memcached: Mapping[str, Any]
) -> dict[str, Any]:
    """Add the time when the condition got its status: now, unless it had it before."""
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for before in memcached.get("status", {}).get("conditions", []):
        if all(before[key] == condition[key] for key in ("type", "status")):
            now = before["lastTransitionTime"]
    return {**condition, "lastTransitionTime": now}


def labels_of(memcached: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a Memcached's pods."""
    return {
        "app.kubernetes.io/name": "memcached",
        "app.kubernetes.io/instance": memcached["metadata"]["name"],
    }
