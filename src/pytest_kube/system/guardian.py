"""The guardian: a small process that owns child processes on behalf of others.

It is run as a script, with the standard library only, and is given one end of a socket
pair: the first lease. However its user ends, the kernel closes the other end, and then
the guardian kills every process it started, runs the clean-up commands it was given,
removes its directory and exits. Nothing else does any of that.

Asked to keep what runs, it also listens on ``DIR/socket`` for other users, and ends
when there has been no lease for a while. What is started from then on belongs to the
lease under which it was started, and is killed when that ends.

It speaks JSON, one message per line. Requests carry an ``id`` that the answer repeats::

    {"id": 1, "do": "lease", "shared": false}
    {"id": 2, "do": "start", "name": "etcd", "argv": [...], "log": "etcd.log",
     "timestamps": false}
    {"id": 3, "do": "stop", "name": "etcd", "grace": 5.0}
    {"id": 4, "do": "finally", "argv": [...], "seconds": 60}
    {"id": 5, "do": "keep", "idle": 600, "about": {...}, "format": 1, "shared": false}
    {"id": 6, "do": "status"}
    {"id": 7, "do": "close"}
    {"id": 8, "do": "end"}

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

SEND_TIMEOUT = 2.0
"""Seconds for which one user that does not read may hold up the others."""

LONGEST_LINE = 8 * 1024 * 1024
"""More than the system takes as arguments and environment of a process."""

CHUNK = 64 * 1024
"""Bytes of output that are copied in one turn: a child that writes without end must not
hold up the others."""

LARGEST_PIPE = 1024 * 1024
"""Bytes of output that can be on their way when a child ends."""

LONGEST_OUTPUT_LINE = 256 * 1024
"""Bytes, after which a line of output is broken in two: readers look for the times."""

LONGEST_SLEEP = 3600.0
"""Seconds; the system's calls count milliseconds in 32 bits."""

NEVER = float("inf")


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


