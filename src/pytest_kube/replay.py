"""Bring an archived state to life: an API server on it, as it was at any moment.

There is etcd and the API server and nobody else, so that the state stays as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kube import kubeconfig, moments
from pytest_kube.binaries.releases import (
    DEFAULT_VERSION,
    NEWEST_PATCHES,
    minor_version,
)
from pytest_kube.binaries.store import Store
from pytest_kube.controlplane import plane
from pytest_kube.controlplane.plan import Plan
from pytest_kube.errors import ArchiveError, BinaryError, hide_frames
from pytest_kube.profiles import Profile
from pytest_kube.state import archive as archives

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_kube.cluster import Cluster
    from pytest_kube.state.archive import Archive

__tracebackhide__ = hide_frames

PROGRAMS = ("etcd", "kube-apiserver")
INTERRUPTED = 130
NOT_FOUND = 127

HELP = """\
n, next [N]   the next change, or N of them; watches see each
b, back [N]   take the last change back, or N of them
at MOMENT     a revision (74), a time since the test began (+1.5s), or a time
diff A [B]    what differs between two moments; B is this one when omitted
show, Enter   the changes around this moment
q, quit       end"""

_CRDS = "/registry/apiextensions.k8s.io/customresourcedefinitions/"
_FLAGS = {
    # Who answered the webhooks is gone, and they may point anywhere. Without a
    # controller-manager nobody makes the ServiceAccounts that pods need.
    "disable-admission-plugins": (
        "MutatingAdmissionWebhook,ServiceAccount,ValidatingAdmissionWebhook"
    )
}
_CHECK_EVERY = 1.0


@dataclass(frozen=True)
class Request:
    """What is to be replayed, and how.

    Attributes:
        path: The archive, or the folder with it.
        at: The moment to begin with; empty for the last one, or where something is
            replayed until a moment, for the first one.
        until: The moment until which changes are made, one after the other.
        speed: How many times faster than they were made; ``None`` for at once.
        command: A program that is run with the API server; empty for none.
        version: The Kubernetes version to use; empty for that of the archive.
        binaries: A folder with the programs.
        offline: Whether nothing may be downloaded or built.
    """

    path: Path
    at: str = ""
    until: str = ""
    speed: float | None = None
    command: Sequence[str] = ()
    version: str = ""
    binaries: Path | None = None
    offline: bool = False


def diff(path: Path, one: str, other: str) -> int:
    """Print what differs between two moments of an archive; return the exit code."""
    archive = _read(path)
    _say(sys.stdout, moments.between(archive, archive.find(one), archive.find(other)))
    return 0


def run(request: Request) -> int:
    """Replay until somebody ends it, or the command has ended; return the exit code.

    Raises:
        ArchiveError: It is no archive, or has no such moment.
        BinaryError: The programs cannot be had, of no version.
        ClusterError: The API server does not start, or ended by itself.
    """
    archive = _read(request.path)
    end = len(archive.changes)
    until = archive.find(request.until) if request.until else None
    begin = 0 if request.until else end
    at = archive.find(request.at) if request.at else begin
    if until is not None and until < at:
        raise ArchiveError(f"--until={request.until} lies before --at={request.at}")
    # Ended by others, too, it takes along what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _running(archive, at, request) as replay:
        out = sys.stderr if request.command else sys.stdout
        try:
            return _attend(replay, request, until, out)
        except KeyboardInterrupt:
            return INTERRUPTED if request.command else 0


def _attend(replay: Replay, request: Request, until: int | None, out: Any) -> int:
    """Do what was asked for with the running server."""
    _say(out, replay.introduction())
    concurrent = bool(request.command and request.speed)
    if until is not None and not concurrent:
        replay.play(until, request.speed)
        _say(out, moments.told(replay.archive, replay.moment))
    if concurrent and until is not None:
        arguments = (until, request.speed)
        threading.Thread(target=replay.play, args=arguments, daemon=True).start()
    if request.command:
        return replay.command(request.command)
    if sys.stdin.isatty():
        _converse(replay)
        return 0
    pause = threading.Event()
    while not pause.wait(_CHECK_EVERY):
        replay.cluster.check()
    return 0


@dataclass
class Replay:
    """A running API server, and the moment whose state it has.

    What others write to it stays, until a step writes the same object.

    Attributes:
        archive: What is replayed.
        cluster: The API server.
        kubeconfig: Its kubeconfig, in the namespace of the test.
        moment: How many of the changes have happened.
    """

    archive: Archive
    cluster: Cluster
    kubeconfig: Path
    moment: int

    def introduction(self) -> Iterator[str]:
        """Say what this is, where it stands, and how it is looked at."""
        about = self.archive.about
        yield f"test        {about.test}"
        yield (
            f"cluster     API server and etcd, Kubernetes v{self.cluster.version}; "
            f"archived on {about.provider} at {about.made:%Y-%m-%d %H:%M:%S} UTC"
        )
        yield from moments.told(self.archive, self.moment)
        yield f"export KUBECONFIG={self.kubeconfig}"
        kubectl = _kubectl() or "kubectl"
        quoted = shlex.quote(kubectl), shlex.quote(str(self.kubeconfig))
        yield "try         {} --kubeconfig={} get all,events".format(*quoted)

    def step(self, count: int) -> None:
        """Make changes one after the other; take them back if *count* is negative."""
        for _ in range(abs(count)):
            index = self.moment if count > 0 else self.moment - 1
            if not 0 <= index < len(self.archive.changes):
                return
            change = self.archive.changes[index]
            value = change.value if count > 0 else self.archive.before[index]
            self.moment += 1 if count > 0 else -1
            self._write({change.key: value})

    def jump(self, moment: int) -> None:
        """Go to a moment in one step."""
        here, there = (self.archive.state(m) for m in (self.moment, moment))
        values = {
            key: there[key].value if key in there else None
            for key in {**here, **there}
            if here.get(key) != there.get(key)
        }
        self.moment = moment
        self._write(values)

    def play(self, until: int, speed: float | None) -> None:
        """Make all changes up to a moment, at their old pace times *speed*."""
        pause, times = threading.Event(), self.archive.times
        while self.moment < until:
            if speed and self.moment:
                gap = times[self.moment] - times[self.moment - 1]
                pause.wait(gap.total_seconds() / speed)
            self.step(1)

    def command(self, argv: Sequence[str]) -> int:
        """Run a program that finds the API server; return its exit code."""
        path = os.environ.get("PATH", os.defpath)
        if kubectl := _kubectl():
            path += os.pathsep + os.path.dirname(kubectl)  # noqa: PTH120
        env = {
            **os.environ,
            "PATH": path,
            "KUBECONFIG": str(self.kubeconfig),
            # Else it may find what it knew of another server on the same port.
            "KUBECACHEDIR": str(self.cluster.guardian.directory / "kubectl"),
        }
        program = shutil.which(argv[0], path=path)
        if program is None:
            sys.stderr.write(f"pytest-kube: {argv[0]}: no such program\n")
            return NOT_FOUND
        code = subprocess.run([program, *argv[1:]], env=env, check=False).returncode
        return code if code >= 0 else 128 - code

    def _write(self, values: dict[str, Any]) -> None:
        assert self.cluster.state is not None  # noqa: S101  # for the type checker
        self.cluster.state.write(
            {k: None if v is None else _stored(v) for k, v in values.items()}
        )
        kinds = {key: v for key, v in values.items() if key.startswith(_CRDS)}
        if kinds:
            from pytest_kube import crds

            self._await_crds(kinds.values())
            gone = [k.removeprefix(_CRDS) for k, v in kinds.items() if v is None]
            if gone:
                missing = dict.fromkeys(gone, False)
                crds.await_discovery(self.cluster.client, missing)

    def await_crds(self) -> None:
        """Wait until all kinds of custom resources are served."""
        stored = self.archive.state(self.moment)
        self._await_crds(s.value for key, s in stored.items() if key.startswith(_CRDS))

    def _await_crds(self, found: Iterable[dict[str, Any] | None]) -> None:
        from pytest_kube import crds

        log = self.cluster.logs.get("kube-apiserver")
        served = [crd for crd in found if crd and _is_served(crd)]
        # Not as the only API server: that would change them.
        crds.await_served(self.cluster.client, served, single=False, log=log)


@contextlib.contextmanager
def _running(archive: Archive, moment: int, request: Request) -> Iterator[Replay]:
    version, binaries = _binaries(archive, request)
    profile = Profile("replay", "envtest", extra_args={"kube-apiserver": dict(_FLAGS)})
    plan = Plan(profile, version, binaries, nodes=False)
    state = {key: _stored(s.value) for key, s in archive.state(moment).items()}
    with plane.holding(plan, state) as cluster:
        if cluster.version != archive.about.version:
            _warn(
                f"the archive is of Kubernetes v{archive.about.version}, this is "
                f"v{cluster.version}: kinds and fields may be missing"
            )
        folder = cluster.guardian.directory
        config = kubeconfig.in_namespace(
            cluster.kubeconfig, archive.about.namespace, folder / "kubeconfig.json"
        )
        replay = Replay(archive, cluster, config, moment)
        replay.await_crds()
        yield replay


def _binaries(archive: Archive, request: Request) -> tuple[str, dict[str, Path]]:
    """Find the programs: of the archive's version, or else of one close to it."""
    recorded = archive.about.version
    close = NEWEST_PATCHES.get(minor_version(recorded), DEFAULT_VERSION)
    wanted = [request.version] if request.version else [recorded, close]
    wanted += [] if request.version else [DEFAULT_VERSION]
    errors = []
    for version in dict.fromkeys(wanted):
        store = Store(version, explicit=request.binaries, offline=request.offline)
        try:
            return version, store.require(*PROGRAMS)
        except BinaryError as e:
            _warn(str(e).partition("\n")[0])
            errors.append(e)
    raise errors[0]


