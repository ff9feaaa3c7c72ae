"""The event loop of a controller: whether it turns, and which tasks are left in it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from io import StringIO
from textwrap import indent
from typing import TYPE_CHECKING

from pytest_kube.controllers.output import stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOK = 0.1
"""Seconds between two looks whether the loop turns."""

BLOCKED = 10
"""Looks in vain, one after the other, from which on it counts as blocked."""


@contextlib.contextmanager
def watched(tell: Callable[[str], None]) -> Iterator[None]:
    """Tell if the running loop is blocked, and which tasks are left in the end.

    Args:
        tell: Is called with a text for each, from any thread.
    """
    before = asyncio.all_tasks()
    ended = threading.Event()
    watch = threading.Thread(
        target=_watch,
        args=(asyncio.get_running_loop(), threading.current_thread(), ended, tell),
        name="pytest-kube loop watch",
        daemon=True,
    )
    watch.start()
    try:
        yield
    finally:
        ended.set()
        for task in asyncio.all_tasks() - before:
            tell(f"left a task behind:\n{_told(task)}")


def told_tasks(loop: asyncio.AbstractEventLoop) -> str:
    """Say where each task of a loop is; any thread may ask."""
    return "\n".join(_told(task) for task in asyncio.all_tasks(loop))


def _told(task: asyncio.Task[object]) -> str:
    text = StringIO()
    task.print_stack(file=text)
    return indent(text.getvalue().rstrip(), "  ")


def _watch(
    loop: asyncio.AbstractEventLoop,
    thread: threading.Thread,
    ended: threading.Event,
    tell: Callable[[str], None],
) -> None:
    """Count looks in vain, not seconds: a busy machine slows this thread as well."""
    turned = threading.Event()
    in_vain = 0
    while not ended.wait(LOOK):
        if turned.is_set() or not in_vain:
            turned.clear()
            in_vain = 0
            try:
                loop.call_soon_threadsafe(turned.set)
            except RuntimeError:  # it is closed
                return
        in_vain += 1
        if in_vain == BLOCKED:
            tell(
                "has blocked its event loop for "
                f"{LOOK * BLOCKED:.0f} s or longer, in:\n{stack(thread)}"
            )
