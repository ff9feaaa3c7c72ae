"""A running controller under test: started, ready, failed, stopped.

What it is made of (kopf handlers, a function, an executable) is a :class:`Work`.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
import traceback
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Protocol

from pytest_kube.controllers.environment import cluster_environment
from pytest_kube.errors import (
    ControllerError,
    ControllerExitedError,
    ControllerNotReadyError,
    hide_frames,
)
from pytest_kube.system.processes import tail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kube.system.processes import Guardian

__tracebackhide__ = hide_frames

STOP_TIMEOUT = 5.0
"""Seconds a controller has to stop before it is reported as hanging."""

_PACKAGE = str(Path(__file__).parents[1])
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
    """

    user: str
    kubeconfig: Path
    namespace: str
    guardian: Guardian
    folder: Path
    wide: bool = False
    audit: Path | None = None


class Work(Protocol):
    """What a controller does, in a thread of its own."""

    name: str

    def run(self, controller: Controller) -> None:
        """Run until told to stop; call ``controller.ready()`` when ready."""

    def stop(self) -> None:
        """Ask it to stop; called from another thread, at most once."""

    def waiting_for(self) -> str:
        """Say what is missing until it is ready."""


class Controller:
    """A controller under test.

    Attributes:
        name: What it is called in messages.
        user: What the API server calls it.
        exited: Done when it ended; with its exception when it ended by one.
    """

    def __init__(self, work: Work, user: str = "") -> None:
        self.name = work.name
        self.user = user
        self.exited: Future[None] = Future()
        self._ready: Future[None] = Future()
        self._work = work
        self._stopping = False
        self._told = False
        self._errors: list[str] = []
        self._output: deque[str] = deque(maxlen=_OUTPUT_LINES)
        self._log: Path | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"controller {self.name}", daemon=True
        )

    def __repr__(self) -> str:
        return f"<Controller {self.summary()}>"

    @property
    def errors(self) -> list[str]:
        """What its handlers raised without ending it, one text each."""
        return list(self._errors)

    @property
    def ports(self) -> dict[str, int]:
        """The ports that were put in for ``{port:NAME}``."""
        ports: dict[str, int] = getattr(self._work, "ports", {})
        return dict(ports)

    @property
    def output(self) -> str:
        """What it logged or printed so far."""
        return "\n".join(self._lines())

    def failure(self) -> Exception | None:
        """Return the error to raise if it ended by itself, else ``None``."""
        if not self.exited.done() or self._stopping:
            return None
        cause = self.exited.exception()
        how = "returned" if cause is None else _one_line(cause)
        text = f"controller {self.name} ended while the test needed it: {how}"
        # The traceback of an error of ours would say nothing about the controller.
        if cause is not None and not isinstance(cause, ControllerError):
            text += f"\n{indent(_own_traceback(cause), '    ')}"
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
            state = f"ended by {_one_line(cause)}"
        else:
            state = "stopped"
        if self._errors:
            count = len(self._errors)
            last = self._errors[-1].splitlines()[0]
            state += f", {count} handler error{'s' if count > 1 else ''}, last: {last}"
        return f"{self.name}: {state}"

    def tail(self, lines: int = 15) -> str:
        """Return the last *lines* of its output."""
        return "\n".join(self._lines()[-lines:])

    def _lines(self) -> list[str]:
        logged = tail(self._log, _OUTPUT_LINES).splitlines() if self._log else []
        return [*self._output, *logged]

    # --- for what it is made of ---------------------------------------------

    def ready(self) -> None:
        """Note that it is ready."""
        if not self._ready.done():
            self._ready.set_result(None)

    def write(self, line: str) -> None:
        """Add to its output."""
        self._output.append(line)

    def writes_to(self, log: Path) -> None:
        """Note that its output goes to a file, and is to be read from there."""
        self._log = log

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
                f"{_one_line(cause)}\n{indent(_own_traceback(cause), '    ')}"
            ) from cause

    def _run(self) -> None:
        try:
            self._work.run(self)
        except BaseException as e:  # noqa: BLE001  # a controller may call sys.exit
            self.exited.set_exception(e)
        else:
            self.exited.set_result(None)


@contextlib.contextmanager
def running(
    work: Work, surroundings: Surroundings, *, timeout: float
) -> Iterator[Controller]:
    """Run a controller under test: ready inside of the context, stopped after it."""
    controller = Controller(work, surroundings.user)
    with cluster_environment(surroundings.kubeconfig), _collected_logs(controller):
        try:
            controller.start(timeout)
            yield controller
            controller.check()
        finally:
            controller.stop()


class _Collector(logging.Handler):
    """Takes what is logged in other threads than the test's own."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._test_thread = threading.get_ident()
        self.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        )

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._test_thread:
            return
        about = getattr(record, "k8s_ref", None)  # kopf's: the object it handles
        for line in self.format(record).splitlines():
            self._controller.write(f"[{about.get('name')}] {line}" if about else line)


@contextlib.contextmanager
def _collected_logs(controller: Controller) -> Iterator[None]:
    collector = _Collector(controller)
    root = logging.getLogger()
    root.addHandler(collector)
    try:
        yield
    finally:
        root.removeHandler(collector)


def _own_traceback(error: BaseException) -> str:
    """Format a controller's exception without the frames that called it."""
    told: traceback.TracebackException | None
    told = whole = traceback.TracebackException.from_exception(error)
    while told is not None:
        frames = [f for f in told.stack if not f.filename.startswith(_PACKAGE)]
        told.stack = traceback.StackSummary.from_list(frames)
        told = told.__cause__ or told.__context__
    return "".join(whole.format()).rstrip()


def _one_line(error: BaseException) -> str:
    text = str(error).splitlines()
    line = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    return f"{line} ({_one_line(error.__cause__)})" if error.__cause__ else line
