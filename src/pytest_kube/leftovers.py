"""What a test made and nobody rolls back: noted, and deleted at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kube.client import FIELD_MANAGER
from pytest_kube.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kube.cluster import Cluster
    from pytest_kube.discovery import Resource


@dataclass
class Leftovers:
    """The objects that a handle made, in its namespace and outside of it."""

    cluster: Cluster
    namespace: str
    _made: list[tuple[Resource, str, str]] = field(default_factory=list)

    @property
    def made(self) -> Sequence[tuple[Resource, str, str]]:
        """What was made outside of the namespace: resource, namespace, name."""
        return tuple(self._made)

    def remember(self, resource: Resource, namespace: str, name: str) -> None:
        """Note what :meth:`clean_up` has to delete besides the namespace."""
        made = (resource, namespace, name)
        own = resource.namespaced and namespace == self.namespace
        if not own and made not in self._made and self._is_new(made):
            self._made.append(made)

    def _is_new(self, made: tuple[Resource, str, str]) -> bool:
        """Say whether this is the first we see of an object; others' stay."""
        resource, where, name = made
        try:
            there = self.cluster.client.request("GET", resource.path(where, name))
        except NotFoundError:
            return True
        managers = there["metadata"].get("managedFields") or []
        return bool(managers) and managers[0].get("manager") == FIELD_MANAGER

    def clean_up(self) -> None:
        """Delete the cluster-scoped objects that were made, and the namespace.

        Nothing is waited for. Finalizers are removed: what should have handled them
        is gone by now.
        """
        if self.namespace:
            self._empty_namespace()
        for resource, namespace, name in reversed(self._made):
            self._remove(resource.path(namespace, name))

    def _empty_namespace(self) -> None:
        client = self.cluster.client
        path = f"/api/v1/namespaces/{self.namespace}"
        looked_after = "controllers" in self.cluster.capabilities
        for resource in client.resources():
            if not (resource.namespaced and {"list", "delete"} <= resource.verbs):
                continue
            collection = resource.path(self.namespace)
            try:
                items = client.list(collection).items
            except NotFoundError:  # its CRD was deleted meanwhile
                continue
            for item in items:
                metadata = item["metadata"]
                # Where controllers run, deleting the namespace takes care of the rest.
                if metadata.get("finalizers") or not looked_after:
                    self._remove(f"{collection}/{metadata['name']}")
        self._remove(path)
        if not looked_after:
            try:
                namespace = client.request("GET", path)
            except NotFoundError:
                return
            namespace["spec"] = {"finalizers": []}
            client.request("PUT", f"{path}/finalize", body=namespace)

    def _remove(self, path: str) -> None:
        client = self.cluster.client
        at_once = {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
        try:
            left = client.request("DELETE", path, body=at_once)
            if left.get("metadata", {}).get("finalizers"):
                unfinished = {"metadata": {"finalizers": None}}
                client.patch(path, unfinished, type_="merge")
        except NotFoundError:
            pass
