"""Controllers that are functions: ``async def``, or with a stop event."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kube.errors import ControllerError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_kube.controllers.runner import Controller, Surroundings, Work

__tracebackhide__ = hide_frames

GIVEN = ("kubeconfig", "namespace", "stop", "ready")
"""What a function is given, if it has a parameter of that name."""


def imported(module_name: str, attribute: str) -> Callable[..., Any]:
    """Import ``module:attribute``.

    Raises:
        ControllerError: It cannot be imported, or is no function.
    """
    try:
        module = importlib.import_module(module_name)
    except Exception as e:
        raise ControllerError(
            f"controller {module_name}:{attribute}: importing {module_name} failed: "
            f"{type(e).__name__}: {e}. Is its folder on sys.path (ini pythonpath)?"
        ) from e
    found = getattr(module, attribute, None)
    if not callable(found):
        there = [n for n, v in vars(module).items() if callable(v) and n[0] != "_"]
        raise ControllerError(
            f"controller {module_name}:{attribute}: {module.__file__} has no function "
            f"{attribute!r}; it has: {', '.join(there) or 'none'}"
        )
    return found  # type: ignore[no-any-return]


def work(
    function: Callable[..., Any],
    surroundings: Surroundings,
    options: Mapping[str, Any],
) -> Work:
    """Wrap a function.

    Raises:
        ControllerError: It wants parameters that nobody gives it, or cannot be stopped.
    """
    name = getattr(function, "__qualname__", repr(function))
    parameters = inspect.signature(function).parameters
    unknown = [
        p.name
        for p in parameters.values()
        if p.default is p.empty
        and p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}
        and p.name not in {*GIVEN, *options}
    ]
    if unknown:
        raise ControllerError(
            f"controller {name}{inspect.signature(function)}: nothing gives it "
            f"{', '.join(unknown)}. By name it can have {', '.join(GIVEN)}; "
            "run_controller(function, name=value) gives it more"
        )
    given = {
        "kubeconfig": str(surroundings.kubeconfig),
        "namespace": surroundings.namespace,
    }
    arguments = {k: v for k, v in given.items() if k in parameters} | dict(options)
    takes = {p for p in ("stop", "ready") if p in parameters} - set(options)
    if inspect.iscoroutinefunction(function):
        return AsyncWork(name, function, arguments, takes)
    if "stop" not in takes:
        raise ControllerError(
            f"controller {name}: a function that is not async needs a parameter "
            "'stop', a threading.Event that it waits on and that ends it; without "
            "one it could never be stopped"
        )
    return ThreadWork(name, function, arguments, takes)


@dataclass
class FunctionWork:
    """A function, its arguments, and which of ``stop`` and ``ready`` it takes."""

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    takes: set[str]

    def waiting_for(self) -> str:
        """Say that the function has to call ``ready()``."""
        return "it has a parameter 'ready' and has not called ready() yet"


@dataclass
class ThreadWork(FunctionWork):
    """A function that returns when its stop event is set."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()

    def run(self, controller: Controller) -> None:
        """Call the function."""
        arguments = {**self.arguments, "stop": self._stop}
        if "ready" in self.takes:
            arguments["ready"] = controller.ready
        else:
            controller.ready()
        self.function(**arguments)

    def stop(self) -> None:
        """Set the stop event."""
        self._stop.set()


@dataclass
class AsyncWork(FunctionWork):
    """A coroutine function: stopped by an event if it takes one, else cancelled."""

    def __post_init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._stop = asyncio.Event()
        self._stopping = False

    def run(self, controller: Controller) -> None:
        """Run the coroutine in a loop of its own."""
        with asyncio.Runner() as runner:
            try:
                runner.run(self._main(controller))
            except asyncio.CancelledError:
                if self._task is None or not self._task.cancelled():
                    raise

    async def _main(self, controller: Controller) -> None:
        arguments = dict(self.arguments)
        if "stop" in self.takes:
            arguments["stop"] = self._stop
        if "ready" in self.takes:
            arguments["ready"] = controller.ready
        self._task = asyncio.ensure_future(self.function(**arguments))
        self._loop = asyncio.get_running_loop()
        if self._stopping:  # already, when the loop did not exist yet
            self._end()
        if "ready" not in self.takes:
            controller.ready()
        await self._task

    def stop(self) -> None:
        """Set the stop event, or cancel the task."""
        self._stopping = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if "stop" in self.takes:
            self._stop.set()
        elif self._task is not None:
            self._task.cancel()