def _is_served(crd: dict[str, Any]) -> bool:
    """Tell whether a CRD was established, and not about to be deleted."""
    conditions = (crd.get("status") or {}).get("conditions") or ()
    established = {"type": "Established", "status": "True"}.items()
    deleted = crd["metadata"].get("deletionTimestamp")
    return not deleted and any(established <= c.items() for c in conditions)


def _stored(value: Any) -> bytes:
    return json.dumps(value).encode()


def _kubectl() -> str | None:
    """Return a kubectl that is here: the user's, or ours."""
    found = Store(DEFAULT_VERSION).find("kubectl")
    return shutil.which("kubectl") or (str(found.path) if found else None)


# --- the terminal ---------------------------------------------------------------


def _converse(replay: Replay) -> None:
    """Do what is typed, until the end of the input."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # makes input() one that can be edited
    _say(sys.stdout, ["help tells what can be typed here"])
    while True:
        try:
            line = input(f"replay {replay.moment}/{len(replay.archive.changes)}> ")
        except EOFError:
            _say(sys.stdout, [""])
            return
        replay.cluster.check()
        words = line.split() or ["show"]
        if words[0] in {"q", "quit"}:
            return
        try:
            lines = _typed(replay, *words)
        except ArchiveError as e:
            lines = [str(e)]
        _say(sys.stdout, lines)


def _typed(replay: Replay, word: str, *words: str) -> Iterable[str]:
    archive = replay.archive
    if word in {"n", "next", "b", "back"} and len(words) <= 1:
        count = words[0] if words else "1"
        if not count.isdecimal():
            raise ArchiveError(f"{count!r} is no number of changes")
        replay.step(int(count) if word[0] == "n" else -int(count))
        return moments.told(archive, replay.moment)
    if word == "at" and len(words) == 1:
        replay.jump(archive.find(words[0]))
        return moments.told(archive, replay.moment)
    if word == "diff" and len(words) in {1, 2}:
        found = [archive.find(w) for w in words]
        return moments.between(archive, *[*found, replay.moment][:2])
    if word == "show" and not words:
        return moments.around(archive, replay.moment)
    return HELP.splitlines()


def _read(path: Path) -> Archive:
    archive = archives.read(path)
    if archive.warning:
        _warn(archive.warning)
    return archive


def _warn(text: str) -> None:
    _say(sys.stderr, [f"warning: {text}"])


def _say(out: Any, lines: Iterable[str]) -> None:
    """Write lines; an archive of others may hold what confuses a terminal."""
    for line in lines:
        out.write("".join(c if c.isprintable() else "?" for c in line) + "\n")
    out.flush()
