"""A running controller under test: started, ready, failed, stopped.

What it is made of (kopf handlers, a function, an executable) is a :class:`Work`.
"""

from __future__ import annotations

import contextlib
import heapq
import sys
import threading
import time
import traceback
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass
from datetime import UTC, datetime
from textwrap import indent
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pytest_kube.controllers.environment import cluster_environment
from pytest_kube.controllers.output import collected_logs, one_line, own_traceback
from pytest_kube.errors import (
    ClusterError,
    ControllerError,
    ControllerExitedError,
    ControllerNotReadyError,
    WaitTimeoutError,
    hide_frames,
)
from pytest_kube.requests_log import Follower, requests
from pytest_kube.system.processes import timed_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kube.requests_log import Request
    from pytest_kube.system.processes import Guardian, OutputLine

__tracebackhide__ = hide_frames

STOP_TIMEOUT = 5.0
"""Seconds a controller has to stop before it is reported as hanging."""

_OUTPUT_LINES = 10_000


@dataclass(frozen=True)
class Surroundings:
    """What a controller under test is given.

    Attributes:
        user: Its own identity: what the API server calls it.
        kubeconfig: That identity's kubeconfig file.
        namespace: The namespace of the test.
        guardian: Starts processes that end with this one.
        folder: Where relative paths in a specification start.
        wide: Whether it looks after all namespaces rather than the test's own.
        audit: The API server's audit log, where there is one.
        credential: What the API server calls its token, if it has one: others may run
            as the same user.
    """

    user: str
    kubeconfig: Path
    namespace: str
    guardian: Guardian
    folder: Path
    wide: bool = False
    audit: Path | None = None
    credential: str = ""


class Work(Protocol):
    """What a controller does, in a thread of its own."""

    name: str

    def run(self, controller: Controller) -> None:
        """Run until told to stop; call ``controller.ready()`` when ready."""

    def stop(self) -> None:
        """Ask it to stop; called from another thread, at most once."""

    def waiting_for(self) -> str:
        """Say what is missing until it is ready."""


@runtime_checkable
class Program(Protocol):
    """Work that is a process of its own."""

    def kill(self) -> None:
        """End it at once."""

    def pause(self) -> None:
        """Stop its clock."""

    def resume(self) -> None:
        """Let it go on."""


