"""What controllers leave in the process of pytest: undone, and told where it matters.

Who does something in this process is known by :data:`running_here`, so that nothing
that a test does itself is taken for a controller's doing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from pytest_kube.controllers.output import running_here, stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDING = 0.2
"""Seconds for threads to end after their controller."""

_MISSING = object()


class Process:
    """This process, put back as it was; use it as a context manager.

    The environment, ``sys.path``, ``sys.stdout`` and ``sys.stderr``, the working
    directory, and the levels and handlers of the loggers there were. While it is
    entered, what a controller does to all of the process is told by its name, and
    ``os._exit`` ends a controller that calls it, not pytest.
    """

    def __init__(self) -> None:
        self._before = _state()
        self._undo = contextlib.ExitStack()
        self._threads: list[tuple[Any, threading.Thread]] = []

    def __enter__(self) -> Self:
        self._replace(os, "_exit", self._leaving)
        self._replace(os, "chdir", self._moving)
        self._replace(threading.Thread, "start", self._starting)
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()
        now = _state()
        for what in self._before.keys() | now.keys():
            before = self._before.get(what, _MISSING)
            if before is not now.get(what, _MISSING) and before != now.get(what):
                _put_back(what, before)

    @contextlib.contextmanager
    def importing(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Keep what an import changes: a module is not imported again.

        But for the working directory and the handlers of signals: tests find their
        files by the one, and Ctrl-C needs the other.

        Args:
            tell: Is called with a text for what is undone at once.
        """
        before, folder = _state(), os.getcwd()  # noqa: PTH109
        handlers = {each: signal.getsignal(each) for each in signal.valid_signals()}
        try:
            yield
        finally:
            now = _state()
            for what in before.keys() | now.keys():
                if before.get(what) != now.get(what):
                    self._before[what] = now.get(what, _MISSING)
            if os.getcwd() != folder:  # noqa: PTH109
                tell(f"changed the working directory, to {os.getcwd()}")  # noqa: PTH109
                os.chdir(folder)
            for number, handler in handlers.items():
                if handler is not None and signal.getsignal(number) != handler:
                    tell(f"replaced the handler of {signal.Signals(number).name}")
                    signal.signal(number, handler)

    def left_threads(self, controller: object) -> Iterator[str]:
        """Say which threads go on that a controller has started, and where they are."""
        deadline = time.monotonic() + ENDING
        for starter, thread in self._threads:
            if starter is controller:
                thread.join(max(0.0, deadline - time.monotonic()))
                if thread.is_alive():
                    yield f"left a thread behind, {thread.name}, in:\n{stack(thread)}"

    def _replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        before = getattr(owner, name)
        setattr(owner, name, make(before))
        self._undo.callback(setattr, owner, name, before)

    def _leaving(self, leave: Callable[[int], None]) -> Callable[[int], None]:
        process = os.getpid()

        def replaced(status: int) -> None:
            # A process that was forked may end as it likes.
            if running_here.get() is not None and os.getpid() == process:
                raise SystemExit(f"os._exit({status})")
            leave(status)

        return replaced

    def _moving(self, move: Callable[[Any], None]) -> Callable[[Any], None]:
        def replaced(path: Any) -> None:
            if start := running_here.get():
                start.controller.report(f"changed the working directory, to {path}")
            move(path)

        return replaced

    def _starting(
        self, start: Callable[[threading.Thread], None]
    ) -> Callable[[threading.Thread], None]:
        def replaced(thread: threading.Thread) -> None:
            if origin := running_here.get():
                self._threads.append((origin.controller, thread))
                run = thread.run

                def run_as_its_starter() -> None:
                    running_here.set(origin)
                    run()

                thread.run = run_as_its_starter  # type: ignore[method-assign]
            start(thread)

        return replaced


def _state() -> dict[tuple[str, Any], Any]:
    found: dict[tuple[str, Any], Any] = {
        ("sys", "path"): list(sys.path),
        ("sys", "stdout"): sys.stdout,
        ("sys", "stderr"): sys.stderr,
        ("folder", ""): os.getcwd(),  # noqa: PTH109
    }
    found.update((("variable", name), value) for name, value in os.environ.items())
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        if isinstance(logger, logging.Logger):
            found["level", logger] = logger.level
            found["handlers", logger] = list(filter(_is_foreign, logger.handlers))
    return found


def _put_back(what: tuple[str, Any], value: Any) -> None:
    match what:
        case ("folder", _):
            os.chdir(value)
        case ("sys", "path"):
            sys.path[:] = value
        case ("sys", name):
            setattr(sys, name, value)
        case ("variable", name):
            if value is _MISSING:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        case ("level", logger) if value is not _MISSING:
            logger.setLevel(value)
        case ("handlers", logger) if value is not _MISSING:
            _give(logger, value)
        case _:
            pass  # a logger of a module that came meanwhile, and stays


def _give(logger: logging.Logger, handlers: list[logging.Handler]) -> None:
    for handler in list(filter(_is_foreign, logger.handlers)):
        logger.removeHandler(handler)
    for handler in handlers:
        logger.addHandler(handler)


def _is_foreign(handler: logging.Handler) -> bool:
    """Tell whether it is none of pytest's, which come anew in each phase of a test."""
    return not type(handler).__module__.startswith("_pytest.")
