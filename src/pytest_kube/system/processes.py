"""Our side of the guardian: processes that end when this one ends, however it does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
import weakref
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

from pytest_kube.errors import ClusterError, hide_frames
from pytest_kube.system.connection import (
    ANSWER_TIMEOUT,
    dial,
    take_lease,
    unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

__tracebackhide__ = hide_frames

FORMAT = 2
"""The version of what a guardian is asked and answers; who connects compares it."""

END_TIMEOUT = 300.0
"""Seconds for the end. Clean-up commands have limits, which the guardian keeps."""

_STAMP = len("2026-11-23T19:08:17.123456Z ")

NOT_STARTED = 127
"""The exit code of what could not be started, the one that shells have for it."""


@dataclass(eq=False)
class Process:
    """One child process of a guardian.

    Attributes:
        name: What it is called in messages.
        argv: Its command line.
        log: The file that gets its output.
        pid: Its process id, also that of its process group.
        exited: Done when it ended, with its exit code; negative for a signal.
    """

    name: str
    argv: Sequence[str]
    log: Path
    pid: int = 0
    exited: Future[int] = dataclass_field(default_factory=Future)

    def log_tail(self, lines: int = 15) -> str:
        """Return the last *lines* of its output."""
        return tail(self.log, lines)


def tail(path: Path, lines: int, *, at_most: int = 64 * 1024) -> str:
    """Return the last *lines* of a file, reading *at_most* bytes of it."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - at_most))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


class OutputLine(NamedTuple):
    """A line of output, and when it came, in UTC."""

    time: datetime
    text: str


def timed_lines(path: Path, *, at_most: int = 1024 * 1024) -> list[OutputLine]:
    """Return the last lines of a log with times, reading *at_most* bytes of it."""
    try:
        with path.open("rb") as file:
            start = file.seek(0, os.SEEK_END) - at_most
            file.seek(max(0, start))
            if start > 0:
                file.readline()  # the end of one
            data = file.read()
    except OSError:
        return []
    found = []
    for raw in data.split(b"\n"):
        try:
            moment = datetime.fromisoformat(raw[: _STAMP - 1].decode())
        except ValueError:  # the last one may be written right now
            continue
        text = raw[_STAMP:].decode("utf-8", "replace")
        found += [OutputLine(moment, line) for line in text.splitlines() or [""]]
    return found