class User:
    """One connection.

    Attributes:
        lease: ``"exclusive"`` or ``"shared"``; ``None`` for who only asks.
        logs: The folder for the logs of what it starts.
        farewell: The id of its request to close, until that is answered.
    """

    def __init__(self, connection: socket.socket, logs: str) -> None:
        connection.settimeout(SEND_TIMEOUT)
        self.connection = connection
        self.logs = logs
        self.lease: str | None = None
        self.farewell: int | None = None
        self.buffer = b""

    def fileno(self) -> int:
        """Return what a selector needs."""
        return self.connection.fileno()

    def receive(self) -> list[bytes]:
        """Return the lines that arrived."""
        data = self.connection.recv(65536)
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        if not data or len(self.buffer) > LONGEST_LINE:
            raise ConnectionError
        return lines

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message; who does not read them any more loses the connection."""
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            try:
                # The next receive() fails: leases end in that one place.
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Output:
    """What a child writes, on its way through a pipe to its log, where it gets times.

    Attributes:
        writing: The end for the child; ours has to be closed when the child has it.
    """

    def __init__(self, log: str) -> None:
        self._log = open(log, "ab", buffering=0)
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self._pipe = open(reading, "rb", buffering=0)
        self.writing = open(writing, "wb", buffering=0)
        self._length = 0  # of the line that has not ended

    def fileno(self) -> int:
        """Return what a selector needs."""
        return self._pipe.fileno()

    def copy(self) -> bytes | None:
        """Copy some of it; return what, ``None`` if there is none, ``b""`` at its end.

        The first of a line is written at once with its time, not when the line ends:
        nothing is kept here that could be lost, or grow.
        """
        data = self._pipe.read(CHUNK)
        if data:
            stamp = _stamp()
            last = data[-1:]  # the line after it has not begun
            text = data[:-1].replace(b"\n", b"\n" + stamp) + last
            self._write(text if self._length else stamp + text)
            rest = len(data) - 1 - data.rfind(b"\n")
            self._length = rest + (self._length if rest == len(data) else 0)
            if self._length > LONGEST_OUTPUT_LINE:
                self._end_line()
        return data

    def finish(self) -> None:
        """Copy what is left of a child that has ended.

        It may have left others that go on writing, even without end.
        """
        if self._pipe.closed:
            return  # it has closed its end before
        for _ in range(0, LARGEST_PIPE + CHUNK, CHUNK):
            if not self.copy():
                break
        if self._length:
            self._end_line()

    def close(self) -> None:
        """Close the files; there is nobody any more who could write."""
        if self._length:
            self._end_line()
        self._pipe.close()
        self._log.close()

    def _end_line(self) -> None:
        self._write(b"\n")
        self._length = 0

    def _write(self, data: bytes) -> None:
        try:
            self._log.write(data)
        except OSError:  # a full disk must not stop the child, nor end the cluster
            pass


class Child:
    """A child process and its owner: a user, or nobody when it is kept."""

    process: subprocess.Popen[bytes]

    def __init__(self, owner: User, request: dict[str, Any], log: str) -> None:
        self.owner: User | None = owner
        self.request = request
        self.name: str = request["name"]
        self.argv: list[str] = request["argv"]
        self.log = log
        self.output: Output | None = None  # unless the log gets it directly
        # The end of the grace period, and who wants to know the exit code.
        self.deadline = NEVER
        self.stops: list[tuple[User, int]] = []


class Guardian:
    """The processes, the clean-up commands, and the leases they live by."""

    def __init__(self, connection: socket.socket, directory: str) -> None:
        self.directory = directory
        self.children: list[Child] = []
        self.cleanups: list[tuple[list[str], float]] = []
        self.listener: socket.socket | None = None  # only when something is kept
        self.idle = 0.0
        self.idle_until = NEVER
        self.broken = False
        self.ending = False
        self.die_with_us = _death_signal()
        self.selector = selectors.DefaultSelector()
        self.users: list[User] = []
        self.connected = 0
        self._welcome(connection, directory).lease = "exclusive"
        self.requests_of_all = {
            "lease": self._lease,
            "status": self._status,
            "close": self._close,
            "end": self._end,
        }
        self.requests_under_lease = {
            **self.requests_of_all,
            "start": self._start,
            "stop": self._stop,
            "restart": self._restart,
            "finally": self._finally,
            "keep": self._keep,
        }

    def serve(self) -> None:
        """Answer as long as anybody needs it, then leave nothing behind."""
        wake_read, wake_write = socket.socketpair()
        wake_read.setblocking(False)
        wake_write.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._terminate())
        self.selector.register(wake_read, selectors.EVENT_READ)
        try:
            while self._is_needed():
                self._bid_farewell(kept=[c.name for c in self._kept()])
                for key, _ in self.selector.select(self._patience()):
                    if key.fileobj is wake_read:
                        wake_read.recv(4096)
                    elif key.fileobj is self.listener:
                        self._accept()
                    elif isinstance(key.data, Output):
                        self._copy(key.data)
                    else:
                        self._serve(key.data)
                self._reap()
        except SystemExit:
            pass
        finally:
            self._leave_nothing()
        self._bid_farewell()

    def _terminate(self) -> NoReturn:
        raise SystemExit

    def _is_needed(self) -> bool:
        if self.ending:
            return False
        if any(user.lease for user in self.users):
            return True
        if self.listener is None or self.broken:
            return False
        self.idle_until = min(self.idle_until, time.monotonic() + self.idle)
        return time.monotonic() < self.idle_until

    def _patience(self) -> float:
        soonest = min([self.idle_until, *(child.deadline for child in self.children)])
        return min(LONGEST_SLEEP, max(0.0, soonest - time.monotonic()))

    # --- users ----------------------------------------------------------------

    def _accept(self) -> None:
        assert self.listener is not None  # noqa: S101  # for the type checker
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        self.connected += 1
        logs = os.path.join(self.directory, f"user-{self.connected}")
        self._welcome(connection, logs)

    def _welcome(self, connection: socket.socket, logs: str) -> User:
        user = User(connection, logs)
        self.users.append(user)
        self.selector.register(user, selectors.EVENT_READ, user)
        return user

    def _serve(self, user: User) -> None:
        """Act on what a user says. Who talks nonsense is treated as gone."""
        try:
            for line in user.receive():
                message = json.loads(line)
                answer = self._act(user, message)
                if answer is not None:
                    user.tell({"id": message["id"], **answer})
        except Exception:  # noqa: BLE001  # gone, or whatever nonsense can cause
            self.selector.unregister(user)
            self.users.remove(user)
            user.connection.close()
            self._release(user)

    def _act(self, user: User, message: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer to a request, or nothing when it comes later."""
        requests = self.requests_under_lease if user.lease else self.requests_of_all
        try:
            return requests[message["do"]](user, message)
        except Exception as e:  # noqa: BLE001  # a mistake must not end the cluster
            return {"error": f"{type(e).__name__}: {e}"}

    def _release(self, user: User) -> None:
        """Take back a lease, and kill what was started under it."""
        user.lease = None
        if self.listener is None:
            return  # nothing is kept: all of it ends, together
        own = [child for child in self.children if child.owner is user]
        _kill(own)
        self.children = [child for child in self.children if child not in own]
        if user.logs != self.directory:
            shutil.rmtree(user.logs, ignore_errors=True)

    def _bid_farewell(self, **news: Any) -> None:
        for user in self.users:
            if user.farewell is not None:
                user.tell({"id": user.farewell, **news})
                user.farewell = None

    # --- requests -------------------------------------------------------------

    def _lease(self, user: User, message: dict[str, Any]) -> dict[str, Any]:
        wanted = "shared" if message["shared"] else "exclusive"
        held = {other.lease for other in self.users if other is not user} - {None}
        if held and held | {wanted} != {"shared"}:
            text = f"another run uses what is kept in {self.directory}"
            return {"error": text, "busy": True}
        os.makedirs(user.logs, exist_ok=True)
        user.lease = wanted
        self.idle_until = NEVER
        return {
            "directory": self.directory,
            "logs": user.logs,
            "pid": os.getpid(),
            "processes": [
                {"name": c.name, "argv": c.argv, "log": c.log, "pid": c.process.pid}
                for c in self._kept()
            ],
        }

    def _status(self, _: User, __: dict[str, Any]) -> dict[str, Any]:
        leases = sum(user.lease is not None for user in self.users)
        left = min(self.idle, self.idle_until - time.monotonic())
        return {"leases": leases, "idle_left": None if leases else left}

    def _close(self, user: User, message: dict[str, Any]) -> None:
        self._release(user)
        user.farewell = message["id"]

    def _end(self, user: User, message: dict[str, Any]) -> None:
        self.ending = True
        user.farewell = message["id"]

    def _start(self, user: User, message: dict[str, Any]) -> dict[str, Any]:
        if self._find(user, message["name"]):
            raise FileExistsError("there is one of that name")
        log = os.path.join(user.logs, message["log"])
        child = Child(user, message, log)
        self._spawn(child)
        self.children.append(child)
        return {"pid": child.process.pid}

    def _spawn(self, child: Child) -> None:
        message = child.request
        output = Output(child.log) if message.get("timestamps") else None
        with output.writing if output else open(child.log, "ab") as writing:
            child.process = subprocess.Popen(
                message["argv"],
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=subprocess.STDOUT,
                env=message.get("env"),
                cwd=message.get("cwd") or self.directory,
                start_new_session=True,
                preexec_fn=self.die_with_us,
            )
        child.output = output
        if output:
            self.selector.register(output, selectors.EVENT_READ, output)

    def _copy(self, output: Output) -> None:
        if output.copy() == b"":
            self.selector.unregister(output)
            output.close()

    def _restart(self, user: User, message: dict[str, Any]) -> dict[str, Any]:
        child = self._find(user, message["name"])
        if child is None:
            raise FileNotFoundError("there is none of that name")
        _kill([child])
        if child.output:
            child.output.finish()
        self._spawn(child)
        return {"pid": child.process.pid}

    def _stop(self, user: User, message: dict[str, Any]) -> dict[str, Any] | None:
        grace = message["grace"]
        child = self._find(user, message["name"])
        if child is None:
            return {"code": None}
        _signal(child.process, signal.SIGTERM if grace else signal.SIGKILL)
        child.deadline = time.monotonic() + grace
        child.stops.append((user, message["id"]))
        return None

    def _finally(self, _: User, message: dict[str, Any]) -> dict[str, Any]:
        self.cleanups.append((message["argv"], message["seconds"]))
        return {}

    def _keep(self, user: User, message: dict[str, Any]) -> dict[str, Any]:
        idle = message["idle"]
        if not idle >= 0:
            raise ValueError(f"idle for {idle} s")
        path = os.path.join(self.directory, "kept.json")
        with open(f"{path}.new", "w") as file:
            content = {key: message[key] for key in ("format", "about")}
            json.dump({**content, "pid": os.getpid()}, file)
        if self.listener is None:
            # What ended until now is no part of what is kept.
            self._reap()
            self.listener = self._listen()
            self.selector.register(self.listener, selectors.EVENT_READ)
            for child in self.children:
                child.owner = None
            user.lease = "shared" if message["shared"] else "exclusive"
        self.idle = idle
        # Who finds the file can connect.
        os.rename(f"{path}.new", path)
        return {}

    def _listen(self) -> socket.socket:
        # A relative name: whole paths of sockets have a limit of about 100 bytes.
        # Back again, because clean-up commands run in the folder of the first user.
        before = os.open(".", os.O_RDONLY)
        listener = socket.socket(socket.AF_UNIX)
        try:
            os.chdir(self.directory)
            listener.bind("socket")
        finally:
            os.fchdir(before)
            os.close(before)
        listener.setblocking(False)
        listener.listen(128)
        return listener

    # --- children -------------------------------------------------------------

    def _kept(self) -> list[Child]:
        return [child for child in self.children if child.owner is None]

    def _find(self, user: User, name: str) -> Child | None:
        for child in self.children:
            if child.name == name and child.owner in (user, None):
                return child
        return None

    def _reap(self) -> None:
        for child in list(self.children):
            code = child.process.poll()
            if code is not None:
                # What it may have left in its process group goes with it.
                _signal(child.process, signal.SIGKILL)
                if child.output:
                    child.output.finish()
                self.children.remove(child)
                self._report(child, code)
            elif time.monotonic() >= child.deadline:
                _signal(child.process, signal.SIGKILL)
                child.deadline = NEVER

    def _report(self, child: Child, code: int) -> None:
        """Tell who asked for the end of a child, and who did not but uses it."""
        if child.owner is None:
            self.broken = True
        for user in self.users:
            answers = [number for asker, number in child.stops if asker is user]
            for number in answers:
                user.tell({"id": number, "code": code})
            if not answers and user.lease and child.owner in (user, None):
                user.tell({"event": "exited", "name": child.name, "code": code})

    def _leave_nothing(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, lambda *_: None)
        self._turn_away()
        interrupted = self.children
        _kill(interrupted)
        self._clean_up()
        if self.cleanups and interrupted:
            # A daemon may still be at work for a client that we killed: docker creates
            # a container a moment after the one who asked for it is gone.
            for _ in range(AGAIN):
                time.sleep(PAUSE)
                self._clean_up()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _turn_away(self) -> None:
        """Let nobody wait for a lease while the clean-up commands run."""
        if self.listener is None:
            return
        for name in ("kept.json", "socket"):
            try:
                os.unlink(os.path.join(self.directory, name))
            except OSError:
                pass
        self.listener.close()
        for user in self.users:
            if user.lease is None and user.farewell is None:
                user.connection.close()

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


def _kill(children: list[Child]) -> None:
    for child in children:
        _signal(child.process, signal.SIGKILL)
    for child in children:
        child.process.wait()


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS says so of a zombie's group
        pass


def _stamp() -> bytes:
    """Return the time as it stands before a line, as that of ``kubectl logs`` does."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{moment}.{rest // 1000:06d}Z ".encode()


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
