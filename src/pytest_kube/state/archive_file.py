"""Archives as files: written whole or not at all, and read without trust.

A file is JSON, a line for each thing, compressed: what it is about, then each key with
its value when the test began, then each change, in order. Values of Secrets never get
into it. It may come from anywhere, or be half a file.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import time
import zlib
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from pytest_kube.errors import ArchiveError, hide_frames
from pytest_kube.redact import Redactor
from pytest_kube.state import keys
from pytest_kube.state.archive import About, Archive, Done, Stored, served

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_kube.state.etcd import Change

__tracebackhide__ = hide_frames

NAME = "state.jsonl.gz"
FORMAT = 1
"""Raised when a reader of the older format would misunderstand."""

LARGEST = 50 * 1024**2
"""Bytes that a file has at most: people upload it."""

LARGEST_PLAIN = 512 * 1024**2
"""Bytes of JSON in it, which all are in memory when it is read."""

_LEVEL = 6  # a third of the time of 9, for 3 % more bytes
_KIND = "state"
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_NAMESPACE = re.compile(r"[a-z0-9-]{0,63}")


def value_of(data: bytes) -> dict[str, Any] | None:
    """Return what is stored as an object; ``None`` for what is no JSON object.

    That is nothing that another API server could read: it may be encrypted.
    """
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def is_noise(change: Change) -> bool:
    """Tell whether a change is nothing but a heartbeat."""
    if change.key.startswith(keys.HEARTBEATS):
        return True
    return change.after is not None and keys.alike(
        change.key, change.before, change.after
    )


# --- writing --------------------------------------------------------------------


def write(
    path: Path,
    about: About,
    baseline: Sequence[Stored],
    changes: Sequence[Stored],
    *,
    redactor: Redactor | None = None,
    deadline: float = math.inf,
) -> None:
    """Write an archive, for this user only. There is a whole one in the end, or none.

    Args:
        path: The file.
        about: What it is about.
        baseline: What there was when the test began.
        changes: Every change since, in order.
        redactor: What must not be in it; by default the values of Secrets in them.
        deadline: When to give up, on the clock of ``time.monotonic``.

    Raises:
        ArchiveError: It would be too large, or it took too long.
        OSError: It cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)  # left by a process of that id that was killed
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    counts = {"keys": len(baseline), "changes": len(changes)}
    redactor = redactor or Redactor()
    told = {**asdict(about), "test": redactor.text(about.test)}
    header = {"pytest-kube": _KIND, "format": FORMAT, **told, **counts}
    size = 0
    try:
        with (
            os.fdopen(os.open(new, flags, 0o600), "wb") as file,
            gzip.GzipFile("", "wb", _LEVEL, file) as packed,
        ):
            lines = (_line(stored, redactor) for stored in (*baseline, *changes))
            for thing in chain((header,), lines):
                size += packed.write(json.dumps(thing, default=_told).encode() + b"\n")
                if file.tell() > LARGEST or size > LARGEST_PLAIN:
                    raise ArchiveError(
                        f"it would be larger than {LARGEST / 1024**2:.0f} MB"
                    )
                if time.monotonic() > deadline:
                    raise ArchiveError("it took too long")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _line(stored: Stored, redactor: Redactor) -> dict[str, Any]:
    line = stored._asdict()
    if stored.value is not None:
        line["value"] = redactor.object(stored.value)
    return {name: v for name, v in line.items() if v or name == "value"}


def _told(when: datetime) -> str:
    return when.astimezone(UTC).isoformat()


# --- reading --------------------------------------------------------------------


def read(path: Path) -> Archive:
    """Read an archive.

    Args:
        path: The file, or the folder of artifacts that it is in.

    Raises:
        ArchiveError: There is none, or it is not what :func:`write` writes; the text
            says which line is wrong.
    """
    file = path / NAME if path.is_dir() else path
    if not file.is_file():
        raise ArchiveError(
            f"{path}: there is no archive of a state: a folder of artifacts with a "
            f"{NAME}, or that file. Tests on kwok, envtest and kind leave one when "
            "they fail"
        )
    try:
        return _Reader(file).archive()
    except OSError as e:
        raise ArchiveError(f"{file} cannot be read: {e.strerror or e}") from e


class _CutError(Exception):
    """The file ends in the middle."""