class Guardian:
    """A lease of a running guardian, whose folder goes away with it.

    Use it as a context manager. Leaving it kills what it started, runs the clean-up
    commands and removes the folder; so does the end of this process, even by SIGKILL.
    What is kept stays for the next one who connects.

    Attributes:
        directory: Its folder: logs, certificates, data.
    """

    def __init__(self) -> None:
        sweep()
        ours, theirs = socket.socketpair()
        script = Path(__file__).with_name("guardian.py")
        with theirs:
            # Isolated and without site: nothing of the user's environment can break
            # it, and it starts in half the time.
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    str(script),
                    str(theirs.fileno()),
                    tempfile.gettempdir(),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        with contextlib.ExitStack() as stack:
            stack.callback(_await_end, process)
            try:
                lines, granted = take_lease(ours, shared=False)
            except TimeoutError:
                raise _no_answer(process.pid, ANSWER_TIMEOUT) from None
            except OSError:
                raise ClusterError(
                    "the guardian process ended at once; is "
                    f"{tempfile.gettempdir()} writable?"
                ) from None
            stack.pop_all()
        self._process: subprocess.Popen[bytes] | None = process
        self._begin(ours, lines, granted)

    @classmethod
    def connect(cls, directory: Path, *, shared: bool) -> Self:
        """Take a lease of the guardian that keeps *directory*.

        Args:
            directory: As :func:`kept` finds it.
            shared: Whether others may have a lease at the same time.

        Raises:
            BusyError: Another lease excludes this one.
            ClusterError: There is no guardian any more.
        """
        try:
            connection = dial(directory)
            lines, granted = take_lease(connection, shared=shared)
        except OSError as e:
            raise unreachable(directory, e) from e
        guardian = cls.__new__(cls)
        guardian._process = None  # noqa: SLF001  # ours
        guardian._begin(connection, lines, granted)  # noqa: SLF001
        return guardian

    def _begin(
        self, lease: socket.socket, lines: BinaryIO, granted: Mapping[str, Any]
    ) -> None:
        self.directory = Path(granted["directory"])
        self._logs = Path(granted["logs"])
        self._pid: int = granted["pid"]
        self._lease = lease
        self._lock = threading.Lock()
        self._answers: dict[int, Future[dict[str, Any]]] = {}
        self._processes = {
            found["name"]: Process(**{**found, "log": Path(found["log"])})
            for found in granted["processes"]
        }
        self._last_id = 0
        self._reader = threading.Thread(
            target=_read,
            args=(weakref.ref(self), lines),
            name="pytest-kube guardian",
            daemon=True,
        )
        self._reader.start()
        # A forked child would keep the lease alive after us, and give it up for us.
        os.register_at_fork(after_in_child=partial(_forget, weakref.ref(self)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_lease", None) is not None and self._lease.fileno() != -1:
            with contextlib.suppress(OSError):
                self._lease.shutdown(socket.SHUT_RDWR)
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=1)

    def __repr__(self) -> str:
        return f"<Guardian pid={self._pid}>"

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timestamps: bool = False,
    ) -> Process:
        """Start a child process; its output goes to ``NAME.log`` in the folder.

        While another one of that name runs, it is called ``NAME-2`` and so on. With
        *timestamps* each line has its time there; :func:`timed_lines` reads them.

        Raises:
            ClusterError: The system refused, for example a file that cannot be run.
        """
        process = self._named(name, argv)
        try:
            answer = self._ask(
                do="start",
                name=process.name,
                argv=process.argv,
                log=process.log.name,
                env=None if env is None else dict(env),
                cwd=None if cwd is None else str(cwd),
                timestamps=timestamps,
            )
        except ClusterError:
            _settle(process.exited, NOT_STARTED)
            raise
        process.pid = answer["pid"]
        return process

    def _named(self, name: str, argv: Sequence[str]) -> Process:
        with self._lock:
            free, number = name, 1
            while free in self._processes and not self._processes[free].exited.done():
                number += 1
                free = f"{name}-{number}"
            process = Process(free, list(argv), self._logs / f"{free}.log")
            self._processes[free] = process
        return process

    def stop(self, process: Process, *, grace: float = 0.0) -> int:
        """End a child process and its group; return its exit code.

        Args:
            process: What :meth:`start` returned.
            grace: Seconds between SIGTERM and SIGKILL; 0 for SIGKILL at once.
        """
        if process.exited.done():
            return process.exited.result()
        answer = self._ask(
            ANSWER_TIMEOUT + grace, do="stop", name=process.name, grace=grace
        )
        code = answer["code"]
        if code is None:  # it ended by itself at the same moment; the report is queued
            return process.exited.result(ANSWER_TIMEOUT)
        _settle(process.exited, code)
        return int(code)

    def restart(self, process: Process) -> Process:
        """Kill a child process, and start it again as it was; return the new one.

        What is kept stays kept. The old one's ``exited`` is never done.

        Raises:
            ClusterError: It has ended already, or the system refused.
        """
        fresh = Process(process.name, process.argv, process.log)
        fresh.pid = self._ask(do="restart", name=process.name)["pid"]
        with self._lock:
            self._processes[process.name] = fresh
        return fresh

    def processes(self) -> list[Process]:
        """Return what was started and still runs."""
        with self._lock:
            return [p for p in self._processes.values() if not p.exited.done()]

    def at_end(self, argv: Sequence[str], *, timeout: float) -> None:
        """Run *argv* when everything ends, for at most *timeout* seconds."""
        self._ask(do="finally", argv=list(argv), seconds=timeout)

    def keep(
        self, *, idle: float, about: Mapping[str, Any], shared: bool = False
    ) -> None:
        """Let what runs now outlive this lease; another one can :meth:`connect`.

        What is started later still ends with the lease under which it was started.
        Called again, it replaces *idle* and *about* and nothing else.

        Args:
            idle: Seconds without any lease after which everything ends.
            about: What those who look for it must know; plain JSON.
            shared: Whether others may have a lease while we have this one.
        """
        self._ask(do="keep", idle=idle, about=dict(about), format=FORMAT, shared=shared)

    def close(self) -> None:
        """Kill what is not kept; without that, remove the folder. Can be repeated."""
        self._leave("close")

    def end(self) -> None:
        """End everything, also what is kept, whoever else has a lease of it."""
        self._leave("end")

    def _leave(self, do: str) -> None:
        if self._lease.fileno() == -1:
            return
        answer: dict[str, Any] = {}
        with contextlib.suppress(ClusterError):
            answer = self._ask(END_TIMEOUT, do=do)
        with self._lock:
            for name in answer.get("kept", ()):
                # It lives on, and nobody will tell us when it ends.
                self._processes.pop(name, None)
        with contextlib.suppress(OSError):
            self._lease.shutdown(socket.SHUT_RDWR)
        self._reader.join(ANSWER_TIMEOUT)
        self._lease.close()
        if self._process is None:
            return
        if "kept" in answer:
            # It is not ours any more. Without this, Popen warns that it still runs.
            self._process.returncode = 0
        else:
            _await_end(self._process)

    def _ask(self, timeout: float = ANSWER_TIMEOUT, **message: Any) -> dict[str, Any]:
        answer: Future[dict[str, Any]] = Future()
        with self._lock:
            self._last_id += 1
            self._answers[self._last_id] = answer
            line = json.dumps({"id": self._last_id, **message}).encode() + b"\n"
            try:
                self._lease.sendall(line)
            except OSError:
                _settle(answer, {"error": "the guardian process is gone"})
        reply = self._wait_for(answer, timeout)
        if "error" in reply:
            what = " ".join(message.get("argv", [message["do"]])[:1])
            raise ClusterError(f"{message.get('name', what)}: {reply['error']}")
        return reply

    def _wait_for(
        self, answer: Future[dict[str, Any]], timeout: float = ANSWER_TIMEOUT
    ) -> dict[str, Any]:
        try:
            return answer.result(timeout)
        except FutureTimeoutError:
            raise _no_answer(self._pid, timeout) from None

    def _lose(self) -> None:
        """Note that the guardian process is gone, and all of its children with it."""
        gone = {"error": "the guardian process is gone"}
        with self._lock:
            waiting = [*self._answers.values()]
            orphans = [*self._processes.values()]
        for answer in waiting:
            _settle(answer, gone)
        for process in orphans:
            _settle(process.exited, -9)

    def _handle(self, message: dict[str, Any]) -> None:
        if "id" in message:
            with self._lock:
                answer = self._answers.pop(message["id"])
            _settle(answer, message)
        else:
            with self._lock:
                process = self._processes[message["name"]]
            _settle(process.exited, message["code"])


