"""What is said and typed at a terminal while an archived state is replayed."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kube import moments
from pytest_kube.binaries.releases import (
    DEFAULT_VERSION,
    NEWEST_PATCHES,
    minor_version,
)
from pytest_kube.binaries.store import Store
from pytest_kube.errors import ArchiveError, BinaryError, hide_frames
from pytest_kube.replay import PROGRAMS, running
from pytest_kube.state import archive_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_kube.replay import Replay
    from pytest_kube.state.archive import Archive

__tracebackhide__ = hide_frames

INTERRUPTED = 130
CHECK_EVERY = 1.0
"""Seconds between two looks at whether the API server is still there."""

HELP = """\
n, next [N]   the next change, or N of them; watches see each
b, back [N]   take the last change back, or N of them
at MOMENT     a revision (74), a time since the test began (+1.5s), or a time
diff A [B]    what differs between two moments; B is this one when omitted
show, Enter   the changes around this moment
q, quit       end"""


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
    version, binaries = _binaries(archive, request)
    folder = request.path if request.path.is_dir() else request.path.parent
    with running(archive, at, version, binaries, folder) as replay:
        if replay.cluster.version != archive.about.version:
            _warn(
                f"the archive is of Kubernetes v{archive.about.version}, this is "
                f"v{replay.cluster.version}: kinds and fields may be missing"
            )
        out = sys.stderr if request.command else sys.stdout
        try:
            return _attend(replay, request, until, out)
        except KeyboardInterrupt:
            return INTERRUPTED if request.command else 0


def _attend(replay: Replay, request: Request, until: int | None, out: Any) -> int:
    """Do what was asked for with the running server."""
    _say(out, _introduction(replay))
    end = threading.Event()
    if until is not None and request.command and request.speed:
        arguments = (until, request.speed, end)
        player = threading.Thread(target=replay.play, args=arguments, daemon=True)
        player.start()
        try:
            return replay.command(request.command)
        finally:
            end.set()
            player.join()
    if until is not None:
        replay.play(until, request.speed, end)
        _say(out, moments.told(replay.archive, replay.moment))
    if request.command:
        return replay.command(request.command)
    if sys.stdin.isatty():
        _converse(replay)
        return 0
    while not end.wait(CHECK_EVERY):
        replay.cluster.check()
    return 0


def _introduction(replay: Replay) -> Iterator[str]:
    """Say what this is, where it stands, and how it is looked at."""
    about = replay.archive.about
    yield f"test        {about.test}"
    yield (
        f"cluster     API server and etcd, Kubernetes v{replay.cluster.version}; "
        f"archived on {about.provider} at {about.made:%Y-%m-%d %H:%M:%S} UTC"
    )
    yield from moments.told(replay.archive, replay.moment)
    yield f"kubeconfig  {replay.kubeconfig}"
    words = replay.kubectl, f"--kubeconfig={replay.kubeconfig}", "get", "all,events"
    yield f"try         {shlex.join(words)}"


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


def _converse(replay: Replay) -> None:
    """Do what is typed, until the end of the input."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # makes input() one that can be edited
    _say(sys.stdout, ["help tells what can be typed here"])
    while True:
        try:
            line = input(f"replay {replay.moment}/{len(replay.archive.changes)}> ")
        except (EOFError, KeyboardInterrupt):
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
    archive = archive_file.read(path)
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
