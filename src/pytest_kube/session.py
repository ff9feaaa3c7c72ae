"""What one pytest run owns: its settings, its cluster, and what tests borrow of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube import contexts, profiles
from pytest_kube.binaries.releases import image_version, resolve_version
from pytest_kube.errors import (
    APIError,
    ClusterError,
    KubeError,
    RollbackError,
    SettingsError,
    hide_frames,
)
from pytest_kube.settings import read
from pytest_kube.system.gates import Gates

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from contextlib import AbstractContextManager

    from pytest_kube.client import Client
    from pytest_kube.cluster import Cluster, Provider
    from pytest_kube.contexts import Context
    from pytest_kube.controllers.runner import Controller
    from pytest_kube.kube import Kube
    from pytest_kube.settings import Settings
    from pytest_kube.state.rollback import Mark

__tracebackhide__ = hide_frames

_CONTEXTLIB = Path(contextlib.__file__)

SECTION = pytest.StashKey[str]()
IS_COLLECTED = pytest.StashKey[bool]()
HANDLE = pytest.StashKey["Kube"]()

_MARGIN, _MARGIN_SHARE = 2.0, 0.2
"""Seconds between the end of a wait and that of a test by pytest-timeout, at most; for
a short one this share of it."""

FORBIDDEN = 403

_HANDED_OVER = "pytest-kube"
_NAMESPACE_LENGTH = 63
_FOLDER_NAME_LENGTH = 120


_NAMES = {"session": "kube_session", "module": "kube_module", "function": "kube"}
SCOPES = tuple(_NAMES)
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


class Session:
    """The settings and the cluster of one pytest run."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self.settings = settings
        self._stack = contextlib.ExitStack()
        self._cluster: Cluster | None = None
        self._error: Exception | None = None
        self._seconds = 0.0
        self._tests = 0
        self._artifacts = 0
        self._identities: dict[str, Path] = {}
        self._gates = Gates()
        self._lent: list[_Lent] = []
        self._handles: list[Kube] = []
        self._running: pytest.Item | None = None
        self._deadline: float | None = None
        self.timer: tuple[pytest.Item, Any] | None = None
        """What pytest-timeout counts down, and with which settings."""
        self._stale = False
        self._renewals = 0
        self._used: list[str] = []
        self._context: Context | None = None
        self._handed_over: list[dict[str, Any]] = []
        self._left: list[str] = []

    @classmethod
    def from_config(cls, config: pytest.Config) -> Session:
        """Read the settings; what is wrong with them becomes a usage error."""
        try:
            settings = read(config)
        except SettingsError as e:
            raise pytest.UsageError(str(e)) from e
        try:
            for version in settings.versions or (settings.version,):
                resolve_version(version)
        except SettingsError as e:
            raise pytest.UsageError(f"{settings.version_by}: {e}") from e
        session = cls(config, settings)
        if settings.profile.provider == "existing":
            try:
                session._context = contexts.chosen(settings)
            except KubeError as e:
                raise pytest.UsageError(str(e)) from e
        return session

    # --- what pytest prints -------------------------------------------------

    def header(self) -> str:
        """Return the line at the top: what was asked for."""
        profile = self.settings.profile
        text = f"kube: {profile.provider}"
        if profile.name != profile.provider:
            text += f" (profile {profile.name})"
        if self.settings.existing_by:
            text += f" ({self.settings.existing_by})"
        if self._context:
            writes = (
                "" if profile.allow_writes else "; only read, see --kube-allow-writes"
            )
            return f"{text}, {self._context}{writes}"
        versions = self.settings.versions or (self.settings.version,)
        known = image_version if profile.provider == "kind" else resolve_version
        return f"{text}, Kubernetes {', '.join(map(known, versions))}"

    def start_early(self) -> str | None:
        """Start the cluster before the first test; return the line that says so."""
        if self._config.option.collectonly:
            return None
        try:
            self.cluster()
        except Exception as e:  # noqa: BLE001  # each test that needs it raises it
            return f"kube: no cluster: {str(e).partition(chr(10))[0]}"
        return self._started()

    def summary(self) -> str | None:
        """Return the lines at the bottom: what was used, and what was left there."""
        lines = [*self._used, *self._summed_up()]
        if lines and self._artifacts:
            lines[-1] += f", diagnostics in {self._shown(self.settings.artifacts_dir)}"
        if self._left:
            lines += ["kube: left in the cluster, to be removed:", *self._left]
        return "\n".join(lines) or None

    def _summed_up(self) -> list[str]:
        """Return the line about the cluster of now, or about what came instead."""
        if self._cluster is None:
            if not (self._error and self.settings.versions):
                return []
            reason = str(self._error).partition("\n")[0]
            version = resolve_version(self.settings.version)
            return [f"kube: no cluster of Kubernetes {version}: {reason}"]
        return [
            f"{self._started()}; {self._tests} test{'s' if self._tests != 1 else ''}"
        ]

    def _started(self) -> str | None:
        if self._cluster is None:
            return None
        return f"kube: {self._cluster.name}, ready in {self._seconds:.1f} s"

    def _shown(self, path: Path) -> str:
        with contextlib.suppress(ValueError):
            return str(path.relative_to(self._config.invocation_params.dir))
        return str(path)

    def _report(self, line: str) -> None:
        """Show a line of progress now, whatever captures the output."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        with contextlib.ExitStack() as stack:
            if capture is not None:
                stack.enter_context(capture.global_and_fixture_disabled())
            if reporter is None:  # a worker of pytest-xdist
                sys.stderr.write(f"kube: {line}\n")
                sys.stderr.flush()
            else:
                reporter.write_line(f"kube: {line}")

    # --- the cluster --------------------------------------------------------

    def on_version(self, version: str) -> str:
        """Go over to another version, if there are several; return that of now.

        There is one cluster at a time: that of the version before is deleted.
        """
        if version and version != self.settings.version:
            self._used += self._summed_up()
            self._stack.close()
            self.settings = replace(self.settings, version=version)
            self._cluster, self._error, self._tests = None, None, 0
            self._stale = False
            self._identities.clear()
        return self.settings.version

    def cluster(self) -> Cluster:
        """Return the cluster, starting it at first use; fail alike ever after."""
        if isinstance(self._error, KubeError):
            # It says all there is to say; how it got here would be our insides.
            raise self._error.with_traceback(None)
        if self._error is not None:
            raise self._error
        if self._cluster is not None and self._is_lost(self._cluster):
            self._lose()
        if self._cluster is None or self._stale:
            try:
                fresh = self._start()
            except Exception as e:
                self._error = e
                self._stack.close()
                raise
            if self._cluster is None:
                self._cluster = fresh
            else:  # fixtures of a wide scope go on holding it
                self._cluster.__dict__.update(fresh.__dict__)
            self._stale = False
        return self._cluster

    def _is_lost(self, cluster: Cluster) -> bool:
        try:
            cluster.check()
        except ClusterError as e:
            self._report(f"the cluster is lost: {str(e).partition(chr(10))[0]}")
            return True
        return False

    def _lose(self) -> None:
        """Delete the cluster; the next one who asks gets a new one."""
        self._stale = True
        self._renewals += 1
        self._identities.clear()
        self._stack.close()

    def _start(self) -> Cluster:
        started = time.monotonic()
        cluster = self._stack.enter_context(self._provided())
        self._seconds = time.monotonic() - started
        _check_version(self.settings, cluster)
        crds, applied = self.settings.crds, self.settings.manifests
        if cluster.client.read_only and (crds or applied):
            self._report("only read: kube_crds and kube_manifests are not installed")
        else:
            cluster.install(crds, applied)
        for note in cluster.belongings.notes if cluster.belongings else ():
            self._report(note)
        return cluster

    def _provided(self) -> AbstractContextManager[Cluster]:
        profile = self.settings.profile
        provider: Provider = profiles.providers()[profile.provider].load()
        return provider(profile, self.settings, self._report)

    def close(self) -> None:
        """Delete the cluster, or what was made in it. Can be called again."""
        belongings = self._cluster.belongings if self._cluster else None
        if belongings and (output := getattr(self._config, "workeroutput", None)):
            # Other workers may need it still.
            output[_HANDED_OVER] = belongings.handed_over()
        self._stack.close()
        self._gates.close()
        if self._handed_over:
            try:
                with self._provided() as cluster:
                    if belongings := cluster.belongings:
                        for data in self._handed_over:
                            belongings.take_over(data)
            except KubeError as e:
                self._left.append(f"  all that has the label pytest-kube/run: {e}")
            self._handed_over.clear()
        if belongings and self._context:
            self._left += belongings.lines(self._context.kubectl)
            belongings.left.clear()

    def take_over(self, output: Mapping[str, Any]) -> None:
        """Take what a worker of pytest-xdist has left for the end of the run."""
        if data := output.get(_HANDED_OVER):
            self._handed_over.append(data)

    # --- what tests borrow --------------------------------------------------

    @contextlib.contextmanager
    def handle(
        self, node: pytest.Item | pytest.Collector, scope: str
    ) -> Iterator[Kube]:
        """Lend a handle on a namespace of its own, for as long as *scope* lasts."""
        from pytest_kube.kube import Kube

        cluster = self.cluster()
        self._tests += scope == "function"
        self._check_nesting(scope, getattr(node, "fixturenames", ()))
        isolation = self._isolation(cluster, node)
        lent = _Lent(scope, cluster.mark() if cluster.state else None, self._renewals)
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
            handle = Kube(cluster, name, self.settings.timeout, _folder(self._config))
            handle.leftovers.is_own = not shared
            handle.deadline = self._deadline
            if lent.mark:
                handle.mark_revision = lent.mark.since
            handle.log_sizes = cluster.log_sizes()
            if cluster.state is None:
                handle.first_version = cluster.newest_version()
            if not shared:
                self._create_namespace(cluster, name)
            node.stash[HANDLE] = handle
            self._running = node if isinstance(node, pytest.Item) else self._running
            node.stash[IS_COLLECTED] = False
            self._handles.append(handle)
            try:
                yield handle
            finally:
                self._handles = [h for h in self._handles if h is not handle]
                if self._running is node:
                    self._running = None
                if cluster.machines:
                    cluster.machines.mend()
                if isolation == "namespace" or cluster.belongings:
                    handle.leftovers.clean_up()
        finally:
            self._lent.remove(lent)
            if lent.mark and lent.renewals == self._renewals:
                self._give_back(cluster, lent.mark, back=isolation == "rollback")

    def _create_namespace(self, cluster: Cluster, name: str) -> None:
        try:
            cluster.create_namespace(name)
        except APIError as e:
            if cluster.belongings and e.status == FORBIDDEN:
                raise ClusterError(
                    "a namespace for the test cannot be made: "
                    f"{e.details.get('message', e)}\n  With --kube-isolation=none the "
                    f"tests share the namespace of the context, {cluster.namespace}"
                ) from None
            raise
        except ClusterError as e:
            if cluster.belongings:
                raise
            self._lose()
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
        if not wanted or not (version or self.settings.profile.provider != "existing"):
            return None
        from packaging.specifiers import SpecifierSet

        if not version:
            parameters = getattr(getattr(node, "callspec", None), "params", {})
            asked = parameters.get("kube_version", self.settings.version)
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
            if SCOPES.index(lent.scope) >= SCOPES.index(scope):
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
            if lent.renewals != self._renewals and _NAMES[lent.scope] in used:
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
            self._lose()  # also when it was interrupted: nobody knows what it is now
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
            self.settings,
            folder=_folder(self._config),
            wide=self._isolation(kube.cluster, item) != "namespace"
            and kube.cluster.belongings is None,
            service_account=marked,
            identities=self._identities,
            gates=self._gates,
        )
        try:
            with starter:
                yield starter.start
        except KubeError as e:
            # Now: pytest reports it when everything has been torn down.
            item.stash[SECTION] = self._section(item, str(e))
            raise

    def controller_spec(self, item: pytest.Item) -> tuple[Any, dict[str, Any]]:
        """Return the controller under test, and how it is run."""
        marked = _marked(item)
        spec = marked.get("controller") or self.settings.controller
        if not spec:
            raise SettingsError(
                "the fixture kube_controller needs to know the controller: set "
                "kube_controller in the ini file, for example kopf:src/operator.py, or "
                "use @pytest.mark.kube(controller=…)"
            )
        ready = self.settings.controller_ready if "controller" not in marked else ""
        ready = marked.get("ready", ready)
        return spec, {"ready": ready} if ready else {}

    def _isolation(self, cluster: Cluster, node: pytest.Item | pytest.Collector) -> str:
        asked = _marked(node).get("isolation") or self.settings.isolation
        if cluster.client.read_only:
            if asked == "namespace":
                cluster.client.refuse_write("isolation by namespace makes namespaces")
            asked = asked or "none"
        able = "rollback" in cluster.capabilities and not self.settings.share
        if asked == "rollback" and not able:
            raise SettingsError(
                f"isolation by rollback: the {cluster.name} cannot, for its etcd is "
                "out of reach; take namespace, or a cluster of kwok, envtest or kind"
            )
        return str(asked or ("rollback" if able else "namespace"))

    # --- diagnostics --------------------------------------------------------

    def tidy(self, error: pytest.ExceptionInfo[BaseException]) -> None:
        """Leave the standard library's frames out of the traceback of an error of ours.

        Our own are hidden; those between them say even less.
        """
        if error.errisinstance(KubeError):
            told = error.traceback.filter(lambda f: f.path != _CONTEXTLIB)
            error.traceback = told or error.traceback

    def handle_of(self, item: pytest.Item) -> Kube | None:
        """Return the handle that a test has, or had."""
        return item.stash.get(HANDLE, None)

    def kept(self, item: pytest.Item, report: pytest.TestReport) -> Path | None:
        """Return the folder in which the artifacts of a report are, if it has any."""
        mode = self.settings.artifacts
        wanted = report.failed or (mode == "all" and report.when == "call")
        if mode == "none" or not wanted or HANDLE not in item.stash:
            return None
        folder = self.settings.artifacts_dir / _folder_name(item.nodeid)
        return folder if folder.is_dir() else None

    def collect(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Collect diagnostics of a failed test, while everything is still there."""
        wanted = report.failed or (
            self.settings.artifacts == "all" and report.when == "call"
        )
        if not wanted or HANDLE not in item.stash:
            return
        text = item.stash.get(SECTION, "")
        if text:
            del item.stash[SECTION]
        else:
            outcome = "failed" if report.failed else "passed"
            text = self._section(item, report.longreprtext, outcome=outcome)
        if report.failed:
            report.sections.append(("kube diagnostics", text))

    def interrupted(self) -> None:
        """Collect diagnostics of the test that runs, before it is torn down."""
        item = self._running
        if (
            item is None
            or item.stash[IS_COLLECTED]
            or self.settings.artifacts == "none"
        ):
            return
        folder = self._shown(self.settings.artifacts_dir / _folder_name(item.nodeid))
        try:
            self._section(item, "", outcome="interrupted")
        except KeyboardInterrupt:
            self._report("interrupted again: diagnostics are not complete")
        else:
            self._report(f"{item.nodeid} was interrupted: {folder}")

    def _section(
        self, item: pytest.Item, failure: str, *, outcome: str = "failed"
    ) -> str:
        """Collect what explains a failure; return the section for the report."""
        folder = None
        # What the failure of the test has left is not replaced by that of its teardown.
        if self.settings.artifacts != "none" and not item.stash[IS_COLLECTED]:
            item.stash[IS_COLLECTED] = True
            folder = self.settings.artifacts_dir / _folder_name(item.nodeid)
            self._artifacts += 1
        shown = self._shown(folder) if folder else ""
        with self._without_timer():
            from pytest_kube.diagnostics import collect  # half a second, the first time

            return collect.collect(
                item.stash[HANDLE],
                folder,
                shown=shown,
                test=item.nodeid,
                failure=failure,
                outcome=outcome,
                secrets=self.settings.redacted_values(os.environ),
            )

    @contextlib.contextmanager
    def _without_timer(self) -> Iterator[None]:
        """Let pytest-timeout not end what has a limit of its own.

        It would end all of pytest: no test would be there to fail. Afterwards it counts
        from the beginning.
        """
        timer = self.timer
        if timer is None:
            yield
            return
        item, settings = timer
        item.ihook.pytest_timeout_cancel_timer(item=item)
        try:
            yield
        finally:
            item.ihook.pytest_timeout_set_timer(item=item, settings=settings)


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


def _folder_name(nodeid: str) -> str:
    """Make a folder name of a node id that every file system and CI accepts.

    Where that loses what tells tests apart, a hash of the node id does.
    """
    path, _, test = nodeid.partition("::")
    test = test.replace("::", ".").replace("[", "-", 1).removesuffix("]")
    plain = f"{path.replace('/', '-')}.{test}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)
    if name != plain or len(name) > _FOLDER_NAME_LENGTH:
        digest = hashlib.sha256(nodeid.encode()).hexdigest()[:8]
        name = f"{name[: _FOLDER_NAME_LENGTH - 9].strip('-')}-{digest}"
    return name


def _check_version(settings: Settings, cluster: Cluster) -> None:
    """Refuse programs of another version than the one that was asked for."""
    asked = settings.version
    if not asked or cluster.provider == "existing":
        return
    wanted = resolve_version(asked).split(".")[:2]
    if cluster.version.split(".")[:2] != wanted:
        by = settings.version_by
        by = f"{by}={asked}" if by == "--kube-version" else by
        raise SettingsError(
            f"{by}, but the programs that were found are "
            f"Kubernetes {cluster.version}; see pytest-kube binaries list"
        )
