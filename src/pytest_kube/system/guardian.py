"""The guardian: a small process that owns child processes on behalf of another one.

It is run as a script, with the standard library only, and is given one end of a socket
pair: the lease. However its user ends, the kernel closes the other end, and then the
guardian kills every process it started, runs the clean-up commands it was given,
removes its directory and exits. Nothing else does any of that.

It speaks JSON, one message per line. Requests carry an ``id`` that the answer repeats::

    {"id": 1, "do": "start", "name": "etcd", "argv": [...], "log": "etcd.log"}
    {"id": 2, "do": "stop", "name": "etcd", "grace": 5.0}
    {"id": 3, "do": "finally", "argv": [...], "seconds": 60}
    {"id": 4, "do": "close"}

and it reports by itself ``{"event": "exited", "name": "etcd", "code": 1}``.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
AGAIN, PAUSE = 3, 2.0
"""How often clean-up commands are repeated after an interruption, seconds between."""


def main(fd: int, parent_directory: str) -> None:
    """Serve the lease *fd* until it ends, in a new folder of *parent_directory*."""
    # Handlers that do nothing: to ignore a signal would be inherited by children.
    for unheeded in (signal.SIGINT, signal.SIGHUP):
        signal.signal(unheeded, lambda *_: None)
    # A name that sorts out leftovers: whoever can lock DIR/lock may remove DIR.
    directory = os.path.join(parent_directory, f"pytest-kube-{os.urandom(6).hex()}")
    os.mkdir(directory, 0o700)
    try:
        import fcntl

        # It gets its name when it is locked: no sweep finds it in between.
        lock = open(os.path.join(directory, "lock.new"), "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(lock.name, os.path.join(directory, "lock"))
        Guardian(socket.socket(fileno=fd), directory).serve()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Guardian:
    """The processes, the clean-up commands, and the lease they live by."""

    def __init__(self, lease: socket.socket, directory: str) -> None:
        self.lease = lease
        self.directory = directory
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.cleanups: list[tuple[list[str], float]] = []
        # (deadline of the grace period, request id) by the name of what stops
        self.stopping: dict[str, tuple[float, int]] = {}
        self.buffer = b""
        self.die_with_us = _death_signal()
        self.requests = {
            "start": self._start,
            "stop": self._stop,
            "finally": self._finally,
        }

    def serve(self) -> None:
        """Answer until the lease ends, then leave nothing behind."""
        wake_read, wake_write = socket.socketpair()
        wake_read.setblocking(False)
        wake_write.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._terminate())
        selector = selectors.DefaultSelector()
        selector.register(self.lease, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        closing: int | None = None
        try:
            self._send({"event": "ready", "directory": self.directory})
            while closing is None:
                for key, _ in selector.select(self._patience()):
                    if key.fileobj is wake_read:
                        wake_read.recv(4096)
                    else:
                        closing = self._receive()
                self._reap()
        except (ConnectionError, SystemExit):
            pass
        finally:
            self._leave_nothing()
        if closing is not None:
            self._send({"id": closing})

    def _terminate(self) -> NoReturn:
        raise SystemExit

    def _patience(self) -> float | None:
        if not self.stopping:
            return None
        return max(0.0, min(d for d, _ in self.stopping.values()) - time.monotonic())

    def _receive(self) -> int | None:
        """Act on what arrived; return the id of a request to close."""
        data = self.lease.recv(65536)
        if not data:
            raise ConnectionError
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message["do"] == "close":
                return int(message["id"])
            try:
                self.requests[message["do"]](message)
            except Exception as e:  # noqa: BLE001  # all but the end of the lease
                self._send({"id": message["id"], "error": f"{type(e).__name__}: {e}"})
        return None

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self.lease.sendall(json.dumps(message).encode() + b"\n")
        except OSError as e:
            raise ConnectionError from e

    def _start(self, message: dict[str, Any]) -> None:
        name = message["name"]
        with open(os.path.join(self.directory, message["log"]), "ab") as log:
            self.children[name] = subprocess.Popen(
                message["argv"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=message.get("env"),
                cwd=message.get("cwd") or self.directory,
                start_new_session=True,
                preexec_fn=self.die_with_us,
            )
        self._send({"id": message["id"], "pid": self.children[name].pid})

    def _stop(self, message: dict[str, Any]) -> None:
        name, grace = message["name"], message["grace"]
        child = self.children.get(name)
        if child is None:
            self._send({"id": message["id"], "code": None})
            return
        _signal(child, signal.SIGTERM if grace else signal.SIGKILL)
        self.stopping[name] = (time.monotonic() + grace, message["id"])

    def _finally(self, message: dict[str, Any]) -> None:
        self.cleanups.append((message["argv"], message["seconds"]))
        self._send({"id": message["id"]})

    def _reap(self) -> None:
        for name, child in list(self.children.items()):
            code = child.poll()
            deadline, request = self.stopping.get(name, (None, None))
            if code is not None:
                # What it may have left in its process group goes with it.
                _signal(child, signal.SIGKILL)
                del self.children[name]
                if self.stopping.pop(name, None):
                    self._send({"id": request, "code": code})
                else:
                    self._send({"event": "exited", "name": name, "code": code})
            elif deadline is not None and time.monotonic() >= deadline:
                _signal(child, signal.SIGKILL)
                self.stopping[name] = (deadline + 3600.0, request or 0)

    def _leave_nothing(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, lambda *_: None)
        interrupted = list(self.children.values())
        for child in interrupted:
            _signal(child, signal.SIGKILL)
        for child in interrupted:
            child.wait()
        self._clean_up()
        if self.cleanups and interrupted:
            # A daemon may still be at work for a client that we killed: docker creates
            # a container a moment after the one who asked for it is gone.
            for _ in range(AGAIN):
                time.sleep(PAUSE)
                self._clean_up()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _clean_up(self) -> None:
        for argv, seconds in reversed(self.cleanups):
            try:
                child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    preexec_fn=self.die_with_us,
                )
            except (OSError, subprocess.SubprocessError):
                continue
            try:
                child.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
            # With what it started: a client of docker may be the child of another one.
            _signal(child, signal.SIGKILL)
            child.wait()


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS says so of a zombie's group
        pass


def _death_signal() -> Any:
    """Return what a child runs first so that not even our SIGKILL orphans it.

    Linux only. The signal comes when the *thread* that forked ends, which is why the
    guardian has no other thread than its main one.
    """
    if sys.platform != "linux":
        return None
    import ctypes

    libc = ctypes.CDLL(None)
    guardian = os.getpid()

    def die_with_the_guardian() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guardian:
            os._exit(1)

    return die_with_the_guardian


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