def _read(guardian: weakref.ref[Guardian], lines: BinaryIO) -> None:
    """Hand on what a guardian process says, in a thread.

    The thread must not be what keeps the owner alive: one that nobody closed would
    never be noticed.
    """
    with contextlib.suppress(OSError, ValueError), lines:
        for line in lines:
            owner = guardian()
            if owner is None:
                return
            owner._handle(json.loads(line))  # noqa: SLF001  # ours
            del owner
    owner = guardian()
    if owner is not None:
        owner._lose()  # noqa: SLF001


def _forget(guardian: weakref.ref[Guardian]) -> None:
    """Close a forked child's copy of the lease, without a word to the guardian."""
    owner = guardian()
    if owner is not None and owner._lease.fileno() != -1:  # noqa: SLF001  # ours
        os.close(owner._lease.detach())  # noqa: SLF001


def _settle(future: Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _await_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(ANSWER_TIMEOUT)
    except subprocess.TimeoutExpired:
        # Its children go with it, by their death signal.
        process.kill()
        process.wait()


def _no_answer(pid: int, timeout: float) -> ClusterError:
    return ClusterError(
        f"the guardian process {pid} gave no answer within {timeout:.0f} s; is the "
        f"machine overloaded, or is {tempfile.gettempdir()} not writable?"
    )


def sweep() -> None:
    """Remove the folders of guardians that were killed themselves.

    A living guardian holds a lock on a file in its folder.
    """
    import fcntl

    for folder in Path(tempfile.gettempdir()).glob("pytest-kube-*"):
        with contextlib.suppress(OSError), (folder / "lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
