"""What one pytest run owns: its settings, its cluster, and what is said of both."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube import contexts, profiles
from pytest_kube.binaries.releases import image_version, resolve_version
from pytest_kube.errors import ClusterError, KubeError, SettingsError, hide_frames
from pytest_kube.settings import read
from pytest_kube.system.gates import Gates

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_kube.cluster import Cluster, Provider
    from pytest_kube.contexts import Context
    from pytest_kube.settings import Settings

__tracebackhide__ = hide_frames

_HANDED_OVER = "pytest-kube"


class Session:
    """The settings and the cluster of one pytest run.

    Attributes:
        settings: What was asked for; the version is that of now.
        tests: How many had a handle on the cluster of now.
        artifacts: How many have their diagnostics in files.
        renewals: How many clusters were lost.
        identities: The kubeconfigs that were made on the cluster of now, by user.
        gates: Through which controllers in this process reach the API server.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self.settings = settings
        self._stack = contextlib.ExitStack()
        self._cluster: Cluster | None = None
        self._error: Exception | None = None
        self._seconds = 0.0
        self.tests = 0
        self.artifacts = 0
        self.renewals = 0
        self.identities: dict[str, Path] = {}
        self.gates = Gates()
        self._stale = False
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
        if lines and self.artifacts:
            lines[-1] += f", diagnostics in {self.shown(self.settings.artifacts_dir)}"
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
        return [f"{self._started()}; {self.tests} test{'s' if self.tests != 1 else ''}"]

    def _started(self) -> str | None:
        if self._cluster is None:
            return None
        return f"kube: {self._cluster.name}, ready in {self._seconds:.1f} s"

    def shown(self, path: Path) -> str:
        """Return a path as the user would write it, from where pytest was started."""
        with contextlib.suppress(ValueError):
            return str(path.relative_to(self._config.invocation_params.dir))
        return str(path)

    def tell(self, line: str) -> None:
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
            self._cluster, self._error, self.tests = None, None, 0
            self._stale = False
            self.identities.clear()
        return self.settings.version

    def cluster(self) -> Cluster:
        """Return the cluster, starting it at first use; fail alike ever after."""
        if isinstance(self._error, KubeError):
            # It says all there is to say; how it got here would be our insides.
            raise self._error.with_traceback(None)
        if self._error is not None:
            raise self._error
        if self._cluster is not None and self._is_lost(self._cluster):
            self.lose()
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
            self.tell(f"the cluster is lost: {str(e).partition(chr(10))[0]}")
            return True
        return False

    def lose(self) -> None:
        """Delete the cluster; the next one who asks gets a new one."""
        self._stale = True
        self.renewals += 1
        self.identities.clear()
        self._stack.close()

    def _start(self) -> Cluster:
        started = time.monotonic()
        cluster = self._stack.enter_context(self._provided())
        self._seconds = time.monotonic() - started
        _check_version(self.settings, cluster)
        crds, applied = self.settings.crds, self.settings.manifests
        if cluster.client.read_only and (crds or applied):
            self.tell("only read: kube_crds and kube_manifests are not installed")
        else:
            cluster.install(crds, applied)
        for note in cluster.belongings.notes if cluster.belongings else ():
            self.tell(note)
        return cluster

    def _provided(self) -> AbstractContextManager[Cluster]:
        profile = self.settings.profile
        provider: Provider = profiles.providers()[profile.provider].load()
        return provider(profile, self.settings, self.tell)

    def close(self) -> None:
        """Delete the cluster, or what was made in it. Can be called again."""
        belongings = self._cluster.belongings if self._cluster else None
        if belongings and (output := getattr(self._config, "workeroutput", None)):
            # Other workers may need it still.
            output[_HANDED_OVER] = belongings.handed_over()
        self._stack.close()
        self.gates.close()
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
