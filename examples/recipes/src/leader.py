"""A controller of which several run and one acts: the one that holds a Lease."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from kubernetes.client import ApiException, CoordinationV1Api, CoreV1Api
from kubernetes.config import new_client_from_config

if TYPE_CHECKING:
    from threading import Event

APPLY: dict[str, Any] = {
    "field_manager": "leader",
    "force": True,
    "_content_type": "application/apply-patch+yaml",
}


def run(
    stop: Event,
    kubeconfig: str,
    namespace: str,
    me: str,
    *,
    seconds: int = 15,
    polite: bool = True,
) -> None:
    """Act while the Lease is ours, until *stop* is set.

    Args:
        stop: Ends it.
        kubeconfig: Who it is in the cluster.
        namespace: Where it acts.
        me: What it calls itself in the Lease.
        seconds: How long the Lease is ours without being renewed.
        polite: Whether it gives the Lease back at the end; one that crashes does not.
    """
    with new_client_from_config(kubeconfig) as client:
        leases = CoordinationV1Api(client)
        turn = 0
        while not stop.wait(0.03):
            if hold(leases, namespace, me, seconds):
                turn += 1
                act(client, namespace, me, turn)
        if polite:
            release(leases, namespace, me)


def hold(leases: Any, namespace: str, me: str, seconds: int) -> bool:
    """Take or renew the Lease; say whether it is ours."""
    now = datetime.now(UTC)
    ours: dict[str, Any] = {
        "holderIdentity": me,
        "leaseDurationSeconds": seconds,
        "renewTime": now.isoformat(timespec="microseconds"),
    }
    metadata: dict[str, Any] = {"name": "leader"}
    try:
        try:
            lease = leases.read_namespaced_lease("leader", namespace)
        except ApiException as e:
            if e.status != 404:
                raise
            body = {"metadata": metadata, "spec": ours}
            leases.create_namespaced_lease(namespace, body)
            return True
        holder, since = lease.spec.holder_identity, lease.spec.renew_time
        lasts = timedelta(seconds=lease.spec.lease_duration_seconds)
        if holder and holder != me and now < since + lasts:
            return False
        # Written only if nobody else was faster.
        metadata["resourceVersion"] = lease.metadata.resource_version
        body = {"metadata": metadata, "spec": ours}
        leases.replace_namespaced_lease("leader", namespace, body)
    except ApiException as e:
        if e.status != 409:
            raise
        return False
    return True


def release(leases: Any, namespace: str, me: str) -> None:
    """Give the Lease back, if it is ours."""
    lease = leases.read_namespaced_lease("leader", namespace)
    if lease.spec.holder_identity == me:
        body = {"spec": {"holderIdentity": ""}}
        leases.patch_namespaced_lease("leader", namespace, body)


def act(client: Any, namespace: str, me: str, turn: int) -> None:
    """Do what only one may do."""
    work = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "work"},
        "data": {"by": me, "turn": str(turn)},
    }
    CoreV1Api(client).patch_namespaced_config_map("work", namespace, work, **APPLY)
