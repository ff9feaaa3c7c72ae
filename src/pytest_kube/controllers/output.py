"""What a controller logs and raises, as people want to read it."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import re
import tempfile
import threading
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_kube.system.processes import OutputLine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from pytest_kube.controllers.runner import Controller

_PACKAGE = str(Path(__file__).parents[1])
_CALL = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)


class Start(NamedTuple):
    """One start of a controller; what it was before a restart is no matter any more."""

    controller: Controller
    exited: Future[None]


running_here: ContextVar[Start | None] = ContextVar("running_here", default=None)
"""What the running code is of. Tasks know it, and so do threads."""


def concerns(controller: Controller) -> bool:
    """Tell whether what happens now is the controller's, as far as one knows."""
    return running_here.get() in {None, Start(controller, controller.exited)}


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
        if record.thread == self._test_thread or not concerns(self._controller):
            return
        about = getattr(record, "k8s_ref", None)  # kopf's: the object it handles
        moment = datetime.fromtimestamp(record.created, UTC)
        for line in self.format(record).splitlines():
            text = f"[{about.get('name')}] {line}" if about else line
            self._controller.write(OutputLine(moment, text))


@contextlib.contextmanager
def collected_logs(controller: Controller) -> Iterator[None]:
    """Add what is logged to the output of a controller."""
    collector = _Collector(controller)
    root = logging.getLogger()
    root.addHandler(collector)
    try:
        yield
    finally:
        root.removeHandler(collector)


def own_traceback(error: BaseException) -> str:
    """Format a controller's exception without the frames that called it."""
    told: traceback.TracebackException | None
    told = whole = traceback.TracebackException.from_exception(error)
    while told is not None:
        frames = [f for f in told.stack if not f.filename.startswith(_PACKAGE)]
        told.stack = traceback.StackSummary.from_list(frames)
        told = told.__cause__ or told.__context__
    return "".join(whole.format()).rstrip()


def stack(thread: threading.Thread) -> str:
    """Say where a thread is, as tracebacks do; empty when it has ended."""
    # sys._current_frames() takes a lock of the interpreter, and before Python 3.11.5
    # may wait for it for ever: https://github.com/python/cpython/issues/106883
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        blocks = file.read().split("\n\n")
    header = f"Thread 0x{thread.ident or 0:016x}"
    block = next((each for each in blocks if each.startswith(header)), "")
    calls = [
        (path, int(line), name, None) for path, line, name in _CALL.findall(block)[::-1]
    ]
    return "".join(traceback.StackSummary.from_list(calls).format()).rstrip()


def one_line(error: BaseException) -> str:
    """Return an exception and its causes in a line."""
    text = str(error).splitlines()
    line = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    return f"{line} ({one_line(error.__cause__)})" if error.__cause__ else line
