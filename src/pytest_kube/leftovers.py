"""What a test made and nobody rolls back: noted, and deleted at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_kube.belongings import Made
from pytest_kube.errors import APIError, KubeError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kube.cluster import Cluster
    from pytest_kube.discovery import Resource


@dataclass
class Leftovers:
    """The objects that a handle made, in its namespace and outside of it.

    Attributes:
        cluster: The cluster.
        namespace: The handle's.
        is_own: Whether nobody else uses that namespace, and it goes as a whole.
    """

    cluster: Cluster
    namespace: str
    is_own: bool = True
    _made: list[tuple[Resource, str, str]] = field(default_factory=list)

    @property
    def made(self) -> Sequence[tuple[Resource, str, str]]:
        """What was made outside of the namespace: resource, namespace, name."""
        return tuple(made for made in self._made if not self._is_inside(*made[:2]))

    def remember(self, resource: Resource, namespace: str, name: str) -> None:
        """Note what :meth:`clean_up` has to delete besides the namespace."""
        made = (resource, namespace, name)
        goes = self.is_own and self._is_inside(resource, namespace)
        if not goes and made not in self._made:
            self._made.append(made)

    def remember_new(self, resource: Resource, namespace: str, name: str) -> None:
        """Note what is about to be applied, if it is not there yet; others' stay."""
        client = self.cluster.client
        goes = self.is_own and self._is_inside(resource, namespace)
        if goes or client.read_only or (resource, namespace, name) in self._made:
            return
        try:
            client.request("GET", resource.path(namespace, name))
        except NotFoundError:
            self.remember(resource, namespace, name)
        except APIError:
            pass  # who may not even look will not write it either

    def _is_inside(self, resource: Resource, namespace: str) -> bool:
        return resource.namespaced and namespace == self.namespace

    def clean_up(self) -> None:
        """Delete the cluster-scoped objects that were made, and the namespace.

        Nothing is waited for. Finalizers are removed: what should have handled them
        is gone by now.
        """
        if self.is_own:
            self._empty_namespace()
        for resource, namespace, name in reversed(self._made):
            self._remove(resource, namespace, name)

    def _empty_namespace(self) -> None:
        client = self.cluster.client
        path = f"/api/v1/namespaces/{self.namespace}"
        looked_after = "controllers" in self.cluster.capabilities
        for resource in client.resources():
            if not (resource.namespaced and {"list", "delete"} <= resource.verbs):
                continue
            if looked_after and not self._is_ours(resource):
                continue
            for item in self._there(resource):
                metadata = item["metadata"]
                # Where controllers run, deleting the namespace takes care of the rest.
                if metadata.get("finalizers") or not looked_after:
                    self._remove(resource, self.namespace, metadata["name"])
        self._remove(client.resource("namespaces"), "", self.namespace)
        if not looked_after:
            try:
                namespace = client.request("GET", path)
            except NotFoundError:
                return
            namespace["spec"] = {"finalizers": []}
            client.request("PUT", f"{path}/finalize", body=namespace)

    def _there(self, resource: Resource) -> list[dict[str, Any]]:
        try:
            return self.cluster.client.list(resource.path(self.namespace)).items
        except NotFoundError:  # its CRD was deleted meanwhile
            return []
        except APIError:
            if self.cluster.belongings is None:
                raise
            return []  # the namespace goes all the same

    def _is_ours(self, resource: Resource) -> bool:
        """Say whether nobody else handles the finalizers of objects of a kind.

        On somebody's cluster a finalizer may guard a disk or a load balancer.
        """
        cluster = self.cluster
        return cluster.belongings is None or cluster.has_installed(resource.full_name)

    def _remove(self, resource: Resource, namespace: str, name: str) -> None:
        borrowed = self.cluster.belongings
        try:
            self._delete(resource, namespace, name)
        except NotFoundError:
            pass
        except KubeError as e:
            if borrowed is None:
                raise
            borrowed.not_removed(Made.of(resource, namespace, name), e)

    def _delete(self, resource: Resource, namespace: str, name: str) -> None:
        client = self.cluster.client
        path = resource.path(namespace, name)
        how: dict[str, Any] = {"propagationPolicy": "Background"}
        if self.cluster.belongings is None:
            how["gracePeriodSeconds"] = 0
        left = client.request("DELETE", path, body=how)
        if not left.get("metadata", {}).get("finalizers"):
            return
        if self._is_ours(resource):
            unfinished = {"metadata": {"finalizers": None}}
            client.patch(path, unfinished, type_="merge")
        elif self.cluster.belongings:
            going = Made.of(resource, namespace, name)
            self.cluster.belongings.note_going(going)