class _Reader:
    """Reads one file, once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0

    def archive(self) -> Archive:
        lines = self._lines()
        try:
            about, count, changed = self._header(next(lines, b""))
            baseline = [self._stored(line) for line in islice(lines, count)]
        except _CutError:
            raise self._incomplete() from None
        if len(baseline) < count:
            raise self._incomplete()
        changes: list[Stored] = []
        try:
            for line in lines:
                changes.append(self._change(line, after=changes[-1:]))
        except _CutError:
            pass
        warning = ""
        if len(changes) < changed:
            warning = (
                f"{self._path} ends in the middle: {len(changes)} of {changed} "
                "changes are there"
            )
        return Archive(about, baseline, changes, warning)

    def _lines(self) -> Iterator[bytes]:
        left = LARGEST_PLAIN
        with gzip.open(self._path, "rb") as file:
            while True:
                try:
                    line = file.readline(left + 1)
                except EOFError:
                    raise _CutError from None
                except (gzip.BadGzipFile, zlib.error) as e:
                    if not self._number:
                        raise self._foreign() from e
                    raise self._wrong(f"it is damaged after that: {e}") from e
                if not line:
                    return
                left -= len(line)
                self._number += 1
                if left < 0:
                    raise self._wrong(
                        f"more than {LARGEST_PLAIN / 1024**2:.0f} MB, which no archive "
                        "of a state has"
                    )
                yield line

    def _header(self, line: bytes) -> tuple[About, int, int]:
        try:
            header = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise self._foreign() from e
        if not isinstance(header, dict) or header.get("pytest-kube") != _KIND:
            raise self._foreign()
        if header.get("format") != FORMAT:
            raise self._wrong(
                f"format {header.get('format')!r}; this pytest-kube reads format "
                f"{FORMAT}, another version may read it"
            )
        texts = [header.get(name) for name in ("version", "provider", "namespace")]
        version, provider, namespace = (self._text(t) for t in texts)
        release = _VERSION.match(version)
        if not release or not _NAMESPACE.fullmatch(namespace):
            raise self._wrong("no Kubernetes version, or no namespace")
        numbers = [header.get(n) for n in ("first", "last", "keys", "changes")]
        first, last, keys_, changes = (self._number_in(n) for n in numbers)
        made = self._time(header.get("made"))
        test = self._text(header.get("test"))
        steps = tuple(map(self._step, header.get("steps") or ()))
        flags = self._flags(header.get("flags", {}))
        about = About(
            release[0], provider, namespace, test, made, first, last, steps, flags
        )
        return about, keys_, changes

    def _step(self, read: Any) -> Done:
        if not isinstance(read, list) or len(read) != len(Done._fields):
            raise self._wrong(f"{read!r:.80} is no step of a test")
        number, text, ended = read
        when = None if ended is None else self._time(ended)
        return Done(self._number_in(number), self._text(text), when)

    def _flags(self, read: Any) -> dict[str, str]:
        """Return flags; any other than these could read and write files."""
        if not isinstance(read, dict):
            raise self._wrong(f"{read!r:.80} are no flags")
        flags = {name: self._text(value) for name, value in read.items()}
        if others := flags.items() - served(flags).items():
            name, value = min(others)
            raise self._wrong(f"no flag of what is served: {name[:80]!r}={value!r:.80}")
        return flags

    def _change(self, line: bytes, after: Sequence[Stored]) -> Stored:
        stored = self._stored(line, deleted=True)
        if after and stored.revision < after[-1].revision:
            raise self._wrong("its revision is lower than that of the line before")
        return stored

    def _stored(self, line: bytes, *, deleted: bool = False) -> Stored:
        try:
            read = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise self._wrong("no JSON") from e
        if not isinstance(read, dict):
            raise self._wrong("no JSON object")
        key = self._text(read.get("key"))
        if not key.startswith(keys.PREFIX):
            raise self._wrong(f"the key {key[:80]!r} is not below {keys.PREFIX}")
        value = read.get("value")
        if value is None and not deleted:
            raise self._wrong(f"{key} has no value")
        if value is not None and not _is_object(value):
            raise self._wrong(f"the value of {key} is no object of Kubernetes")
        user, when = read.get("user"), read.get("time")
        return Stored(
            key,
            self._number_in(read.get("revision")),
            value,
            None if when is None else self._time(when),
            None if user is None else self._text(user),
            self._text(read.get("verb", "")),
        )

    def _text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise self._wrong(f"{value!r:.80} is no text")
        return value

    def _number_in(self, value: Any) -> int:
        if type(value) is not int or value < 0:
            raise self._wrong(f"{value!r:.80} is no number of something")
        return value

    def _time(self, value: Any) -> datetime:
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, TypeError, OverflowError):
            raise self._wrong(f"{value!r:.80} is no time") from None

    def _incomplete(self) -> ArchiveError:
        return ArchiveError(
            f"{self._path} ends in the middle, before the state is complete with which "
            "the test began; was it copied whole?"
        )

    def _foreign(self) -> ArchiveError:
        return ArchiveError(f"{self._path} is no archive of a state of pytest-kube")

    def _wrong(self, what: str) -> ArchiveError:
        line = self._number
        return ArchiveError(f"{self._path}, line {line}: {what}", line=line)


def _is_object(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("kind"), str)
        and isinstance(value.get("metadata"), dict)
    )
