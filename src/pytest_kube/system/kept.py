"""Guardians that live on without us: how they are found, asked and ended."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_kube.errors import ClusterError, hide_frames
from pytest_kube.system.connection import dial, exchange, unreachable
from pytest_kube.system.processes import END_TIMEOUT, sweep

__tracebackhide__ = hide_frames

_PAUSE = 0.01


@dataclass(frozen=True)
class Kept:
    """A guardian that lives on without us.

    Attributes:
        directory: Its folder, for :meth:`Guardian.connect`.
        about: What :meth:`Guardian.keep` was told.
        pid: Its process id.
        format: The :data:`FORMAT` it was made with.
    """

    directory: Path
    about: dict[str, Any]
    pid: int
    format: int


def kept() -> list[Kept]:
    """Return the living guardians of this user that keep something."""
    found = []
    for folder in sorted(Path(tempfile.gettempdir()).glob("pytest-kube-*")):
        # Damaged, or gone meanwhile, or another user's.
        with contextlib.suppress(OSError, ValueError):
            content = json.loads((folder / "kept.json").read_bytes())
            match content:
                case {"format": int(version), "about": dict(about), "pid": int(pid)}:
                    if folder.stat().st_uid == os.getuid() and is_guarded(folder):
                        found.append(Kept(folder, about, pid, version))
    return found


def is_guarded(folder: Path) -> bool:
    """Say whether a guardian lives whose folder that is.

    Raises:
        OSError: There is no such folder, or it is another user's.
    """
    import fcntl

    with (folder / "lock").open("r") as lock:
        try:
            # Shared: two who look at the same time are no guardians.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def status(directory: Path) -> dict[str, Any]:
    """Tell how a kept guardian is used: ``leases``, and ``idle_left`` if there is none.

    Raises:
        ClusterError: There is no guardian any more.
    """
    try:
        with dial(directory) as connection, connection.makefile("rb") as lines:
            answer = exchange(connection, lines, do="status")
    except OSError as e:
        raise unreachable(directory, e) from e
    return {key: answer[key] for key in ("leases", "idle_left")}


def end(directory: Path) -> bool:
    """End a kept guardian whoever has a lease; return whether there was one.

    Raises:
        ClusterError: Its folder is still there after a while.
    """
    try:
        connection = dial(directory)
    except OSError:
        return False
    deadline = time.monotonic() + END_TIMEOUT
    # One that is about to end by itself does not answer any more.
    with (
        contextlib.suppress(OSError),
        connection,
        connection.makefile("rb") as lines,
    ):
        exchange(connection, lines, END_TIMEOUT, do="end")
    while directory.exists():
        if time.monotonic() >= deadline:
            raise ClusterError(f"the guardian in {directory} does not end")
        sweep()  # it may be killed meanwhile
        time.sleep(_PAUSE)
    return True
