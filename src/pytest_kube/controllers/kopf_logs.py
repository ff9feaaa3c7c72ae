"""What kopf logs: the errors of handlers, and what each of their calls came to.

kopf has no hook for that. Its log says it, of each operator in a context of its own.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
import traceback
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pytest_kube.controllers.outcomes import Outcome
from pytest_kube.controllers.output import concerns, own_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kube.controllers.runner import Controller

_OBJECTS = "kopf.objects"
_ACTIVITIES = ("startup", "cleanup", "authentication", "probe")
_SIGNALS_WARNING = "kopf._core.reactor.running"

# The texts of execute_handler_once() in kopf's execution.py, the longer ones first.
_OUTCOME = re.compile(
    r"\w+ (['\"])(?P<handler>.*?)\1 (?:"
    r"(?P<success>succeeded\.$)|"
    r"(?P<retry>failed temporarily: |failed with an exception and will try again )|"
    r"(?P<error>failed |has timed out |has exceeded ))"
)


class _Logs:
    """kopf's loggers: those of the process, so changed once for all its operators."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._operators: list[Controller] = []
        self._undo = contextlib.ExitStack()

    @contextlib.contextmanager
    def told_to(self, controller: Controller) -> Iterator[None]:
        """Tell a controller of its handlers as long as it runs."""
        with self._lock:
            if not self._operators:
                self._change()
            self._operators.append(controller)
        try:
            yield
        finally:
            with self._lock:
                self._operators.remove(controller)
                if not self._operators:
                    self._undo.close()

    def _change(self) -> None:
        self._add_filter(logging.getLogger(_SIGNALS_WARNING), _not_about_signals)
        if logging.getLogger("kopf").level == logging.NOTSET:
            self._log_info(logging.getLogger("kopf"))
        for name in (_OBJECTS, *(f"kopf.activities.{each}" for each in _ACTIVITIES)):
            log = logging.getLogger(name)
            level = log.getEffectiveLevel()
            # A filter, not a handler: what is logged only for us has to end here.
            self._add_filter(log, partial(self._pass, level))
            if level > logging.INFO:
                self._log_info(log)

    def _add_filter(
        self, log: logging.Logger, function: Callable[[logging.LogRecord], bool]
    ) -> None:
        log.addFilter(function)
        self._undo.callback(log.removeFilter, function)

    def _log_info(self, log: logging.Logger) -> None:
        self._undo.callback(log.setLevel, log.level)
        log.setLevel(logging.INFO)

    def _pass(self, level: int, record: logging.LogRecord) -> bool:
        """Look at a record; hold it back if it is below the level of the user."""
        for operator in list(self._operators):
            if concerns(operator):
                _tell(operator, record)
        return record.levelno >= level


_LOGS = _Logs()
told_to = _LOGS.told_to


def _tell(controller: Controller, record: logging.LogRecord) -> None:
    message = record.getMessage()
    about = _about(getattr(record, "k8s_ref", None))
    if told := _OUTCOME.match(message):
        text = "" if told.lastgroup == "success" else message
        # kopf logs some errors without their traceback, but while it handles them.
        if text and (error := sys.exception()):
            text += f"\n{own_traceback(error)}"
        time = datetime.fromtimestamp(record.created, UTC)
        result = cast("Any", told.lastgroup)
        controller.report_outcome(Outcome(time, told["handler"], about, result, text))
    if record.name == _OBJECTS and record.levelno >= logging.ERROR:
        text = f"{about}: {message}" if about else message
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info))
        controller.report_error(text)


def _about(ref: dict[str, str | None] | None) -> str:
    if not ref:
        return ""
    name = "/".join(filter(None, (ref.get("namespace"), ref.get("name"))))
    return f"{ref.get('kind')} {name}"


def _not_about_signals(record: logging.LogRecord) -> bool:
    return "OS signals are ignored" not in record.getMessage()
