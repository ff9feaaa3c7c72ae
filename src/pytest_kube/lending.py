"""What tests borrow: handles on the cluster, clients, controllers; and take back."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.binaries.releases import resolve_version
from pytest_kube.errors import (
    APIError,
    ClusterError,
    KubeError,
    RollbackError,
    SettingsError,
    hide_frames,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from pytest_kube.client import Client
    from pytest_kube.cluster import Cluster
    from pytest_kube.controllers.runner import Controller
    from pytest_kube.failures import Failures
    from pytest_kube.kube import Kube
    from pytest_kube.session import Session
    from pytest_kube.state.rollback import Mark

__tracebackhide__ = hide_frames

_MARGIN, _MARGIN_SHARE = 2.0, 0.2
"""Seconds between the end of a wait and that of a test by pytest-timeout, at most; for
a short one this share of it."""

_FORBIDDEN = 403
_NAMESPACE_LENGTH = 63

_NAMES = {"session": "kube_session", "module": "kube_module", "function": "kube"}
_SCOPES = tuple(_NAMES)
"""From wide to narrow."""


@dataclass(eq=False)
class _Lent:
    """A handle in use.

    Attributes:
        scope: Of its fixture.
        mark: Where the cluster was before.
        renewals: How many clusters were lost before.
    """

    scope: str
    mark: Mark | None
    renewals: int


class Lending:
    """What the tests of one pytest run have borrowed of its cluster."""

    def __init__(self, session: Session, failures: Failures) -> None:
        self._session = session
        self._failures = failures
        self._lent: list[_Lent] = []
        self._handles: list[Kube] = []
        self._deadline: float | None = None

    @contextlib.contextmanager
    def handle(
        self, node: pytest.Item | pytest.Collector, scope: str
    ) -> Iterator[Kube]:
        """Lend a handle on a namespace of its own, for as long as *scope* lasts."""
        from pytest_kube.kube import Kube

        cluster = self._session.cluster()
        self._session.tests += scope == "function"
        self._check_nesting(scope, getattr(node, "fixturenames", ()))
        isolation = self._isolation(cluster, node)
        lent = _Lent(
            scope, cluster.mark() if cluster.state else None, self._session.renewals
        )
        self._lent.append(lent)
        try:
            marked = _marked(node)
            if why := self.unfit(node, cluster.version):
                pytest.skip(why)
            base = node.path.parent
            cluster.install(
                tuple(base / p for p in _listed(marked.get("crds"))),
                tuple(base / p for p in _listed(marked.get("manifests"))),
            )
            shared = isolation == "none"
            own = _namespace_name(node.name or "session")
            name = cluster.namespace if shared else own
            handle = Kube(
                cluster, name, self._session.settings.timeout, _folder(node.config)
            )
            handle.leftovers.is_own = not shared
            handle.deadline = self._deadline
            if lent.mark:
                handle.mark_revision = lent.mark.since
            handle.log_sizes = cluster.log_sizes()
            if cluster.state is None:
                handle.first_version = cluster.newest_version()
            if not shared:
                self._create_namespace(cluster, name)
            self._handles.append(handle)
            try:
                with self._failures.watch(node, handle):
                    yield handle
            finally:
                self._handles = [h for h in self._handles if h is not handle]
                if cluster.machines:
                    cluster.machines.mend()
                if isolation == "namespace" or cluster.belongings:
                    handle.leftovers.clean_up()
        finally:
            self._lent.remove(lent)
            if lent.mark and lent.renewals == self._session.renewals:
                self._give_back(cluster, lent.mark, back=isolation == "rollback")

    def _create_namespace(self, cluster: Cluster, name: str) -> None:
        try:
            cluster.create_namespace(name)
        except APIError as e:
            if cluster.belongings and e.status == _FORBIDDEN:
                raise ClusterError(
                    "a namespace for the test cannot be made: "
                    f"{e.details.get('message', e)}\n  With --kube-isolation=none the "
                    f"tests share the namespace of the context, {cluster.namespace}"
                ) from None
            raise
        except ClusterError as e:
            if cluster.belongings:
                raise
            self._session.lose()
            e.add_note("The next test gets a new cluster.")
            raise

    def unfit(
        self, node: pytest.Item | pytest.Collector, version: str = ""
    ) -> str | None:
        """Say why a test is not for a version; ``None`` if it is, or nobody knows yet.

        Args:
            node: The test.
            version: The version; that which was asked for when omitted.
        """
        wanted = _marked(node).get("version")
        if not wanted or not (
            version or self._session.settings.profile.provider != "existing"
        ):
            return None
        from packaging.specifiers import SpecifierSet

        if not version:
            parameters = getattr(getattr(node, "callspec", None), "params", {})
            asked = parameters.get("kube_version", self._session.settings.version)
            version = resolve_version(asked)
        if SpecifierSet(wanted).contains(version):
            return None
        return f"needs Kubernetes {wanted}; this is {version}"

    def limit(self, seconds: float | None) -> None:
        """Let every wait end before the test is ended from outside.

        Args:
            seconds: When that will be, from now; ``None`` for never.
        """
        self._deadline = None
        if seconds:
            margin = min(_MARGIN, seconds * _MARGIN_SHARE)
            self._deadline = time.monotonic() + seconds - margin
        for handle in self._handles:
            handle.deadline = self._deadline

    def _check_nesting(self, scope: str, used: Collection[str]) -> None:
        """Refuse what a rollback would break, and what a lost cluster has broken.

        Args:
            scope: Of the fixture that is asked for.
            used: The fixtures of the test; one that uses none of a wider scope does
                not miss what they had made.
        """
        for lent in self._lent:
            if _SCOPES.index(lent.scope) >= _SCOPES.index(scope):
                inner = _NAMES[lent.scope]
                remedy = (
                    "ask for it by a fixture or an argument, not by getfixturevalue in "
                    "the middle of a test"
                    if lent.scope == "function"
                    else f"the first test that uses {inner} has to use it, too"
                )
                raise SettingsError(
                    f"{_NAMES[scope]} was asked for while {inner} was in use, whose "
                    f"rollback would undo it; {remedy}"
                )
            if lent.renewals != self._session.renewals and _NAMES[lent.scope] in used:
                raise ClusterError(
                    f"what {_NAMES[lent.scope]} made is gone: the cluster was lost in "
                    "an earlier test, whose error says why, and this is a new one"
                )

    def _give_back(self, cluster: Cluster, mark: Mark, *, back: bool) -> None:
        """Roll back to *mark*, or else see to it that the next test gets a new cluster.

        Raises:
            ClusterError: It did not work, and why.
        """
        try:
            if back:
                cluster.roll_back(mark)
            cluster.release(mark)
        except BaseException as e:
            # Also when it was interrupted: nobody knows what it is now.
            self._session.lose()
            if not isinstance(e, KubeError):
                raise
            raise RollbackError(
                f"after this test: {e}\n  The next test gets a new cluster."
            ) from e

    @contextlib.contextmanager
    def official_client(self, kube: Kube) -> Iterator[Any]:
        """Lend the official client, with a discovery cache of this cluster's own."""
        from kubernetes import config as kubernetes_config
        from kubernetes.dynamic import DynamicClient

        cluster = kube.cluster
        api = kubernetes_config.new_client_from_config(
            config_file=str(cluster.kubeconfig)
        )
        # A file of the test's own, for with a rollback CRDs come and go.
        cache = cluster.guardian.directory / f"discovery-{kube.namespace}.json"
        _guard(api, cluster.client)
        with api:
            # By default it caches in a file named after the server's URL, which the
            # next cluster on the same port would find.
            yield DynamicClient(api, cache_file=str(cache))

    @contextlib.contextmanager
    def controllers(
        self, kube: Kube, item: pytest.Item
    ) -> Iterator[Callable[..., Controller]]:
        """Lend a function that starts controllers; stop them all at the end."""
        from pytest_kube.controllers.starter import Starter

        marked = _marked(item).get("service_account")
        starter = Starter(
            kube,
            self._session.settings,
            folder=_folder(item.config),
            wide=self._isolation(kube.cluster, item) != "namespace"
            and kube.cluster.belongings is None,
            service_account=marked,
            identities=self._session.identities,
            gates=self._session.gates,
        )
        try:
            with starter:
                yield starter.start
        except KubeError as e:
            # Now: pytest reports it when everything has been torn down.
            self._failures.note(item, str(e))
            raise

    def controller_spec(self, item: pytest.Item) -> tuple[Any, dict[str, Any]]:
        """Return the controller under test, and how it is run."""
        marked = _marked(item)
        spec = marked.get("controller") or self._session.settings.controller
        if not spec:
            raise SettingsError(
                "the fixture kube_controller needs to know the controller: set "
                "kube_controller in the ini file, for example kopf:src/operator.py, or "
                "use @pytest.mark.kube(controller=…)"
            )
        ready = (
            self._session.settings.controller_ready
            if "controller" not in marked
            else ""
        )
        ready = marked.get("ready", ready)
        return spec, {"ready": ready} if ready else {}

    def _isolation(self, cluster: Cluster, node: pytest.Item | pytest.Collector) -> str:
        asked = _marked(node).get("isolation") or self._session.settings.isolation
        if cluster.client.read_only:
            if asked == "namespace":
                cluster.client.refuse_write("isolation by namespace makes namespaces")
            asked = asked or "none"
        able = "rollback" in cluster.capabilities and not self._session.settings.share
        if asked == "rollback" and not able:
            raise SettingsError(
                f"isolation by rollback: the {cluster.name} cannot, for its etcd is "
                "out of reach; take namespace, or a cluster of kwok, envtest or kind"
            )
        return str(asked or ("rollback" if able else "namespace"))


def _marked(item: pytest.Item | pytest.Collector) -> dict[str, Any]:
    """Merge the arguments of all markers; the closest one wins."""
    merged: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers("kube"))):
        merged |= marker.kwargs
    return merged


def _guard(api: Any, client: Client) -> None:
    """Let the official client refuse what ours refuses."""
    send = api.rest_client.request

    def request(method: str, url: str, *args: Any, **how: Any) -> Any:
        if method not in {"GET", "HEAD"}:
            client.refuse_write(f"{method} {url}")
        return send(method, url, *args, **how)

    api.rest_client.request = request


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _folder(config: pytest.Config) -> Path:
    return config.inipath.parent if config.inipath else config.rootpath


def _namespace_name(test: str) -> str:
    """Make a legal namespace name of a test's; random, so that reruns differ."""
    slug = re.sub(r"[^a-z0-9]+", "-", test.lower()).strip("-") or "test"
    tail = f"-{secrets.token_hex(3)}"
    return slug[: _NAMESPACE_LENGTH - len(tail)].strip("-") + tail