class Controller:
    """A controller under test.

    Attributes:
        name: What it is called in messages.
        user: What the API server calls it.
        credential: What the API server calls its token; empty if it has none.
        exited: Done when it ended; with its exception when it ended by one.
    """

    def __init__(
        self,
        work: Work,
        surroundings: Surroundings | None = None,
        again: Callable[[], Work] | None = None,
    ) -> None:
        self.name = work.name
        self.user = surroundings.user if surroundings else ""
        self.credential = surroundings.credential if surroundings else ""
        self._audit = surroundings.audit if surroundings else None
        self._again = again
        self._began = datetime.now(UTC)
        self._errors: list[str] = []
        self._errors_read = 0
        self._output: deque[OutputLine] = deque(maxlen=_OUTPUT_LINES)
        self._logs: list[Path] = []
        self._timeout = 0.0
        self._begin(work)

    def _begin(self, work: Work) -> None:
        self.exited: Future[None] = Future()
        self._ready: Future[None] = Future()
        self._work = work
        self._stopping = False
        self._told = False
        self._thread = threading.Thread(
            target=self._run, name=f"controller {self.name}", daemon=True
        )

    def __repr__(self) -> str:
        return f"<Controller {self.summary()}>"

    @property
    def errors(self) -> list[str]:
        """What its handlers raised without ending it, one text each.

        A test that has looked at them is not warned of them.
        """
        self._errors_read = len(self._errors)
        return list(self._errors)

    def unread_errors(self) -> list[str]:
        """Return the errors that came since the test looked at them."""
        return self._errors[self._errors_read :]

    @property
    def ports(self) -> dict[str, int]:
        """The ports that were put in for ``{port:NAME}``."""
        ports: dict[str, int] = getattr(self._work, "ports", {})
        return dict(ports)

    @property
    def output(self) -> str:
        """What it logged or printed so far."""
        return "\n".join(line.text for line in self.lines())

    def failure(self) -> Exception | None:
        """Return the error to raise if it ended by itself, else ``None``."""
        if not self.exited.done() or self._stopping:
            return None
        cause = self.exited.exception()
        how = "returned" if cause is None else one_line(cause)
        text = f"controller {self.name} ended while the test needed it: {how}"
        # The traceback of an error of ours would say nothing about the controller.
        if cause is not None and not isinstance(cause, ControllerError):
            text += f"\n{indent(own_traceback(cause), '    ')}"
        elif last := self.tail():
            text += f"\n  Its last lines:\n{indent(last, '    ')}"
        error = ControllerExitedError(text)
        error.__cause__ = cause
        self._told = True
        return error

    def check(self) -> None:
        """Raise the error of one that ended by itself, unless somebody has it already.

        Raises:
            ControllerExitedError: It ended, and no wait has noticed.
        """
        if not self._told and (failure := self.failure()):
            raise failure

    def summary(self) -> str:
        """Say in one line how it is doing."""
        if not self.exited.done():
            state = "running" if self._ready.done() else "starting"
        elif cause := self.exited.exception():
            state = f"ended by {one_line(cause)}"
        else:
            state = "stopped"
        if self._errors:
            count = len(self._errors)
            last = self._errors[-1].splitlines()[0]
            state += f", {count} handler error{'s' if count > 1 else ''}, last: {last}"
        return f"{self.name}: {state}"

    def tail(self, lines: int = 15) -> str:
        """Return the last *lines* of its output."""
        return "\n".join(line.text for line in self.lines()[-lines:])

    def lines(self) -> list[OutputLine]:
        """Return the lines of its output, also from before a restart, oldest first.

        Each has a ``time``, in UTC, and its ``text``. The time is when it was logged;
        of what a program printed, when the first of the line came. Of much output they
        are the last lines, of each start about a megabyte.

        Example:
            >>> [line.time for line in controller.lines() if "reconciled" in line.text]
        """
        logged = [list(self._output), *(timed_lines(log) for log in self._logs)]
        return list(heapq.merge(*logged, key=lambda line: line.time))

    # --- for what it is made of ---------------------------------------------

    def ready(self) -> None:
        """Note that it is ready."""
        if not self._ready.done():
            self._ready.set_result(None)

    def write(self, line: OutputLine) -> None:
        """Add to its output."""
        self._output.append(line)

    def writes_to(self, log: Path) -> None:
        """Note that its output goes to a file, and is to be read from there."""
        self._logs.append(log)

    def report_error(self, text: str) -> None:
        """Note an error that did not end it."""
        self._errors.append(text)

    # --- its life -----------------------------------------------------------

    def start(self, timeout: float) -> None:
        """Start it, and wait until it is ready.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            ControllerExitedError: It ended before it was ready.
            ControllerNotReadyError: It is not ready; the text says what is missing.
        """
        self._timeout = timeout
        self._thread.start()
        wait_for_futures(
            [self._ready, self.exited], timeout=timeout, return_when=FIRST_COMPLETED
        )
        if failure := self.failure():
            raise failure
        if not self._ready.done():
            last = self.tail() or "(none)"
            raise ControllerNotReadyError(
                f"controller {self.name} was not ready within {timeout:.1f} s: "
                f"{self._work.waiting_for()}\n  Its last lines:\n{indent(last, '    ')}"
            )

    def stop(self) -> None:
        """Stop it, and wait until it ended. Can be called again.

        Raises:
            ControllerError: It does not end; the text shows where it hangs. Or it ended
                by an exception when it was told to stop, which is the cause.
        """
        ended = self.exited.done()
        if not self._stopping:
            self._stopping = True
            if self._thread.is_alive():
                self._work.stop()
        deadline = time.monotonic() + STOP_TIMEOUT
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT)
        if self._thread.is_alive():
            frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001
            stack = "".join(traceback.format_stack(frame)) if frame else ""
            elapsed = STOP_TIMEOUT + time.monotonic() - deadline
            raise ControllerError(
                f"controller {self.name} did not stop within {elapsed:.0f} s; its "
                "thread goes on and may disturb the tests to come. It hangs in:\n"
                f"{stack}"
            )
        cause = None if ended or not self.exited.done() else self.exited.exception()
        if cause is not None:
            raise ControllerError(
                f"controller {self.name} raised when it was stopped: "
                f"{one_line(cause)}\n{indent(own_traceback(cause), '    ')}"
            ) from cause

    def restart(self) -> None:
        """Stop it, start it again as the same user, and wait until it is ready.

        Raises:
            ControllerError: It does not stop, or does not start again.
        """
        if self._again is None:
            raise ControllerError(f"controller {self.name}: nobody can start it again")
        self.stop()
        self._begin(self._again())
        self.start(self._timeout)

    def kill(self) -> None:
        """End a program by SIGKILL, in the middle of what it does; no error follows.

        Raises:
            ControllerError: It is no program but runs in this process.
        """
        work = self._program("killed")
        self._stopping = True
        work.kill()
        self._thread.join(STOP_TIMEOUT)

    def pause(self) -> None:
        """Let a program stand still, until :meth:`resume`.

        Raises:
            ControllerError: It is no program but runs in this process.
        """
        self._program("paused").pause()

    def resume(self) -> None:
        """Let a program go on that stands still.

        Raises:
            ControllerError: It is no program but runs in this process.
        """
        self._program("resumed").resume()

    def _program(self, what: str) -> Program:
        if not isinstance(self._work, Program):
            raise ControllerError(
                f"controller {self.name} cannot be {what}, for it runs in the process "
                "of pytest; programs can, those of exec:"
            )
        return self._work

    # --- what it asks the API server ------------------------------------------

    def requests(self) -> list[Request]:
        """Return what it asked of the API server since it was started, oldest first.

        Replicas that run as one ServiceAccount are told apart by their tokens, from
        Kubernetes 1.30 on.

        Raises:
            ClusterError: The cluster has no audit log.
        """
        log = self._log_of_requests()
        return requests(log, self._began, {self.user}, self.credential)[::-1]

    def wait_idle(self, *, quiet: float = 0.5, timeout: float = 10.0) -> None:
        """Wait until it has asked nothing of the API server for a while.

        That it renews a Lease does not count.

        Args:
            quiet: Seconds without a request.
            timeout: Seconds to wait at most.

        Raises:
            WaitTimeoutError: It goes on asking; the text shows its last requests.
            ControllerExitedError: It ended.
            ClusterError: The cluster has no audit log.
        """
        follower = Follower(self._log_of_requests(), self.user, self.credential)
        started = last = time.monotonic()
        seen: deque[Request] = deque(maxlen=5)
        pause = threading.Event()
        while (now := time.monotonic()) - last < quiet:
            if failure := self.failure():
                raise failure
            if now - started >= timeout:
                lines = "\n".join(f"    {request}" for request in seen)
                raise WaitTimeoutError(
                    f"controller {self.name} was not idle within {timeout:.1f} s: "
                    f"never {quiet} s without a request. Its last ones:\n{lines}",
                    last=None,
                    elapsed=now - started,
                )
            pause.wait(quiet / 20)
            new = [r for r in follower.read() if r.resource != "leases"]
            if new:
                seen += new
                last = time.monotonic()

    def _log_of_requests(self) -> Path:
        if self._audit is None:
            raise ClusterError(
                f"what controller {self.name} asked of the API server is not known: "
                "the cluster has no audit log; those of kwok and envtest have one"
            )
        return self._audit

    def _run(self) -> None:
        try:
            self._work.run(self)
        except BaseException as e:  # noqa: BLE001  # a controller may call sys.exit
            self.exited.set_exception(e)
        else:
            self.exited.set_result(None)


@contextlib.contextmanager
def running(
    work: Work,
    surroundings: Surroundings,
    *,
    timeout: float,
    again: Callable[[], Work] | None = None,
) -> Iterator[Controller]:
    """Run a controller under test: ready inside of the context, stopped after it.

    Args:
        work: What it does.
        surroundings: What it is given.
        timeout: Seconds until it is ready.
        again: Makes the work anew, for a restart.
    """
    controller = Controller(work, surroundings, again)
    with cluster_environment(surroundings.kubeconfig), collected_logs(controller):
        try:
            controller.start(timeout)
            yield controller
            controller.check()
        finally:
            controller.stop()
