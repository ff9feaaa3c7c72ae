"""A running controller under test: started, ready, failed, stopped.

What it is made of (kopf handlers, a function, an executable) is a :class:`Work`.
"""

from __future__ import annotations

import contextlib
import heapq
import threading
import time
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass, field
from datetime import UTC, datetime
from textwrap import indent
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pytest_kube.controllers import metrics
from pytest_kube.controllers.environment import cluster_environment
from pytest_kube.controllers.loops import told_tasks
from pytest_kube.controllers.output import (
    Start,
    collected_logs,
    concerns,
    one_line,
    own_traceback,
    running_here,
    stack,
)
from pytest_kube.errors import (
    ClusterError,
    ControllerError,
    ControllerExitedError,
    ControllerNotReadyError,
    WaitTimeoutError,
    hide_frames,
)
from pytest_kube.requests_log import Follower, requests
from pytest_kube.steps import Steps, step
from pytest_kube.system.processes import timed_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kube.controllers.access import Access
    from pytest_kube.controllers.outcomes import Outcome
    from pytest_kube.requests_log import Request
    from pytest_kube.system.processes import Guardian, OutputLine

__tracebackhide__ = hide_frames

STOP_TIMEOUT = 5.0
"""Seconds a controller has to stop before it is reported as hanging."""

KILL_TIMEOUT = 0.2
"""Seconds for the thread of one that was killed; it may go on, cut off as it is."""

