"""Logs of containers in a folder of artifacts, read without trust.

A log is the file ``pods/NAMESPACE/POD/CONTAINER.log``, that of the container's last
life ``CONTAINER.previous.log``. Its lines begin with their times, as ``kubectl logs
--timestamps`` has them; what has none belongs to the line before. The folder may come
from anywhere.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from pytest_kube.errors import ArchiveError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__tracebackhide__ = hide_frames

FOLDER = "pods"

LARGEST = 16 * 1024**2
"""Bytes of a log that are read, the last ones."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)(?: |$)"
)
# Colours are shown; what else a terminal obeys is not for a log of others to say.
_CONTROL = re.compile(r"(?!\t|\x1b\[[0-9;]{0,20}m)[\0-\x1f\x7f-\x9f]")


class Container(NamedTuple):
    """A container, in one of its lives.

    Attributes:
        namespace: The namespace of its pod.
        pod: The name of its pod.
        name: Its own.
        is_previous: Whether its life before the last start is meant.
    """

    namespace: str
    pod: str
    name: str
    is_previous: bool = False

    def __str__(self) -> str:
        life = "the last life of " if self.is_previous else ""
        return f"{life}container {self.name} of pod {self.namespace}/{self.pod}"


@dataclass(frozen=True)
class Wanted:
    """Which part of a log is wanted.

    Attributes:
        since: Only what was written at that time or later.
        tail: Only so many lines, the last ones.
        limit: Only so many bytes, the first ones.
        has_times: Whether lines begin with their times.
    """

    since: datetime | None = None
    tail: int | None = None
    limit: int | None = None
    has_times: bool = False


def read(folder: Path, container: Container, wanted: Wanted) -> bytes:
    """Return a log, harmless for a terminal.

    Args:
        folder: The folder of artifacts.
        container: Whose log.
        wanted: Which part of it.

    Raises:
        ArchiveError: There is none.
    """
    lines = _since(_lines(_data(folder, container)), wanted.since)
    if wanted.tail is not None:
        lines = iter(deque(lines, maxlen=wanted.tail))
    if not wanted.has_times:
        lines = map(_without_time, lines)
    shown = (_CONTROL.sub("?", line) + "\n" for line in lines)
    return "".join(shown).encode()[: wanted.limit]


def _lines(data: bytes) -> list[str]:
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def _since(lines: list[str], since: datetime | None) -> Iterator[str]:
    """Leave out what was written before; what has no time is as old as the last."""
    newest = None
    for line in lines:
        newest = _time(line) or newest
        if since is None or newest is None or newest >= since:
            yield line


def _without_time(line: str) -> str:
    return _TIME.sub("", line, count=1) if _time(line) else line


def _time(line: str) -> datetime | None:
    found = _TIME.match(line)
    if not found:
        return None
    seconds, fraction, zone = found.groups()
    try:
        return datetime.fromisoformat(f"{seconds}{(fraction or '')[:7]}{zone}")
    except ValueError:
        return None


def _data(folder: Path, container: Container) -> bytes:
    namespace, pod, name, is_previous = container
    is_named = _LABEL.fullmatch(namespace) and _NAME.fullmatch(pod)
    file = f"{name}.previous.log" if is_previous else f"{name}.log"
    try:
        if not is_named or not _LABEL.fullmatch(name):
            raise FileNotFoundError
        with os.fdopen(_opened(folder, FOLDER, namespace, pod, file), "rb") as log:
            size = os.fstat(log.fileno()).st_size
            log.seek(max(0, size - LARGEST))
            data = log.read(LARGEST)
    except OSError:
        raise ArchiveError(_missing(folder, container)) from None
    if size <= LARGEST:
        return data
    rest = data.partition(b"\n")[2]
    return f"(the first {size - len(rest)} bytes are left out)\n".encode() + rest


def _opened(folder: Path, *parts: str) -> int:
    """Open a file below a folder, on a way that has no symbolic links."""
    found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for part in parts:
        # One that is a pipe is not waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            inner = os.open(part, flags, dir_fd=found)
        finally:
            os.close(found)
        found = inner
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise FileNotFoundError
    return found


def _missing(folder: Path, container: Container) -> str:
    if not (folder / FOLDER).is_dir():
        return (
            f"the archive has no log of {container}, nor of any other: there are logs "
            "of pods only where their containers really run, as on kind"
        )
    return f"the archive has no log of {container}; one that never started has none"


def utc(text: str) -> datetime:
    """Return a time as the API server writes it.

    Raises:
        ValueError: It is none.
    """
    when = _time(text)
    if when is None:
        raise ValueError(text)
    return when.astimezone(UTC)
