"""The programs on this machine: looked up in every place, fetched when missing."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kube.binaries import releases
from pytest_kube.binaries.progress import say
from pytest_kube.errors import BinaryError, SettingsError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__tracebackhide__ = hide_frames

VERSION_TIMEOUT = 5.0
OUTPUT_LINES = 15
REMEDIES = (
    "    - connect to the network, or set PYTEST_KUBE_MIRROR to a mirror of the hosts",
    "    - install Go (https://go.dev/dl): what cannot be downloaded is built",
    "    - --kube-binaries=PATH or KUBEBUILDER_ASSETS=PATH: a folder with the programs",
)
NO_GO = "there is no go on PATH"
OFFLINE = "the offline switch (--kube-offline or ENVTEST_INSTALLED_ONLY) is on"
CACHE_REMEDY = "PYTEST_KUBE_CACHE names another folder"
_PLACE_WIDTH = len("TEST_ASSET_KUBE_CONTROLLER_MANAGER")


@dataclass(frozen=True)
class Found:
    """A program that is there.

    Attributes:
        path: Where it is.
        origin: The place that has it, for example ``cache`` or ``PATH``.
    """

    path: Path
    origin: str


@dataclass(frozen=True)
class _Look:
    """What one place says of a program: its path, or why it has none."""

    place: str
    path: Path | None
    trouble: str = ""


@dataclass(frozen=True)
class Store:
    """The programs for one Kubernetes version.

    Attributes:
        version: The full Kubernetes version.
        explicit: The folder that the user named, if any.
        offline: Whether nothing may be downloaded or built.
        environ: The environment variables.
        report: Gets one line of progress at a time.
    """

    version: str
    explicit: Path | None = None
    offline: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    report: Callable[[str], None] = say

    def __post_init__(self) -> None:
        if self.explicit is not None and not self.explicit.is_dir():
            raise SettingsError(
                f"--kube-binaries={self.explicit}: no such folder; give the folder "
                "that holds the programs, or auto"
            )

    def find(self, name: str) -> Found | None:
        """Look for a program in every place; never fetch it."""
        for look in self._looks(name):
            if look.path is not None and not look.trouble:
                return Found(look.path.absolute(), look.place)
        return None

    def require(self, *names: str) -> dict[str, Path]:
        """Return the paths of programs, fetched first where they are missing.

        Raises:
            BinaryError: One is missing, and cannot be downloaded or built.
        """
        paths = {}
        missing = []
        for name in dict.fromkeys(names):
            found = self.find(name)
            if found is None:
                missing.append(name)
            else:
                paths[name] = found.path
        if missing:
            try:
                paths |= self._fetch(missing)
            except OSError as error:
                raise BinaryError(
                    f"{self.label(*missing)} cannot be stored: {error}\n"
                    f"  the cache is {cache_folder(self.environ)}; {CACHE_REMEDY}",
                    name=missing[0],
                ) from error
        return {name: paths[name] for name in names}

    def rows(self) -> list[tuple[str, str, Path | None, str]]:
        """Return name, version, path and origin of every program there may be."""
        table: list[tuple[str, str, Path | None, str]] = []
        for name in releases.PROGRAMS:
            found = self.find(name)
            path, origin = (found.path, found.origin) if found else (None, "")
            table.append((name, self._version(name), path, origin))
        return table

    def _version(self, name: str) -> str:
        return releases.program_version(name, self.version)

    def label(self, *names: str) -> str:
        """Return programs with their versions."""
        return ", ".join(f"{name} {self._version(name)}" for name in names)

    def _looks(self, name: str) -> Iterator[_Look]:
        """Look into one place after the other."""
        variable = f"TEST_ASSET_{name.upper().replace('-', '_')}"
        asset = self.environ.get(variable)
        yield _look(variable, Path(asset) if asset else None)
        folder = self.environ.get("KUBEBUILDER_ASSETS")
        yield _look("KUBEBUILDER_ASSETS", Path(folder, name) if folder else None)
        yield _look("--kube-binaries", self.explicit and self.explicit / name)
        yield _look("cache", self._cached(name))
        yield _look("setup-envtest", self._setup_envtest_folder() / name)
        yield self._look_on_path(name)

    def _look_on_path(self, name: str) -> _Look:
        found = shutil.which(name, path=self.environ.get("PATH", ""))
        if found is None:
            return _Look("PATH", None, "not there")
        path = Path(found)
        wanted = self._version(name)
        got = _reported_version(path, self.environ)
        if not got:
            return _Look("PATH", path, f"{path} does not say its version")
        if name in releases.KUBERNETES_PROGRAMS:
            fits = got == wanted
        else:
            fits = _minor(got) >= _minor(wanted)
        return _Look("PATH", path, "" if fits else f"{path} is of version {got}")

    def _cached(self, name: str) -> Path:
        """Return the path that a program has, or will have, in the cache."""
        stem = f"{name}-{self._version(name)}"
        return programs_folder(self.environ) / stem / name

    def _setup_envtest_folder(self) -> Path:
        on = releases.this_platform()
        home = _home(self.environ)
        if on.os == "darwin":
            store = home / "Library/Application Support/io.kubebuilder.envtest"
        else:
            data = self.environ.get("XDG_DATA_HOME")
            store = Path(data) if data else home / ".local/share"
            store /= "kubebuilder-envtest"
        return store / "k8s" / f"{self.version}-{on.os}-{on.arch}"

    def _fetch(self, names: Sequence[str]) -> dict[str, Path]:
        """Download or build programs, unless another process does just that."""
        if self.offline:
            raise self._missing(dict.fromkeys(names, OFFLINE), build=OFFLINE)
        # One order for everybody, or two processes would wait for each other.
        with ExitStack() as locks:
            for name in sorted(names):
                self._lock(name, locks)
            left = [n for n in names if _look("cache", self._cached(n)).trouble]
            self._build(self._download(left))
        return {name: self._cached(name) for name in names}

    def _lock(self, name: str, locks: ExitStack) -> None:
        from filelock import FileLock, Timeout

        folder = self._cached(name).parent
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.report(f"waiting for another process that fetches {self.label(name)}")
            lock.acquire()
        locks.callback(lock.release)

    def _download(self, names: Sequence[str]) -> dict[str, str]:
        """Download programs; return the reasons for those that cannot be had."""
        from pytest_kube.binaries.download import (
            Downloader,
            UnavailableError,
        )

        failures = {}
        downloader = Downloader(self.environ, self.report)
        for name in names:
            target = self._cached(name)
            part = target.parent.with_name(f"{target.parent.name}.part")
            with _work_folder(part) as work:
                try:
                    file = downloader.program(name, self._version(name), work)
                except UnavailableError as error:
                    failures[name] = str(error)
                else:
                    _install(file, target)
        return failures

    def _build(self, downloads: Mapping[str, str]) -> None:
        """Build the programs whose downloads failed, those of one module together."""
        if not downloads:
            return
        from pytest_kube.binaries.build import Builder, BuildError

        go = shutil.which("go", path=self.environ.get("PATH", ""))
        if go is None:
            raise self._missing(downloads, build=NO_GO)
        modules: dict[str, dict[str, str]] = {}
        for name, reason in downloads.items():
            modules.setdefault(releases.RECIPES[name].module, {})[name] = reason
        for group in modules.values():
            names = list(group)
            version = self._version(names[0])
            builds = cache_folder(self.environ) / "build"
            with _work_folder(builds / f"{names[0]}-{version}") as work:
                builder = Builder(go, work, self.environ, self.report)
                try:
                    built = builder.programs(names, version)
                except BuildError as error:
                    raise self._missing(
                        group,
                        build=str(error),
                        output=error.output,
                        no_such_version=error.no_such_version,
                    ) from error
                for name, file in built.items():
                    _install(file, self._cached(name))

    def _missing(
        self,
        downloads: Mapping[str, str],
        *,
        build: str,
        output: str = "",
        no_such_version: bool = False,
    ) -> BinaryError:
        """Say where programs were looked for, why they are not fetched, what to do."""
        label = self.label(*downloads)
        known = ", ".join(releases.NEWEST_PATCHES.values())
        if no_such_version:
            lines = [f"{label} does not exist"]
        else:
            lines = [f"{label}: not found, and cannot be fetched"]
        for name, reason in downloads.items():
            lines.append(f"  {name} was looked for in")
            looks = [(look.place, look.trouble) for look in self._looks(name)]
            lines += [
                f"    {place:<{_PLACE_WIDTH}}  {trouble}"
                for place, trouble in [*looks, ("download", reason), ("build", build)]
            ]
        if output:
            lines.append("  the last lines of the build")
            lines += [f"    {line}" for line in output.splitlines()[-OUTPUT_LINES:]]
        lines.append("  what helps")
        if self.version not in releases.NEWEST_PATCHES.values():
            lines.append(f"    - ask for a Kubernetes version that is known: {known}")
        if self.offline:
            lines.append("    - leave the offline switch out, once")
        lines += REMEDIES
        return BinaryError("\n".join(lines), name=next(iter(downloads)))


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder for what is fetched or made once per machine."""
    if folder := environ.get("PYTEST_KUBE_CACHE"):
        return Path(folder).absolute()
    if folder := environ.get("XDG_CACHE_HOME"):
        return Path(folder, "pytest-kube")
    caches = "Library/Caches" if releases.this_platform().os == "darwin" else ".cache"
    return _home(environ) / caches / "pytest-kube"