_MAIN_THREAD = "only works in main thread"
_NO_SIGNALS = (
    "  It runs in a thread of pytest's process, where handlers of signals cannot be "
    "set; set them in the program's main(), around what is tested"
)
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
        access: How it reaches the API server, if it runs in this process.
        credential: What the API server calls its token, if it has one: others may run
            as the same user.
        steps: Where what the test does with it is noted.
    """

    user: str
    kubeconfig: Path
    namespace: str
    guardian: Guardian
    folder: Path
    wide: bool = False
    audit: Path | None = None
    access: Access | None = None
    credential: str = ""
    steps: Steps = field(default_factory=Steps)


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
        steps: Where what the test does with it is noted.
        began: When it was made, in UTC.
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
        self.steps = surroundings.steps if surroundings else Steps()
        self._audit = surroundings.audit if surroundings else None
        self._access = surroundings.access if surroundings else None
        self._again = again
        self.began = datetime.now(UTC)
        self._errors: list[str] = []
        self._errors_read = 0
        self._outcomes: list[Outcome] = []
        self._findings: list[str] = []
        self._output: deque[OutputLine] = deque(maxlen=_OUTPUT_LINES)
        self._logs: list[Path] = []
        self._timeout = 0.0
        self._begin(work)

    def _begin(self, work: Work) -> None:
        self.exited: Future[None] = Future()
        self._ready: Future[None] = Future()
        self._work = work
        self._stopping = False
        self._killed = False
        self._told = False
        self._thread = threading.Thread(
            target=_run,
            args=(work, self, self.exited),
            name=f"controller {self.name}",
            daemon=True,
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
    def outcomes(self) -> list[Outcome]:
        """What each call of a handler came to, oldest first.

        Only kopf tells it, and nothing of indexes that succeed; for others it is empty.
        """
        return list(self._outcomes)

    def reconciles(self) -> Counter[str]:
        """Return how often each result came.

        For kopf these are the results in ``outcomes``. For a program that is built on
        controller-runtime they are ``success``, ``error``, ``requeue`` and
        ``requeue_after``, over all of its controllers and since its last start. It has
        to be given ``--metrics-bind-address=127.0.0.1:{port:metrics}``, in projects of
        Kubebuilder also ``--metrics-secure=false``.

        Raises:
            ControllerError: Nobody tells; the text says who does, or what was seen.
        """
        if getattr(self._work, "tells_outcomes", False):
            return Counter(outcome.result for outcome in self._outcomes)
        return metrics.reconciles(self.name, self.ports.get("metrics"))

    def findings(self) -> list[str]:
        """Return what its author should know of it, that no wait tells."""
        return list(self._findings)

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
            if _MAIN_THREAD in str(cause):
                text += f"\n{_NO_SIGNALS}"
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
        if concerns(self) and not self._ready.done():
            self._ready.set_result(None)

    def write(self, line: OutputLine) -> None:
        """Add to its output."""
        self._output.append(line)

    def writes_to(self, log: Path) -> None:
        """Note that its output goes to a file, and is to be read from there."""
        self._logs.append(log)

    def report_error(self, text: str) -> None:
        """Note an error that did not end it."""
        if self._is_heard():
            self._errors.append(text)

    def report(self, text: str) -> None:
        """Note what its author should know, in words that follow its name."""
        if self._is_heard():
            self._findings.append(text)

    def report_outcome(self, outcome: Outcome) -> None:
        """Note what a call of a handler came to."""
        if self._is_heard():
            self._outcomes.append(outcome)

    def _is_heard(self) -> bool:
        """Tell whether what happens now is of this start, and it was not killed."""
        return concerns(self) and not self._killed

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
            found = "".join(f"\n  It {text}" for text in self._findings)
            raise ControllerNotReadyError(
                f"controller {self.name} was not ready within {timeout:.1f} s: "
                f"{self._work.waiting_for()}{found}\n"
                f"  Its last lines:\n{indent(last, '    ')}"
            )

    @step
    def stop(self) -> None:
        """Stop it, and wait until it ended. Can be called again.

        Raises:
            ControllerError: It does not end; the text shows where it hangs. Or it ended
                by an exception when it was told to stop, which is the cause.
        """
        if self._killed:
            return
        ended = self.exited.done()
        began = time.monotonic()
        self._end(STOP_TIMEOUT)
        if self._thread.is_alive():
            elapsed = time.monotonic() - began
            disturbs = (
                "it is cut off from the cluster, but its thread goes on"
                if self._access is not None and self._access.is_gated
                else "its thread goes on and may disturb the tests to come"
            )
            raise ControllerError(
                f"controller {self.name} did not stop within {elapsed:.0f} s; "
                f"{disturbs}. It hangs in:\n{self._where()}"
            )
        cause = None if ended or not self.exited.done() else self.exited.exception()
        if cause is not None:
            raise ControllerError(
                f"controller {self.name} raised when it was stopped: "
                f"{one_line(cause)}\n{indent(own_traceback(cause), '    ')}"
            ) from cause

    def _end(self, timeout: float) -> None:
        """Ask it to end, wait a while, and cut off what it may have left behind."""
        if not self._stopping:
            self._stopping = True
            if self._access is not None:
                self._access.release()  # who stands still cannot end
            if self._thread.is_alive():
                self._work.stop()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        if self._access is not None:
            self._access.shut()

    def _where(self) -> str:
        """Say where it is: its tasks, if it has an event loop, else its thread."""
        loop = getattr(self._work, "loop", None)
        return (told_tasks(loop) if loop else "") or stack(self._thread)

    @step
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

    @step
    def kill(self) -> None:
        """End it in the middle of what it does, as a crash would; no error follows.

        A program gets SIGKILL. One that runs in this process is cut off from the API
        server first, so that nothing it still does gets there, and then told to stop.

        Raises:
            ControllerError: It runs in this process, and its API server is not one of
                this machine.
        """
        if isinstance(self._work, Program):
            self._stopping = self._killed = True
            self._work.kill()
            self._thread.join(STOP_TIMEOUT)
        else:
            self._gated("killed").shut()
            self._killed = True
            self._end(KILL_TIMEOUT)

    @step
    def pause(self) -> None:
        """Let it stand still, until :meth:`resume`.

        A program gets SIGSTOP. Between one that runs in this process and the API server
        nothing passes any more, in either direction.

        Raises:
            ControllerError: It runs in this process, and its API server is not one of
                this machine.
        """
        if isinstance(self._work, Program):
            self._work.pause()
        else:
            self._gated("paused").hold()

    @step
    def resume(self) -> None:
        """Let it go on after :meth:`pause`."""
        if isinstance(self._work, Program):
            self._work.resume()
        else:
            self._gated("resumed").release()

    def _gated(self, what: str) -> Access:
        if self._access is None or not self._access.is_gated:
            raise ControllerError(
                f"controller {self.name} cannot be {what}: it runs in the process of "
                "pytest, and its API server is not on this machine; a program of exec: "
                "can be, everywhere"
            )
        return self._access

    # --- what it asks the API server ------------------------------------------

    def requests(self) -> list[Request]:
        """Return what it asked of the API server since it was started, oldest first.

        Replicas that run as one ServiceAccount are told apart by their tokens, from
        Kubernetes 1.30 on.

        Raises:
            ClusterError: The cluster has no audit log.
        """
        log = self._log_of_requests()
        return requests(log, self.began, {self.user}, self.credential)[::-1]

    @step
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
                "the cluster has no audit log; those of kwok, envtest and kind do"
            )
        return self._audit


def _run(work: Work, controller: Controller, exited: Future[None]) -> None:
    # The controller may have been killed and restarted when this comes to its end.
    running_here.set(Start(controller, exited))
    try:
        work.run(controller)
    except BaseException as e:  # noqa: BLE001  # a controller may call sys.exit
        exited.set_exception(e)
    else:
        exited.set_result(None)


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
