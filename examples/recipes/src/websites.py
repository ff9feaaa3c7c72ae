"""The controller that most recipes test: a page in a ConfigMap, a host in a DNS zone.

It looks at every Website many times a second. A real one would watch them; a test does
not see the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubernetes.client import ApiException, CoreV1Api, CustomObjectsApi
from kubernetes.config import new_client_from_config

if TYPE_CHECKING:
    from threading import Event

WEBSITES: dict[str, Any] = {
    "group": "example.com",
    "version": "v1",
    "plural": "websites",
}
FINALIZER = "example.com/host"
APPLY: dict[str, Any] = {
    "field_manager": "websites",
    "force": True,
    "_content_type": "application/apply-patch+yaml",
}


class Zone(dict[str, str]):
    """A DNS zone: what a Website has outside of the cluster. Hosts, and whose they are.

    Attributes:
        locked: Whether it refuses to be changed.
    """

    locked = False

    def add(self, host: str, owner: str) -> None:
        """Make a host known."""
        self[host] = owner

    def remove(self, host: str) -> None:
        """Forget a host."""
        if self.locked:
            raise PermissionError("the zone is locked")
        self.pop(host, None)


def run(stop: Event, kubeconfig: str, namespace: str, zone: Zone | None = None) -> None:
    """Look after the Websites of a namespace until *stop* is set."""
    zone = Zone() if zone is None else zone
    with new_client_from_config(kubeconfig) as client:
        api = CustomObjectsApi(client)
        while not stop.wait(0.1):
            listed: Any = api.list_namespaced_custom_object(
                **WEBSITES, namespace=namespace
            )
            for website in listed["items"]:
                try:
                    reconcile(client, website, zone)
                except ApiException as e:
                    if e.status not in {404, 409}:  # changed meanwhile: next time
                        raise


def reconcile(client: Any, website: dict[str, Any], zone: Zone) -> None:
    """Make the world what a Website asks for, and report it."""
    api, metadata, spec = CustomObjectsApi(client), website["metadata"], website["spec"]
    this = {**WEBSITES, "namespace": metadata["namespace"], "name": metadata["name"]}
    if "deletionTimestamp" in metadata:
        try:
            zone.remove(spec["host"])
        except PermissionError as e:
            report(api, this, website, ready="False", reason="Locked", message=str(e))
        else:
            api.patch_namespaced_custom_object(
                **this, body={"metadata": {"finalizers": None}}
            )
        return
    if spec.get("paused"):
        return
    if "finalizers" not in metadata:  # before there is anything to clean up
        finalizers = {"metadata": {"finalizers": [FINALIZER]}}
        api.patch_namespaced_custom_object(**this, body=finalizers)
    zone.add(spec["host"], metadata["name"])
    if website.get("status", {}).get("observedGeneration") != metadata["generation"]:
        CoreV1Api(client).patch_namespaced_config_map(
            metadata["name"], metadata["namespace"], page_of(website), **APPLY
        )
        report(api, this, website, ready="True", reason="Published")


def page_of(website: dict[str, Any]) -> dict[str, Any]:
    """Return the ConfigMap with the page, which goes when the Website does."""
    metadata = website["metadata"]
    owner = {
        "apiVersion": website["apiVersion"],
        "kind": website["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": metadata["name"], "ownerReferences": [owner]},
        "data": {"index.html": website["spec"]["text"]},
    }


def report(
    api: Any,
    this: dict[str, str],
    website: dict[str, Any],
    *,
    ready: str,
    reason: str,
    message: str = "",
) -> None:
    """Write the status, if it is another one."""
    told = {"type": "Ready", "status": ready, "reason": reason, "message": message}
    status = {
        "url": f"https://{website['spec']['host']}/",
        "observedGeneration": website["metadata"]["generation"],
        "conditions": [told],
    }
    if website.get("status") != status:
        api.patch_namespaced_custom_object_status(**this, body={"status": status})
