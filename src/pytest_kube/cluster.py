"""A cluster as everything above sees it, whoever created it."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pytest_kube import manifests
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
    from pathlib import Path

    from pytest_kube.client import Client
    from pytest_kube.profiles import Profile
    from pytest_kube.settings import Settings
    from pytest_kube.state.rollback import Mark, State
    from pytest_kube.system.processes import Guardian

__tracebackhide__ = hide_frames

FIELD_MANAGER = "pytest-kube"
CRD_TIMEOUT = 30.0
"""Seconds until a new CRD is served; a server under load has needed ten."""

_UNDECLARED = re.compile(r"(\.\S+): field not declared in schema")
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


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


@dataclass(repr=False)
class Cluster:
    """A running cluster.

    Attributes:
        provider: What created it: ``envtest``, ``kwok``, ``kind``, ``existing``, …
        version: Its Kubernetes version, without a leading ``v``.
        client: Requests as cluster administrator.
        guardian: Owns the processes that belong to the cluster, and a folder.
        capabilities: What it can do: ``nodes`` (pods run, or seem to),
            ``controllers`` (namespaces, ownership and workloads are looked after),
            ``rollback`` and ``history`` (its etcd is ours).
        identity: Makes the kubeconfig of a user with a name and groups.
        logs: Component name to log file.
        single_apiserver: Whether a new CRD needs to reach one API server only.
        state: What its etcd stores; ``None`` when its etcd is out of reach.
        audit: The API server's audit log, where there is one.
        check: Raises ClusterError when the cluster is known to be broken.
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
    check: Callable[[], None] = lambda: None
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

    def create_namespace(self, name: str) -> None:
        """Create a namespace in which pods can be created at once."""
        namespaces = "/api/v1/namespaces"
        self.client.request("POST", namespaces, body={"metadata": {"name": name}})
        # Pods need it. The controller-manager, if there is one, makes it in a moment.
        with contextlib.suppress(ConflictError):
            self.client.request(
                "POST",
                f"{namespaces}/{name}/serviceaccounts",
                body={"metadata": {"name": "default"}},
            )

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
        self._crds, self._installed = self._noted[mark]
        self._crds = dict(self._crds)
        prefix = "/registry/apiextensions.k8s.io/customresourcedefinitions/"
        crds = {k.removeprefix(prefix): v for k, v in written.items() if prefix in k}
        if crds:
            self._await_discovery({name: v is not None for name, v in crds.items()})
        self.check()

    def release(self, mark: Mark) -> None:
        """Forget a mark that nobody goes back to any more."""
        self._noted.pop(mark, None)
        self._state().release(mark)

    def _state(self) -> State:
        if self.state is None:
            raise ClusterError(
                f"{self.name}: no rollback, for its etcd is out of reach; "
                "clusters of kwok and envtest have it"
            )
        return self.state

    def _await_discovery(self, expected: Mapping[str, bool]) -> None:
        """Wait until discovery lists these kinds, by the names of CRDs, or does not."""
        deadline = time.monotonic() + CRD_TIMEOUT
        while time.monotonic() < deadline:
            served = {r.full_name for r in self.client.resources(refresh=True)}
            if all((name in served) is there for name, there in expected.items()):
                return
            time.sleep(0.004)
        raise ClusterError(
            f"{self.name}: after a rollback, discovery was still wrong about "
            f"{', '.join(expected)} after {CRD_TIMEOUT:.0f} s"
        )

    def install(self, crds: Sequence[Path], applied: Sequence[Path]) -> None:
        """Install CRDs, then apply manifests in the order that they need.

        What was installed last is not installed again.

        Args:
            crds: Files and folders, for :meth:`install_crds`.
            applied: Files and folders with manifests.
        """
        asked = (tuple(crds), tuple(applied))
        if asked == self._installed:
            return
        self.install_crds(crds)
        for path in applied:
            objects = manifests.install_order(manifests.load(path))
            self.apply(objects, namespace="default", source=str(path))
        self._installed = asked

    def loaded(self, crds: Sequence[Path], applied: Sequence[Path]) -> None:
        """Note that the state holds these already; wait until the CRDs are served."""
        self._installed = (tuple(crds), tuple(applied))
        deadline = time.monotonic() + CRD_TIMEOUT
        if crds:
            for crd in self.client.request("GET", _CRDS)["items"]:
                self._await_crd(crd, deadline)

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
        crds: dict[str, dict[str, Any]] = {}
        for path in paths:
            for crd in manifests.load(path):
                manifests.check_crd(crd, path)
                name = crd["metadata"]["name"]
                if crds.setdefault(name, crd) != crd:
                    raise ManifestError(
                        f"CRD {name} stands in two files with different content",
                        source=path,
                    )
                if self._crds.get(name) != crd:
                    self._create_crd(crd, path)
        new = {n: c for n, c in crds.items() if self._crds.get(n) != c}
        deadline = time.monotonic() + CRD_TIMEOUT
        for crd in new.values():
            self._await_crd(crd, deadline)
        self._crds.update(new)

    def _create_crd(self, crd: dict[str, Any], source: Path) -> None:
        name = crd["metadata"]["name"]
        strict = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        try:
            self.client.request("POST", _CRDS, query=strict, body=crd)
        except ConflictError:
            there = self.client.request("GET", f"{_CRDS}/{name}")
            metadata = {
                "name": name,
                "resourceVersion": there["metadata"]["resourceVersion"],
            }
            ours = self.client.request(
                "PUT",
                f"{_CRDS}/{name}",
                query={**strict, "dryRun": "All"},
                body={**crd, "metadata": metadata},
            )
            if ours["spec"] != there["spec"]:
                raise ClusterError(
                    f"CRD {name} from {source} is installed already, with other "
                    "content; delete the one in the cluster, or name only one file"
                ) from None
        except APIError as e:
            raise ManifestError(
                f"the API server refuses CRD {name}: {e.details.get('message', e)}",
                source=source,
            ) from e

    def _await_crd(self, crd: Mapping[str, Any], deadline: float) -> None:
        name, spec = crd["metadata"]["name"], crd["spec"]
        established = False
        missing = "status condition Established"
        served = [v["name"] for v in spec["versions"] if v.get("served")]
        plural = spec["names"]["plural"]
        while time.monotonic() < deadline:
            if not established:
                established = self._established(name)
            else:
                lacks = (self._unserved(spec["group"], v, plural) for v in served)
                missing = next(filter(None, lacks), "")
                if not missing:
                    return
            time.sleep(0.004)
        raise ClusterError(
            f"CRD {name} was not ready within {CRD_TIMEOUT:.0f} s: no {missing}. "
            f"kubectl get crd {name} -o yaml tells more, so does the API server's log: "
            f"{self.logs.get('kube-apiserver', 'not collected')}"
        )

    def _established(self, name: str) -> bool:
        crd = self.client.request("GET", f"{_CRDS}/{name}")
        conditions = crd.get("status", {}).get("conditions") or []
        state = {c["type"]: c for c in conditions}
        if state.get("NamesAccepted", {}).get("status") == "False":
            raise ClusterError(
                f"CRD {name} is not accepted: {state['NamesAccepted']['message']}"
            )
        if state.get("Established", {}).get("status") != "True":
            return False
        if self.single_apiserver:
            # The API server holds the first create of a kind whose CRD was established
            # less than 2 s ago, for other API servers' sake. There is none.
            for condition in conditions:
                condition["lastTransitionTime"] = "2020-01-01T00:00:00Z"
            self.client.patch(
                f"{_CRDS}/{name}/status",
                {"status": {"conditions": conditions}},
                type_="merge",
            )
        return True

    def _unserved(self, group: str, version: str, plural: str) -> str:
        """Say what is still missing before objects can be created, if anything is."""
        path = f"/apis/{group}/{version}"
        try:
            listed = self.client.request("GET", path)["resources"]
            if plural not in {r["name"] for r in listed}:
                return f"{plural} in discovery of {path}"
            self.client.request("GET", f"{path}/{plural}", query={"limit": "1"})
        except NotFoundError:
            return f"answer from {path}/{plural}"
        found = self.client.resources(refresh=True)
        key = (group, version, plural)
        if key not in {(r.group, r.version, r.plural) for r in found}:
            return f"{plural}.{group} in aggregated discovery"
        return ""

    def apply(
        self, objects: Iterable[Mapping[str, Any]], *, namespace: str, source: str = ""
    ) -> list[dict[str, Any]]:
        """Apply objects server-side, strictly, and return them as they are now.

        Raises:
            APIError: The API server refused one; the text names it and *source*.
        """
        query = {
            "fieldManager": FIELD_MANAGER,
            "fieldValidation": "Strict",
            "force": "true",
        }
        applied = []
        for obj in objects:
            resource = self.client.resource_of(obj)
            metadata = obj["metadata"]
            where = metadata.get("namespace") or namespace
            path = resource.path(where, metadata["name"])
            try:
                applied.append(self.client.patch(path, obj, type_="apply", query=query))
            except APIError as e:
                origin = f" from {source}" if source else ""
                typo = _UNDECLARED.search(str(e))
                found = f"unknown field {typo[1]}: " if typo else ""
                what = f"{obj['kind']} {metadata['name']}{origin}"
                e.args = (f"applying {what}: {found}{e}",)
                raise
            if manifests.is_crd(obj):
                self._await_crd(obj, time.monotonic() + CRD_TIMEOUT)
        return applied
