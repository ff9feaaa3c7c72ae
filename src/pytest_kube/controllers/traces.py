"""What a controller leaves in the process it runs in: told, and taken away."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from pytest_kube.controllers.output import running_here, stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Tell = Callable[[str], None]

ENDING = 0.2
"""Seconds for threads to end after their controller."""

_OWN_THREADS = ("pytest-kube ", "controller ")


@contextlib.contextmanager
def same_place(tell: Tell) -> Iterator[None]:
    """Keep the working directory and the handlers of signals.

    Tests find their files by the one, and Ctrl-C needs the other.
    """
    folder = os.open(".", os.O_RDONLY)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        moved = not os.path.samestat(os.fstat(folder), os.stat("."))  # noqa: PTH116
        if moved:
            tell(f"changed the working directory, to {os.getcwd()}")  # noqa: PTH109
            os.fchdir(folder)
        os.close(folder)
        replaced = [
            number
            for number, before in handlers.items()
            if before is not None and signal.getsignal(number) != before
        ]
        for number in replaced:
            tell(f"replaced the handler of {signal.Signals(number).name}")
            signal.signal(number, handlers[number])


@contextlib.contextmanager
def same_process(tell: Tell) -> Iterator[None]:
    """Put back what a controller changes of the process while it runs.

    The environment, ``sys.path``, ``sys.stdout`` and ``sys.stderr``, the levels and
    handlers of loggers are put back; the working directory and the handlers of signals
    too, and these are told of. So are the threads that are left.
    """
    environment, path = dict(os.environ), list(sys.path)
    streams = sys.stdout, sys.stderr
    threads = set(threading.enumerate())
    with same_place(tell), _same_logging(), _no_exit():
        try:
            yield
        finally:
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]
            os.environ.update(environment)
            sys.path[:] = path
            sys.stdout, sys.stderr = streams
            _tell_of_threads(threads, tell)


@contextlib.contextmanager
def _same_logging() -> Iterator[None]:
    """Keep the levels and handlers of the loggers there are, but for pytest's own."""
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    before = [
        (each, each.level, list(each.handlers))
        for each in loggers
        if isinstance(each, logging.Logger)
    ]
    try:
        yield
    finally:
        for logger, level, handlers in before:
            logger.setLevel(level)
            now = list(logger.handlers)
            for handler in now:
                if handler not in handlers and not _is_pytests(handler):
                    logger.removeHandler(handler)
            for handler in handlers:
                if handler not in now and not _is_pytests(handler):
                    logger.addHandler(handler)


def _is_pytests(handler: logging.Handler) -> bool:
    """Tell whether pytest put it there, which it does anew in each phase of a test."""
    return type(handler).__module__.startswith("_pytest.")


@contextlib.contextmanager
def _no_exit() -> Iterator[None]:
    """Let a controller that calls ``os._exit`` end itself only, not pytest."""
    before, process = os._exit, os.getpid()

    def leave(status: int) -> Any:
        # A process that was forked may end as it likes.
        if running_here.get() is not None and os.getpid() == process:
            raise SystemExit(f"os._exit({status})")
        before(status)

    os._exit = leave
    try:
        yield
    finally:
        os._exit = before


def _tell_of_threads(before: set[threading.Thread], tell: Tell) -> None:
    deadline = time.monotonic() + ENDING
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith(_OWN_THREADS):
            continue  # one of a controller that hangs is an error by itself
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            tell(f"left a thread behind, {thread.name}, in:\n{stack(thread)}")
