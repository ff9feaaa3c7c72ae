"""The user's handle on a cluster: verbs and waits, bound to a namespace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from pytest_kube import conditions, manifests
from pytest_kube.client import FIELD_MANAGER
from pytest_kube.errors import NotFoundError, hide_frames
from pytest_kube.history import History, Selection, read
from pytest_kube.objects import Object
from pytest_kube.waits import Wait

if TYPE_CHECKING:
    from pytest_kube.client import Client, Resource
    from pytest_kube.cluster import Cluster
    from pytest_kube.waits import ConditionLike, Running

__tracebackhide__ = hide_frames


@dataclass
class Kube:
    """A handle on a cluster, bound to a namespace.

    A *ref* names an object as kubectl does: ``"deployment/web"``, ``"po/web-0"``,
    ``"memcacheds.cache.example.com/sample"``; or it is the object itself.

    Attributes:
        cluster: The cluster.
        namespace: Where namespaced objects are, unless an object says otherwise.
        timeout: Seconds that a wait takes at most by default.
        folder: Where relative paths start: in tests, the folder of the ini file.
        controllers: The controllers under test; when one ends, waits fail at once.
        mark_revision: The revision at which the test began, where its history starts;
            ``None`` for everything that is known.
    """

    cluster: Cluster
    namespace: str
    timeout: float = 10.0
    folder: Path = Path()
    controllers: list[Running] = field(default_factory=list)
    mark_revision: int | None = None
    _made: list[tuple[Resource, str | None, str]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<Kube namespace={self.namespace!r} on {self.cluster.name}>"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig file of the cluster's administrator."""
        return self.cluster.kubeconfig

    @property
    def _client(self) -> Client:
        return self.cluster.client

    # --- verbs --------------------------------------------------------------

    @overload
    def apply(self, source: Mapping[str, Any]) -> Object: ...
    @overload
    def apply(
        self, source: str | Path | Sequence[Mapping[str, Any]]
    ) -> list[Object]: ...
    def apply(
        self, source: Mapping[str, Any] | str | Path | Sequence[Mapping[str, Any]]
    ) -> Object | list[Object]:
        """Create or update objects, by server-side apply with strict validation.

        Args:
            source: An object, a list of them, YAML text, or the path of a file or
                folder, relative to the folder of the ini file.

        Returns:
            The object as it is now; a list for anything but a single object.

        Raises:
            ManifestError: The source is not what kubectl would read.
            APIError: The API server refused an object, for example for a field that
                its kind does not have.

        Example:
            >>> kube.apply("examples/memcached.yaml")
            >>> kube.apply({"apiVersion": "v1", "kind": "ConfigMap",
            ...             "metadata": {"name": "settings"}, "data": {"a": "1"}})
        """
        objects = manifests.install_order(manifests.load(source, base=self.folder))
        is_path = isinstance(source, str | Path) and "\n" not in str(source)
        origin = str(source) if is_path else ""
        result = []
        for obj in objects:  # a CRD may stand before objects of its kind
            self._remember(obj)
            applied = self.cluster.apply([obj], namespace=self.namespace, source=origin)
            result += [Object(obj) for obj in applied]
        return result[0] if isinstance(source, Mapping) and len(result) == 1 else result

    def create(self, obj: Mapping[str, Any]) -> Object:
        """Create an object; ``metadata.generateName`` works.

        Raises:
            ConflictError: An object of that name exists.
            APIError: The API server refused it.
        """
        resource = self._client.resource_of(obj)
        where = obj.get("metadata", {}).get("namespace") or self.namespace
        created = self._client.request(
            "POST",
            resource.path(where),
            query={"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"},
            body=obj,
        )
        self._remember(created)
        return Object(created)

    def get(
        self, ref: str | Mapping[str, Any], *, namespace: str | None = None
    ) -> Object:
        """Return an object.

        Raises:
            NotFoundError: There is none.
        """
        return Object(self._client.request("GET", self._path(ref, namespace)))

    def find(
        self, ref: str | Mapping[str, Any], *, namespace: str | None = None
    ) -> Object | None:
        """Return an object, or ``None`` when there is none."""
        try:
            return self.get(ref, namespace=namespace)
        except NotFoundError:
            return None

    def list(
        self,
        kind: str,
        *,
        labels: str | Mapping[str, str] = "",
        fields: str = "",
        namespace: str | None = None,
    ) -> list[Object]:
        """Return all objects of a kind.

        Args:
            kind: Plural, singular, short name or Kind.
            labels: A label selector, ``"app=web,tier!=db"``, or a mapping.
            fields: A field selector, ``"status.phase=Running"``.
            namespace: Another namespace; ``""`` for all of them.
        """
        if isinstance(labels, Mapping):
            labels = ",".join(f"{k}={v}" for k, v in labels.items())
        resource = self._client.resource(kind)
        query = {"labelSelector": labels, "fieldSelector": fields}
        where = self.namespace if namespace is None else namespace
        answer = self._client.request(
            "GET", resource.path(where), query={k: v for k, v in query.items() if v}
        )
        # Items of a list come without the kind that the list has once for all.
        common = {"apiVersion": resource.api_version, "kind": resource.kind}
        return [Object({**common, **item}) for item in answer["items"]]

    def patch(
        self,
        ref: str | Mapping[str, Any],
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        type: str = "merge",  # noqa: A002  # kubectl's word
        subresource: str = "",
        namespace: str | None = None,
    ) -> Object:
        """Change an object.

        Args:
            ref: The object.
            patch: What to change; for ``type="json"`` a list of operations.
            type: ``merge``, ``json``, ``strategic`` or ``apply``.
            subresource: For example ``status`` or ``scale``.
            namespace: Another namespace than the handle's.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        if type == "apply":
            query["force"] = "true"
        path = self._path(ref, namespace, subresource)
        return Object(self._client.patch(path, patch, type_=type, query=query))

    def delete(
        self,
        ref: str | Mapping[str, Any],
        *,
        wait: bool = True,
        timeout: float | None = None,
        namespace: str | None = None,
    ) -> None:
        """Delete an object, and wait until it is gone; its uid tells.

        Args:
            ref: The object. It is no error when it does not exist any more.
            wait: Whether to wait.
            timeout: Seconds to wait at most; the handle's default when omitted.
            namespace: Another namespace than the handle's.

        Raises:
            WaitTimeoutError: It still exists; the text names its finalizers.
        """
        there = self.find(ref, namespace=namespace)
        if there is None:
            return
        options = {
            "propagationPolicy": "Background",
            "preconditions": {"uid": there.uid},
        }
        try:
            self._client.request("DELETE", self._path(there), body=options)
        except NotFoundError:
            return
        if wait:
            self.wait_for(there, conditions.deleted_uid(there.uid), timeout=timeout)

    # --- waits --------------------------------------------------------------

    def wait_for(
        self,
        ref: str | Mapping[str, Any],
        condition: ConditionLike,
        *,
        timeout: float | None = None,
        namespace: str | None = None,
    ) -> Object:
        """Wait until a condition holds for an object, and return the object.

        The object is listed, then watched: every version of it is looked at, and
        nothing is polled. When a controller under test ends meanwhile, its error is
        raised at once.

        Args:
            ref: The object; it need not exist yet.
            condition: A function of the object, or of ``None`` while there is none;
                one from ``pytest_kube``; or what ``kubectl wait --for`` takes, for
                example ``"condition=Ready"`` or ``"jsonpath={.status.phase}=Running"``.
            timeout: Seconds; the handle's default (``--kube-timeout``) when omitted.
            namespace: Another namespace than the handle's.

        Returns:
            The object for which the condition held. For a condition that holds
            without an object, such as ``deleted``: the object as last seen.

        Raises:
            WaitTimeoutError: It did not come true in time. The text shows the object
                as last seen, its events, and how the controllers are doing.
            ControllerExitedError: A controller under test ended.

        Example:
            >>> kube.wait_for("memcached/sample", condition("Available"))
            >>> kube.wait_for("deployment/sample",
            ...               lambda d: d and d["spec"]["replicas"] == 3)
        """
        __tracebackhide__ = True
        wanted = conditions.as_condition(condition)
        seconds = self.timeout if timeout is None else timeout
        if seconds < 0:
            raise ValueError(f"timeout={seconds}: expected seconds, 0 or more")
        resource, name, where = self._resolve(ref, namespace)
        wait = Wait(
            self.cluster,
            resource=resource,
            name=name,
            namespace=where,
            condition=wanted,
            timeout=seconds,
            controllers=self.controllers,
        )
        return Object(wait.run())

    # --- history ------------------------------------------------------------

    def history(self, ref: str | Mapping[str, Any] | None = None) -> History:
        """Return every change since the test began, exactly once, in order.

        Nothing is recorded while the test runs: etcd and the API server's audit log
        have it all, also what lasted but a millisecond. Objects are as they are
        stored, in the version that the API server stores their kind in.

        Args:
            ref: An object, as everywhere; or just a kind, for all objects of that
                kind in all namespaces; or nothing, for everything.

        Raises:
            ClusterError: The cluster's etcd is out of reach, or does not know any
                more what happened when the test began.

        Example:
            >>> kube.history("deployment/web").never(lambda d: d is None)
            >>> for version in kube.history("pods"):
            ...     print(version.time, version.ref, version.verb, version.user)
        """
        return read(self.cluster, self.mark_revision or 0, self._selection(ref))

    def _selection(self, ref: str | Mapping[str, Any] | None) -> Selection:
        if ref is None:
            return Selection()
        if isinstance(ref, str) and "/" not in ref:
            resource = self._client.resource(ref)
            text = f"{resource.plural} of all namespaces"
            return Selection(text, resource.group, resource.kind)
        resource, name, where = self._resolve(ref)
        there = f"{where}/" if resource.namespaced else ""
        return Selection(
            f"{resource.kind} {there}{name}",
            resource.group,
            resource.kind,
            where if resource.namespaced else None,
            name,
        )

    # --- what a test leaves -------------------------------------------------

    def made(self) -> Sequence[tuple[Resource, str | None, str]]:
        """Return what this handle made outside of its namespace: resource and name."""
        return tuple(self._made)

    def clean_up(self) -> None:
        """Delete the cluster-scoped objects this handle made, and the namespace.

        Nothing is waited for. Finalizers are removed: what should have handled them
        is gone by now.
        """
        if self.namespace:
            self._empty_namespace()
        for resource, namespace, name in reversed(self._made):
            self._remove(resource.path(namespace, name))

    def _empty_namespace(self) -> None:
        path = f"/api/v1/namespaces/{self.namespace}"
        looked_after = "controllers" in self.cluster.capabilities
        for resource in self._client.resources():
            if not (resource.namespaced and {"list", "delete"} <= resource.verbs):
                continue
            collection = resource.path(self.namespace)
            try:
                items = self._client.request("GET", collection)["items"]
            except NotFoundError:  # its CRD was deleted meanwhile
                continue
            for item in items:
                metadata = item["metadata"]
                # Where controllers run, deleting the namespace takes care of the rest.
                if metadata.get("finalizers") or not looked_after:
                    self._remove(f"{collection}/{metadata['name']}")
        self._remove(path)
        if not looked_after and (namespace := self.find(f"ns/{self.namespace}")):
            namespace["spec"] = {"finalizers": []}
            self._client.request("PUT", f"{path}/finalize", body=namespace)

    def _remove(self, path: str) -> None:
        try:
            left = self._client.request(
                "DELETE",
                path,
                body={"propagationPolicy": "Background", "gracePeriodSeconds": 0},
            )
            if left.get("metadata", {}).get("finalizers"):
                unfinished = {"metadata": {"finalizers": None}}
                self._client.patch(path, unfinished, type_="merge")
        except NotFoundError:
            pass

    def _remember(self, obj: Mapping[str, Any]) -> None:
        """Note what :meth:`clean_up` has to delete besides the namespace."""
        resource = self._client.resource_of(obj)
        metadata = obj["metadata"]
        namespace = metadata.get("namespace") or self.namespace
        made = (resource, namespace if resource.namespaced else None, metadata["name"])
        own = resource.namespaced and namespace == self.namespace
        if not own and made not in self._made and self._is_new(made):
            self._made.append(made)

    def _is_new(self, made: tuple[Resource, str | None, str]) -> bool:
        """Say whether this is the first we see of an object; others' stay."""
        resource, where, name = made
        try:
            there = self._client.request("GET", resource.path(where, name))
        except NotFoundError:
            return True
        managers = there["metadata"].get("managedFields") or []
        return bool(managers) and managers[0].get("manager") == FIELD_MANAGER

    # --- refs ---------------------------------------------------------------

    def _resolve(
        self, ref: str | Mapping[str, Any], namespace: str | None = None
    ) -> tuple[Resource, str, str]:
        if isinstance(ref, Mapping):
            metadata = ref.get("metadata") or {}
            if not metadata.get("name"):
                raise ValueError(
                    f"this object has no metadata.name: {dict(ref)!r:.200}"
                )
            resource = self._client.resource_of(ref)
            return (
                resource,
                metadata["name"],
                metadata.get("namespace") or self.namespace,
            )
        kind, slash, name = str(ref).partition("/")
        if not (kind and slash and name) or "/" in name:
            raise ValueError(
                f"{ref!r} names no object; write kind/name as for kubectl, for example "
                "'deployment/web' or 'memcacheds.cache.example.com/sample'"
            )
        resource = self._client.resource(kind)
        return resource, name, self.namespace if namespace is None else namespace

    def _path(
        self,
        ref: str | Mapping[str, Any],
        namespace: str | None = None,
        subresource: str = "",
    ) -> str:
        resource, name, where = self._resolve(ref, namespace)
        return resource.path(where, name, subresource)
