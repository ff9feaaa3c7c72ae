"""A cluster as everything above sees it, whoever created it."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pytest_kube import crds, manifests
from pytest_kube.belongings import Made
from pytest_kube.client import FIELD_MANAGER
from pytest_kube.errors import (
    APIError,
    ClusterError,
    ConflictError,
    ManifestError,
    NotFoundError,
    hide_frames,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from pytest_kube.belongings import Belongings
    from pytest_kube.client import Client
    from pytest_kube.profiles import Profile
    from pytest_kube.settings import Settings
    from pytest_kube.state.rollback import Mark, State
    from pytest_kube.system.processes import Guardian

__tracebackhide__ = hide_frames

Power = Literal["pause", "resume", "kill", "start", "restart"]
"""What can be done to the machine of a node."""

_OWNER = re.compile(r'conflict with "([^"]+)"')
_UNDECLARED = re.compile(r"(\.\S+): field not declared in schema")


class Provider(Protocol):
    """A way to get a cluster; named by the entry-point group pytest_kube.providers."""

    def __call__(
        self, profile: Profile, settings: Settings, report: Callable[[str], None]
    ) -> AbstractContextManager[Cluster]:
        """Create a cluster, and delete it at the end of the context.

        Args:
            profile: Which cluster.
            settings: How to get it, for example without network.
            report: Takes a line on what is being done, for people who wait.
        """


class Machines(Protocol):
    """The machines that the nodes of a cluster are."""

    def names(self) -> list[str]:
        """Return what the nodes are called."""

    def do(self, what: Power, name: str) -> None:
        """Do something to one of them, and return when it is done.

        Raises:
            ClusterError: It did not work; the text says why.
        """

    def mend(self) -> None:
        """Bring back all that do not run, and wait until the cluster is well again.

        Raises:
            ClusterError: It does not become well.
        """


@dataclass(repr=False)
class Cluster:
    """A running cluster.

    Attributes:
        provider: What created it: ``envtest``, ``kwok``, ``kind``, ``existing``, …
        version: Its Kubernetes version, without a leading ``v``.
        client: Requests as cluster administrator.
        guardian: Owns the processes that belong to the cluster, and a folder.
        capabilities: What it can do: ``nodes`` (pods run, or seem to), ``pods`` (their
            containers really run), ``controllers`` (namespaces, ownership and
            workloads are looked after), ``rollback`` and ``history`` (its etcd is
            ours).
        identity: Makes the kubeconfig of a user with a name and groups.
        logs: Component name to log file.
        single_apiserver: Whether a new CRD needs to reach one API server only.
        state: What its etcd stores; ``None`` when its etcd is out of reach.
        audit: The API server's audit log, where there is one.
        flags: The flags of its API server that decide what is served.
        machines: What its nodes run on, where that can be had.
        kubectl: Finds the kubectl program, where ``pods`` can be used.
        check: Raises ClusterError when the cluster is known to be broken.
        namespace: Where tests are that get none of their own.
        belongings: What was made on it that has to be removed; ``None`` for a cluster
            of ours, which goes as a whole.
    """

    provider: str
    version: str
    client: Client
    guardian: Guardian
    capabilities: frozenset[str]
    identity: Callable[[str, Sequence[str]], Path]
    logs: Mapping[str, Path] = field(default_factory=dict)
    single_apiserver: bool = True
    state: State | None = None
    audit: Path | None = None
    flags: Mapping[str, str] = field(default_factory=dict)
    machines: Machines | None = None
    kubectl: Callable[[], Path] = lambda: Path("kubectl")
    check: Callable[[], None] = lambda: None
    namespace: str = "default"
    belongings: Belongings | None = None
    _crds: dict[str, Any] = field(default_factory=dict)
    _installed: tuple[tuple[Path, ...], ...] = ()
    _noted: dict[Mark, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig file of the cluster's administrator."""
        return self.client.kubeconfig

    @property
    def name(self) -> str:
        """What people call it: the provider and the Kubernetes version."""
        return f"{self.provider} cluster, Kubernetes v{self.version}"

    def log_sizes(self) -> dict[str, int]:
        """Return how many bytes the components have written to their logs."""
        return {
            name: path.stat().st_size
            for name, path in dict(self.logs).items()
            if path.exists()
        }

    def newest_version(self) -> str:
        """Return the resourceVersion that a list has now; empty if nobody may know."""
        try:
            answer = self.client.request(
                "GET", "/api/v1/namespaces", query={"limit": "1"}
            )
        except APIError:  # not everybody may list them
            return ""
        return str(answer["metadata"]["resourceVersion"])

    def create_namespace(self, name: str) -> None:
        """Create a namespace in which pods can be created at once."""
        namespaces = "/api/v1/namespaces"
        metadata: dict[str, Any] = {"name": name}
        if self.belongings:
            metadata["labels"] = self.belongings.labels
        self.client.request("POST", namespaces, body={"metadata": metadata})
        if self.belongings:
            gone = Made(f"{namespaces}/{name}", f"namespaces/{name}", "")
            self.belongings.note_going(gone)
        # Pods need it. The controller-manager, if there is one, makes it in a moment.
        refused = APIError if self.belongings else ConflictError  # not for this user
        with contextlib.suppress(refused):
            self.client.request(
                "POST",
                f"{namespaces}/{name}/serviceaccounts",
                body={"metadata": {"name": "default"}},
            )

    def has_installed(self, crd: str) -> bool:
        """Say whether a CRD is one of those that the run is about."""
        return crd in self._crds

    def mark(self) -> Mark:
        """Remember the state of the whole cluster, for :meth:`roll_back`.

        Raises:
            ClusterError: Its etcd is out of reach.
        """
        mark = self._state().mark()
        self._noted[mark] = (dict(self._crds), self._installed)
        return mark

    def roll_back(self, mark: Mark) -> None:
        """Bring the whole cluster back to *mark*, and wait until it stays there.

        Raises:
            ClusterError: It failed; the state of the cluster is unknown.
        """
        self.check()
        written = self._state().roll_back(mark)
        known, self._installed = self._noted[mark]
        self._crds = dict(known)
        prefix = "/registry/apiextensions.k8s.io/customresourcedefinitions/"
        names = {k.removeprefix(prefix): v for k, v in written.items() if prefix in k}
        if names:
            crds.await_discovery(
                self.client, {name: v is not None for name, v in names.items()}
            )
        self.check()

    def release(self, mark: Mark) -> None:
        """Forget a mark that nobody goes back to any more."""
        self._noted.pop(mark, None)
        self._state().release(mark)

    def _state(self) -> State:
        if self.state is None:
            raise ClusterError(
                f"{self.name}: no rollback, for its etcd is out of reach; "
                "clusters of kwok, envtest and kind have it"
            )
        return self.state

    def install(self, crd_files: Sequence[Path], applied: Sequence[Path]) -> None:
        """Install CRDs, then apply manifests in the order that they need.

        What was installed last is not installed again.

        Args:
            crd_files: Files and folders, for :meth:`install_crds`.
            applied: Files and folders with manifests.
        """
        asked = (tuple(crd_files), tuple(applied))
        if asked == self._installed:
            return
        self.install_crds(crd_files)
        for path in applied:
            for obj in manifests.install_order(manifests.load(path)):
                labelled = self._noted_new(obj) if self.belongings else obj
                self.apply([labelled], namespace=self.namespace, source=str(path))
        self._installed = asked

    def _noted_new(self, obj: Mapping[str, Any]) -> Mapping[str, Any]:
        """Note an object that is not there yet, and return it with our labels."""
        belongings, metadata = self.belongings, obj["metadata"]
        assert belongings is not None  # noqa: S101
        resource = self.client.resource_of(obj)
        where = metadata.get("namespace") or self.namespace
        made = Made.of(resource, where, metadata["name"])
        try:
            there = self.client.request("GET", made.path)
        except NotFoundError:
            belongings.note(made)
        else:
            if not belongings.has_made(there):
                return obj
        labels = {**(metadata.get("labels") or {}), **belongings.labels}
        return {**obj, "metadata": {**metadata, "labels": labels}}

    def loaded(self, crd_files: Sequence[Path], applied: Sequence[Path]) -> None:
        """Note that the state holds these already; wait until the CRDs are served."""
        self._installed = (tuple(crd_files), tuple(applied))
        if crd_files:
            self._await_crds(self.client.request("GET", crds.PATH)["items"])

    def install_crds(self, paths: Iterable[Path]) -> None:
        """Install the CRDs in files and folders, and wait until they can be used.

        Usable means: Established, served, listed by discovery, and an object of the
        kind can be created at once.

        Raises:
            ManifestError: A file is missing, holds something else than CRDs, or the
                API server finds a CRD invalid.
            ClusterError: A CRD of that name with other content is installed already,
                or the API server did not serve it in time.
        """
        found: dict[str, dict[str, Any]] = {}
        files: dict[str, Path] = {}
        for path in paths:
            for crd in manifests.load(path):
                manifests.check_crd(crd, path)
                name = crd["metadata"]["name"]
                if found.setdefault(name, crd) != crd:
                    raise ManifestError(
                        f"CRD {name} stands in two files with different content",
                        source=path,
                    )
                files[name] = path
        new = {name: crd for name, crd in found.items() if self._crds.get(name) != crd}
        self._create([(crd, files[name]) for name, crd in new.items()])
        self._await_crds(new.values())
        self._crds.update(new)

    def _create(self, new: Sequence[tuple[dict[str, Any], Path]]) -> None:
        if self.belongings is None:
            crds.create(self.client, new)
            return
        for crd, source in new:
            path = f"{crds.PATH}/{crd['metadata']['name']}"
            before = crds.adopt(
                self.client,
                crd,
                source,
                labels=self.belongings.labels,
                replace=self.belongings.replace_crds,
                note=self.belongings.notes.append,
            )
            if before is None:
                ref = f"customresourcedefinitions/{crd['metadata']['name']}"
                self.belongings.note(Made(path, ref, ""))
            elif before:
                self.belongings.note_replaced(path, before)

    def _await_crds(self, established: Iterable[Mapping[str, Any]]) -> None:
        log = self.logs.get("kube-apiserver")
        single = self.single_apiserver
        crds.await_served(self.client, list(established), single=single, log=log)

    def apply(
        self,
        objects: Iterable[Mapping[str, Any]],
        *,
        namespace: str,
        source: str = "",
        force: bool = True,
    ) -> list[dict[str, Any]]:
        """Apply objects server-side, strictly, and return them as they are now.

        Args:
            objects: What is to be there.
            namespace: Where objects are that do not say it themselves.
            source: Where they come from, for the text of an error.
            force: Whether to take over what others have set to another value.

        Raises:
            APIError: The API server refused one; the text names it and *source*.
        """
        applied = []
        for obj in objects:
            try:
                applied.append(self._apply(obj, namespace, force=force))
            except APIError as e:
                origin = f" from {source}" if source else ""
                what = f"{obj['kind']} {obj['metadata']['name']}{origin}"
                e.args = (f"applying {what}: {_found(e)}{e}",)
                raise
            if manifests.is_crd(obj):
                self._await_crds([obj])
        return applied

    def _apply(self, obj: Mapping[str, Any], namespace: str, *, force: bool) -> Any:
        resource = self.client.resource_of(obj)
        metadata = obj["metadata"]
        where = metadata.get("namespace") or namespace
        path = resource.path(where, metadata["name"])
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        forced = {**query, "force": "true"}
        try:
            return self.client.patch(
                path, obj, type_="apply", query=forced if force else query
            )
        except ConflictError as e:
            # What a test has patched before, it may apply.
            owners = {owner for owner, _ in _conflicts(e)}
            if owners != {FIELD_MANAGER}:
                raise
        return self.client.patch(path, obj, type_="apply", query=forced)


def _conflicts(error: APIError) -> list[tuple[str, str]]:
    """Return who has set which field, of an apply that was refused for it."""
    causes = (error.details.get("details") or {}).get("causes") or ()
    return [
        (
            found[1] if (found := _OWNER.search(cause["message"])) else "?",
            cause["field"],
        )
        for cause in causes
        if cause.get("reason") == "FieldManagerConflict"
    ]


def _found(error: APIError) -> str:
    """Return what is wrong, in few words, where the server says it in many."""
    if typo := _UNDECLARED.search(str(error)):
        return f"unknown field {typo[1]}: "
    fields = [f"{field} belongs to {owner}" for owner, field in _conflicts(error)]
    if not fields:
        return ""
    return (
        f"{', '.join(fields)}, who set another value; leave it out of what is applied, "
        "or take it over by force=True\n  "
    )
