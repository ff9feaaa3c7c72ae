"""What a handle asks of the API server: verbs that are answered at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from reprlib import repr as brief
from typing import TYPE_CHECKING, Any, Literal, overload

from pytest_kube import events, manifests
from pytest_kube.client import FIELD_MANAGER
from pytest_kube.errors import (
    APIError,
    ConflictError,
    ManifestError,
    NotFoundError,
    hide_frames,
)
from pytest_kube.leftovers import Leftovers
from pytest_kube.objects import Object
from pytest_kube.steps import Steps, step

if TYPE_CHECKING:
    from pytest_kube.client import Client
    from pytest_kube.cluster import Cluster
    from pytest_kube.discovery import Resource
    from pytest_kube.observation import Running

__tracebackhide__ = hide_frames

PatchType = Literal["apply", "json", "merge", "strategic"]
Ref = str | Mapping[str, Any]
"""``"kind/name"``, or the object itself."""

_STRICT = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
_ATTEMPTS = 10
_QUOTED = re.compile(r'Invalid value: "\{.*\}": ', re.DOTALL)
_UNKNOWN = re.compile(r'unknown field "([^"]+)"')


@dataclass
class Verbs:
    """The requests of a handle; see `Kube`, which adds what takes time."""

    cluster: Cluster
    namespace: str
    timeout: float = 10.0
    folder: Path = Path()
    controllers: list[Running] = field(default_factory=list)
    mark_revision: int | None = None
    started: datetime = field(default_factory=lambda: datetime.now(UTC), repr=False)
    leftovers: Leftovers = field(init=False, repr=False)
    steps: Steps = field(default_factory=Steps, init=False, repr=False)
    log_sizes: Mapping[str, int] = field(default_factory=dict, init=False, repr=False)
    first_version: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        self.leftovers = Leftovers(self.cluster, self.namespace)

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig file of whom the handle acts as: the administrator."""
        return self.cluster.kubeconfig

    @property
    def _client(self) -> Client:
        return self.cluster.client

    # --- writing ------------------------------------------------------------

    @overload
    def apply(self, source: Mapping[str, Any], *, force: bool = False) -> Object: ...
    @overload
    def apply(
        self, source: str | Path | Sequence[Any], *, force: bool = False
    ) -> list[Object]: ...
    @overload
    def apply(self, source: manifests.Model, *, force: bool = False) -> Object: ...
    @step
    def apply(
        self,
        source: Mapping[str, Any] | str | Path | Sequence[Any] | manifests.Model,
        *,
        force: bool = False,
    ) -> Object | list[Object]:
        """Create or update objects, by server-side apply with strict validation.

        Args:
            source: An object, also one with ``to_dict()`` or ``model_dump()``; a list
                of them; YAML text; or the path of a file or folder, relative to the
                folder of the ini file.
            force: Whether to take over fields that somebody else has set to another
                value since: a controller, or a patch by somebody else than the test.

        Returns:
            The object as it is now; a list for anything but a single object.

        Raises:
            ManifestError: The source is not what kubectl would read.
            ConflictError: A field belongs to somebody else; the text says whose it is.
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
            resource = self._client.resource_of(obj)
            _check_name(obj)
            where = self._where(resource, obj)
            self.leftovers.remember_new(resource, where, obj["metadata"]["name"])
            applied = self.cluster.apply(
                [obj], namespace=self.namespace, source=origin, force=force
            )
            result += [Object(obj) for obj in applied]
        several = isinstance(source, str | Path | Sequence)
        return result if several or len(result) != 1 else result[0]

    @step
    def create(self, obj: Mapping[str, Any]) -> Object:
        """Create an object; ``metadata.generateName`` works.

        What is created at a subresource is sent there: an Eviction to the pod, a
        TokenRequest to the ServiceAccount that its name names.

        Raises:
            ConflictError: An object of that name exists.
            APIError: The API server refused it.

        Example:
            >>> kube.create({"apiVersion": "policy/v1", "kind": "Eviction",
            ...              "metadata": {"name": "web-0"}})
        """
        if sub := self._client.parent_of(obj):
            resource, subresource = sub
            name = _check_name(obj)
            path = resource.path(self._where(resource, obj), name, subresource)
            return Object(self._client.request("POST", path, body=obj))
        resource = self._client.resource_of(obj)
        where = self._where(resource, obj)
        path = resource.path(where)
        created = self._client.request("POST", path, query=_STRICT, body=obj)
        if name := created["metadata"].get("name"):  # reviews are answers only
            self.leftovers.remember(resource, where, name)
        return Object(created)

    @overload
    def update(self, ref: Mapping[str, Any], *, subresource: str = "") -> Object: ...
    @overload
    def update(
        self,
        ref: Ref,
        change: Callable[[Object], object],
        *,
        subresource: str = "",
        namespace: str | None = None,
    ) -> Object: ...
    @step
    def update(
        self,
        ref: Ref,
        change: Callable[[Object], object] | None = None,
        *,
        subresource: str = "",
        namespace: str | None = None,
    ) -> Object:
        """Replace an object, unless somebody has changed it meanwhile.

        Args:
            ref: The object as it is to be, with the resourceVersion that was read; or,
                with *change*, which object.
            change: Changes the object in place. The object is read, changed and
                written, and that again when somebody else was faster.
            subresource: For example ``status``.
            namespace: Another namespace than the handle's.

        Raises:
            ConflictError: It was changed meanwhile; the text says by whom.
            NotFoundError: There is no such object.
            APIError: The API server refused it.

        Example:
            >>> kube.update("memcached/sample", lambda m: m["spec"].update(size=3))
        """
        __tracebackhide__ = True  # the error may be one of the user's function
        if change is None:
            return self._replace(ref, subresource)
        for attempt in range(1, _ATTEMPTS + 1):
            obj = self.get(ref, namespace=namespace)
            change(obj)
            try:
                return self._replace(obj, subresource)
            except ConflictError:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError  # pragma: no cover  # the loop returns or raises

    def _replace(self, obj: Ref, subresource: str) -> Object:
        if isinstance(obj, str):
            raise ValueError(  # noqa: TRY004  # as for every wrong ref
                f"update({obj!r}): pass the object as it is to be, or a function that "
                f"changes it: update({obj!r}, lambda obj: …)"
            )
        if not obj.get("metadata", {}).get("resourceVersion"):
            raise ManifestError(
                "update replaces an object that was read, and this one has no "
                "metadata.resourceVersion; get it first, pass a function that changes "
                "it, or use apply or patch"
            )
        path = self._path(obj, subresource=subresource)
        try:
            return Object(self._client.request("PUT", path, query=_STRICT, body=obj))
        except ConflictError as e:
            self._explain_conflict(e, obj)
            raise

    def _explain_conflict(self, error: ConflictError, obj: Mapping[str, Any]) -> None:
        there = self.find(obj)
        if there is None or there.uid != obj["metadata"].get("uid", there.uid):
            what = "it was deleted meanwhile"
        else:
            managers = there["metadata"].get("managedFields") or [{}]
            latest = max(managers, key=lambda m: str(m.get("time")))
            what = (
                f"it was changed meanwhile, last by {latest.get('manager')}: "
                f"resourceVersion {obj['metadata']['resourceVersion']} was read, "
                f"{there['metadata']['resourceVersion']} is there; read it again, or "
                "pass a function that changes it"
            )
        error.args = (f"updating {obj.get('kind')} {_name(obj)}: {what}\n  {error}",)

    @step
    def patch(
        self,
        ref: Ref,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        type: PatchType = "merge",  # noqa: A002  # kubectl's word
        subresource: str = "",
        namespace: str | None = None,
    ) -> Object:
        """Change an object.

        Args:
            ref: The object.
            patch: What to change; for ``type="json"`` a list of operations.
            type: ``merge``, ``json``, ``strategic`` or ``apply``; the last one takes
                fields over from others.
            subresource: For example ``status``, ``scale`` or ``ephemeralcontainers``.
            namespace: Another namespace than the handle's.

        Raises:
            NotFoundError: There is no such object, or no such subresource.
            APIError: The API server refused the change.

        Example:
            >>> kube.patch("memcached/sample", {"status": {"phase": "Ready"}},
            ...            subresource="status")
        """
        resource, name, _ = self._resolve(ref, namespace)
        path = self._path(ref, namespace, subresource)
        query = _STRICT
        if (type == "json") == isinstance(patch, Mapping):
            wanted = "a list of operations" if type == "json" else "a mapping"
            raise ValueError(f"a patch of type {type} is {wanted}: {brief(patch)}")
        if type == "apply" and isinstance(patch, Mapping):
            query = {**_STRICT, "force": "true"}
            known = {"apiVersion": resource.api_version, "kind": resource.kind}
            metadata = {"name": name, **patch.get("metadata", {})}
            patch = {**known, **patch, "metadata": metadata}
        try:
            return Object(self._client.patch(path, patch, type_=type, query=query))
        except APIError as e:
            # Some answers quote the whole object before they come to the point.
            text = _QUOTED.sub("", str(e))
            typo = _UNKNOWN.search(text)
            found = f"unknown field {typo[1]}: " if typo else ""
            e.args = (f"patching {resource.kind} {name}: {found}{text}",)
            raise

    @step
    def scale(self, ref: Ref, replicas: int, *, namespace: str | None = None) -> Object:
        """Change the number of replicas; custom resources with a scale can, too.

        Returns:
            The object's ``Scale``.

        Raises:
            ValueError: Objects of that kind have no scale.
            NotFoundError: There is no such object.
        """
        resource, name, where = self._resolve(ref, namespace)
        if "scale" not in resource.subresources:
            raise ValueError(
                f"{resource.kind} {name} cannot be scaled: its kind has no subresource "
                "scale; in a CRD, spec.versions[].subresources.scale says where it is"
            )
        path = resource.path(where, name, "scale")
        body = {"spec": {"replicas": replicas}}
        return Object(self._client.patch(path, body, type_="merge", query=_STRICT))

    # --- reading ------------------------------------------------------------

    @step
    def get(
        self, ref: Ref, *, subresource: str = "", namespace: str | None = None
    ) -> Object:
        """Return an object, or its subresource.

        Raises:
            NotFoundError: There is none.
        """
        path = self._path(ref, namespace, subresource)
        return Object(self._client.request("GET", path))

    @step
    def find(self, ref: Ref, *, namespace: str | None = None) -> Object | None:
        """Return an object, or ``None`` when there is none."""
        try:
            return self.get(ref, namespace=namespace)
        except NotFoundError:
            return None

    @step
    def events(self, ref: Ref, *, namespace: str | None = None) -> list[Object]:
        """Return the Kubernetes Events about an object, oldest first.

        Those about an earlier object of that name are among them.
        """
        resource, name, where = self._resolve(ref, namespace)
        return [Object(e) for e in events.about(self._client, resource, name, where)]

    # --- refs ---------------------------------------------------------------

    def _resolve(
        self, ref: Ref, namespace: str | None = None
    ) -> tuple[Resource, str, str]:
        if isinstance(ref, Mapping):
            resource = self._client.resource_of(ref)
            return resource, _check_name(ref), self._where(resource, ref, namespace)
        kind, slash, name = str(ref).partition("/")
        if not (kind and slash and name) or "/" in name or ref != ref.strip():
            raise ValueError(
                f"{ref!r} names no object; write kind/name as for kubectl, for example "
                "'deployment/web' or 'memcacheds.cache.example.com/sample'"
            )
        resource = self._client.resource(kind)
        return resource, name, self._where(resource, {}, namespace)

    def _kind(self, kind: str, namespace: str | None) -> tuple[Resource, str]:
        """Return the resource and the namespace of a collection, empty for all."""
        if "/" in kind:
            raise ValueError(
                f"{kind!r} names one object, and a kind is meant: write "
                f"{kind.partition('/')[0]!r}"
            )
        resource = self._client.resource(kind)
        if namespace and not resource.namespaced:
            self._where(resource, {}, namespace)
        where = self.namespace if namespace is None else namespace
        return resource, where if resource.namespaced else ""

    def _where(
        self,
        resource: Resource,
        obj: Mapping[str, Any],
        namespace: str | None = None,
    ) -> str:
        """Return the namespace that is meant, empty for a cluster-scoped object."""
        own = (obj.get("metadata") or {}).get("namespace")
        if not resource.namespaced:
            if own or namespace:
                raise ValueError(
                    f"{resource.kind} is cluster-scoped: its objects are in no "
                    f"namespace, and {own or namespace!r} was given; leave it out"
                )
            return ""
        if namespace == "":
            raise ValueError(
                f"{resource.kind} is namespaced: namespace='' means all namespaces, "
                "and that is for list only; name the one of the object"
            )
        if own and namespace and own != namespace:
            raise ValueError(
                f"{resource.kind} {_name(obj)} is in namespace {own!r}, and "
                f"namespace={namespace!r} was given; leave one of them out"
            )
        return str(own or namespace or self.namespace)

    def _path(
        self, ref: Ref, namespace: str | None = None, subresource: str = ""
    ) -> str:
        resource, name, where = self._resolve(ref, namespace)
        if subresource and subresource not in resource.subresources:
            has = ", ".join(sorted(resource.subresources)) or "none"
            raise ValueError(
                f"{resource.kind} has no subresource {subresource!r}; it has: {has}"
            )
        return resource.path(where, name, subresource)

    # Last, for in a class a method hides the type of that name from then on.

    @step
    def list(
        self,
        kind: str,
        *,
        labels: str | Mapping[str, str] = "",
        fields: str | Mapping[str, str] = "",
        namespace: str | None = None,
    ) -> list[Object]:
        """Return all objects of a kind, however many there are.

        Args:
            kind: Plural, singular, short name or Kind.
            labels: A label selector, ``"app=web,tier!=db"``, or a mapping.
            fields: A field selector, ``"status.phase=Running"``, or a mapping.
            namespace: Another namespace; ``""`` for all of them.
        """
        resource, where = self._kind(kind, namespace)
        items = self._client.list(
            resource.path(where), labels=labels, fields=fields
        ).items
        return [Object(item) for item in resource.whole(items)]


def _check_name(obj: Mapping[str, Any]) -> str:
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not name:
        remedy = ""
        if isinstance(metadata, Mapping) and metadata.get("generateName"):
            remedy = "; what has a generateName is created by create"
        raise ManifestError(
            f"this object has no metadata.name{remedy}: {brief(dict(obj))}"
        )
    return str(name)


def _name(obj: Mapping[str, Any]) -> str:
    return str((obj.get("metadata") or {}).get("name"))
