"""What one pytest run owns: its settings, its cluster, and what tests borrow of it."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube import profiles
from pytest_kube.binaries.releases import resolve_version
from pytest_kube.errors import (
    ControllerError,
    KubeError,
    SettingsError,
    hide_frames,
)
from pytest_kube.settings import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kube.cluster import Cluster, Provider
    from pytest_kube.controllers.runner import Controller
    from pytest_kube.kube import Kube
    from pytest_kube.settings import Settings

__tracebackhide__ = hide_frames

HANDLE = pytest.StashKey["Kube"]()

_MASTERS = ("system:masters",)
_NAMESPACE_LENGTH = 63
_FOLDER_NAME_LENGTH = 120


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

    @classmethod
    def from_config(cls, config: pytest.Config) -> Session:
        """Read the settings; what is wrong with them becomes a usage error."""
        try:
            settings = read(config)
        except SettingsError as e:
            raise pytest.UsageError(str(e)) from e
        try:
            resolve_version(settings.version)
        except SettingsError as e:
            raise pytest.UsageError(f"--kube-version: {e}") from e
        return cls(config, settings)

    # --- what pytest prints -------------------------------------------------

    def header(self) -> str:
        """Return the line at the top: what was asked for."""
        profile = self.settings.profile
        text = f"kube: {profile.provider}"
        if profile.name != profile.provider:
            text += f" (profile {profile.name})"
        if profile.provider != "existing":
            text += f", Kubernetes {resolve_version(self.settings.version)}"
        return text

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
        """Return the line at the bottom: what was used."""
        if self._cluster is None:
            return None
        text = f"{self._started()}; {self._tests} test{'s' if self._tests != 1 else ''}"
        if self._artifacts:
            text += f", diagnostics in {self._shown(self.settings.artifacts_dir)}"
        return text

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

    def cluster(self) -> Cluster:
        """Return the cluster, starting it at first use; fail alike ever after."""
        if isinstance(self._error, KubeError):
            # It says all there is to say; how it got here would be our insides.
            raise self._error.with_traceback(None)
        if self._error is not None:
            raise self._error
        if self._cluster is None:
            try:
                self._cluster = self._start()
            except Exception as e:
                self._error = e
                self._stack.close()
                raise
        return self._cluster

    def _start(self) -> Cluster:
        profile = self.settings.profile
        provider: Provider = profiles.providers()[profile.provider].load()
        started = time.monotonic()
        cluster = self._stack.enter_context(
            provider(profile, self.settings, self._report)
        )
        self._seconds = time.monotonic() - started
        _check_version(self.settings.version, cluster)
        self._install(cluster, self.settings.crds, self.settings.manifests)
        return cluster

    def _install(
        self, cluster: Cluster, crds: tuple[Path, ...], manifests: tuple[Path, ...]
    ) -> None:
        from pytest_kube.manifests import install_order, load

        cluster.install_crds(crds)
        for path in manifests:
            objects = install_order(load(path))
            cluster.apply(objects, namespace="default", source=str(path))

    def close(self) -> None:
        """Delete the cluster. Can be called again."""
        self._stack.close()

    # --- what tests borrow --------------------------------------------------

    @contextlib.contextmanager
    def handle(self, cluster: Cluster, item: pytest.Item) -> Iterator[Kube]:
        """Lend a handle on a namespace of the test's own."""
        from pytest_kube.kube import Kube

        self._tests += 1
        marked = _marked(item)
        base = item.path.parent
        self._install(
            cluster,
            tuple(base / p for p in _listed(marked.get("crds"))),
            tuple(base / p for p in _listed(marked.get("manifests"))),
        )
        isolated = self._isolation(item) != "none"
        name = _namespace_name(item.name) if isolated else "default"
        handle = Kube(cluster, name, self.settings.timeout, _folder(self._config))
        if isolated:
            cluster.create_namespace(name)
        item.stash[HANDLE] = handle
        try:
            yield handle
        finally:
            if isolated:
                handle.clean_up()

    @contextlib.contextmanager
    def official_client(self, kube: Kube) -> Iterator[Any]:
        """Lend the official client, with a discovery cache of this cluster's own."""
        from kubernetes import config as kubernetes_config
        from kubernetes.dynamic import DynamicClient

        cluster = kube.cluster
        api = kubernetes_config.new_client_from_config(
            config_file=str(cluster.kubeconfig)
        )
        cache = cluster.guardian.directory / "kubernetes-client-discovery.json"
        with api:
            # By default it caches in a file named after the server's URL, which the
            # next cluster on the same port would find.
            yield DynamicClient(api, cache_file=str(cache))

    @contextlib.contextmanager
    def controllers(
        self, kube: Kube, item: pytest.Item
    ) -> Iterator[Callable[..., Controller]]:
        """Lend a function that starts controllers; stop them all at the end."""
        from pytest_kube.controllers import runner, specs

        with contextlib.ExitStack() as stack:

            def start(spec: str | Callable[..., Any], **options: Any) -> Controller:
                name = f"controller-{len(kube.controllers) + 1}"
                surroundings = runner.Surroundings(
                    kubeconfig=self._identity(kube.cluster, name),
                    namespace=kube.namespace,
                    guardian=kube.cluster.guardian,
                    folder=_folder(self._config),
                    wide=self._isolation(item) == "none",
                )
                work = specs.load(spec, surroundings, **options)
                running = runner.running(
                    work, surroundings, timeout=self.settings.timeout
                )
                try:
                    controller = stack.enter_context(running)
                except ControllerError as e:
                    raise e.with_traceback(None) from e.__cause__
                kube.controllers.append(controller)
                return controller

            yield start

    def controller_spec(self, item: pytest.Item) -> str | Callable[..., Any]:
        """Return what the marker or the ini file names as controller under test."""
        spec = _marked(item).get("controller") or self.settings.controller
        if not spec:
            raise SettingsError(
                "the fixture kube_controller needs to know the controller: set "
                "kube_controller in the ini file, for example kopf:src/operator.py, or "
                "use @pytest.mark.kube(controller=…)"
            )
        return spec

    def _isolation(self, item: pytest.Item) -> str:
        return str(_marked(item).get("isolation", self.settings.isolation))

    def _identity(self, cluster: Cluster, name: str) -> Path:
        if name not in self._identities:
            self._identities[name] = cluster.identity(name, _MASTERS)
        return self._identities[name]

    # --- diagnostics --------------------------------------------------------

    def collect(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Collect diagnostics of a failed test, while everything is still there."""
        handle = item.stash.get(HANDLE, None)
        wanted = report.failed or (
            self.settings.artifacts == "all" and report.when == "call"
        )
        if handle is None or not wanted:
            return
        from pytest_kube.diagnostics import collect

        folder = None
        if self.settings.artifacts != "none":
            folder = self.settings.artifacts_dir / _folder_name(item.nodeid)
            self._artifacts += 1
        shown = self._shown(folder) if folder else None
        text = collect.collect(handle, folder, shown=shown, test=item.nodeid)
        if report.failed:
            report.sections.append(("kube diagnostics", text))


def _marked(item: pytest.Item) -> dict[str, Any]:
    """Merge the arguments of all markers; the closest one wins."""
    merged: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers("kube"))):
        merged |= marker.kwargs
    return merged


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


def _check_version(asked: str, cluster: Cluster) -> None:
    """Refuse programs of another version than the one that was asked for."""
    if not asked or cluster.provider == "existing":
        return
    wanted = resolve_version(asked).split(".")[:2]
    if cluster.version.split(".")[:2] != wanted:
        raise SettingsError(
            f"--kube-version={asked}, but the programs that were found are "
            f"Kubernetes {cluster.version}; see pytest-kube binaries list"
        )
