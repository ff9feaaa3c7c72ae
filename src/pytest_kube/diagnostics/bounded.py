"""Do what may never end, and go on without it."""

from __future__ import annotations

import threading
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