def programs_folder(environ: Mapping[str, str]) -> Path:
    """Return the part of the cache that holds programs, and nothing else."""
    on = releases.this_platform()
    return cache_folder(environ) / "bin" / f"{on.os}-{on.arch}"


def cache_key(names: Sequence[str], versions: Sequence[str]) -> str:
    """Return a name for what the cache has of programs when all are installed.

    It changes with the platform, the programs and their versions, and with nothing
    else: neither the order nor what this machine has already.
    """
    on = releases.this_platform()
    pairs = {(n, releases.program_version(n, v)) for n in names for v in versions}
    told = sorted({v for n, v in pairs if n in releases.KUBERNETES_PROGRAMS})
    digest = hashlib.sha256(repr(sorted(pairs)).encode()).hexdigest()[:12]
    return "-".join(["pytest-kube", on.os, on.arch, *told, digest])


def _home(environ: Mapping[str, str]) -> Path:
    folder = environ.get("HOME")
    return Path(folder) if folder else Path.home()


def _look(place: str, path: Path | None) -> _Look:
    if path is None:
        return _Look(place, None, "not set")
    if not path.is_file():
        return _Look(place, path, f"no file {path}")
    if not os.access(path, os.X_OK):
        return _Look(place, path, f"{path} is not executable")
    return _Look(place, path)


def _reported_version(program: Path, environ: Mapping[str, str]) -> str:
    """Return the version that a program says it has, or nothing."""
    kubectl = program.name == "kubectl"
    question = ["version", "--client"] if kubectl else ["--version"]
    try:
        answer = subprocess.run(
            [program, *question],
            env=environ,
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\bv?(\d+\.\d+\.\d\S*)", answer)
    return found[1] if found else ""


def _minor(version: str) -> list[int]:
    return [int(part) for part in releases.minor_version(version).split(".")]


@contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder, whatever a killed process left there, and remove it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _install(file: Path, target: Path) -> None:
    """Put a complete program in its place, in one step."""
    file.chmod(0o755)
    target.parent.mkdir(exist_ok=True)
    file.replace(target)
