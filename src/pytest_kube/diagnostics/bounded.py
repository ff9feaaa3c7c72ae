"""Do what may never end or may fail, and go on without it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def within(seconds: float, function: Callable[[], T]) -> T:
    """Return what *function* returns.

    It runs in a thread, which is left behind if it takes longer.

    Raises:
        TimeoutError: It does.
    """
    done = Future[T]()

    def run() -> None:
        try:
            done.set_result(function())
        except BaseException as e:  # noqa: BLE001  # for the one who waits
            done.set_exception(e)

    threading.Thread(target=run, name="pytest-kube collect", daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():
            raise  # one of the function's own
        raise TimeoutError(f"it took more than {seconds:g} s") from None


class Budget:
    """The time for all that is collected of a test, and what went wrong with it.

    Attributes:
        problems: What could not be done and why, a line each.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self.problems: list[str] = []

    @property
    def left(self) -> float:
        """How many seconds there still are."""
        return max(0.0, self._deadline - time.monotonic())

    def attempt(
        self, what: str, function: Callable[[], T], otherwise: T, *, seconds: float
    ) -> T:
        """Return what *function* returns, or *otherwise* if it cannot be had.

        Args:
            what: What is to be had, for people.
            function: Gets it.
            otherwise: For when it fails or takes too long.
            seconds: What it may take, if so much is left of the time for all.
        """
        seconds = min(seconds, self.left)
        if not seconds:
            self.problems.append(f"{what}: there was no time left")
            return otherwise
        try:
            return within(seconds, function)
        except Exception as e:  # noqa: BLE001  # a failure must not become another error
            self.problems.append(f"{what}: {reason(e)}")
            return otherwise


def reason(error: Exception) -> str:
    """Return the first line of what an error says."""
    return str(error).partition("\n")[0] or type(error).__name__
