"""How users reach a guardian: over a socket, one JSON message per line."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any, BinaryIO

from pytest_kube.errors import ClusterError, hide_frames

__tracebackhide__ = hide_frames

ANSWER_TIMEOUT = 10.0
"""Seconds in which a guardian answers; starting and killing take milliseconds."""

_SOCKET_PATH_LIMIT = 100
"""Bytes that every system takes as the path of a socket: Linux 107, macOS 103."""

_OPEN_FILES = Path("/proc/self/fd")


class BusyError(ClusterError):
    """What a guardian keeps is in use by another run."""


def dial(directory: Path) -> socket.socket:
    """Connect to the guardian that keeps *directory*.

    Raises:
        OSError: Nobody answers there.
        ClusterError: The path is too long, and this system knows no way around.
    """
    path = directory / "socket"
    with contextlib.ExitStack() as stack:
        if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
            if not _OPEN_FILES.is_dir():
                raise ClusterError(
                    f"{path} is longer than the {_SOCKET_PATH_LIMIT} bytes that the "
                    "path of a socket may have; set TMPDIR to a shorter one"
                )
            folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, folder)
            path = _OPEN_FILES / str(folder) / "socket"
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            raise
    return connection


def take_lease(
    connection: socket.socket, *, shared: bool
) -> tuple[BinaryIO, dict[str, Any]]:
    """Return what the guardian says from now on, and what it granted."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(connection)
        lines = stack.enter_context(connection.makefile("rb"))
        granted = exchange(connection, lines, do="lease", shared=shared)
        if "error" in granted:
            kind = BusyError if granted.get("busy") else ClusterError
            raise kind(granted["error"])
        connection.settimeout(None)
        stack.pop_all()
    return lines, granted


def exchange(
    connection: socket.socket,
    lines: BinaryIO,
    timeout: float = ANSWER_TIMEOUT,
    **message: Any,
) -> dict[str, Any]:
    """Ask for one thing, and return the answer."""
    connection.settimeout(timeout)
    connection.sendall(json.dumps({"id": 0, **message}).encode() + b"\n")
    line = lines.readline()
    if not line:
        raise ConnectionResetError("it closed the connection")
    answer: dict[str, Any] = json.loads(line)
    return answer


def unreachable(directory: Path, reason: OSError) -> ClusterError:
    """Return the error to raise when nobody answers in *directory*."""
    return ClusterError(f"no guardian can be reached in {directory}: {reason}")
