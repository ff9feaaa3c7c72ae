"""Controllers that are functions, async or with a stop event, and objects."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kube.controllers.loops import watched
from pytest_kube.errors import ControllerError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_kube.controllers.runner import Controller, Surroundings, Work

__tracebackhide__ = hide_frames

GIVEN = ("kubeconfig", "namespace", "client", "stop", "ready")
"""What a function is given, if it has a parameter of that name; ``client`` is an
``ApiClient`` of the official client."""

BLOCKS = 0.5
"""Seconds after which a ``start()`` that has not returned counts as one that runs."""


def imported(module_name: str, attribute: str) -> Any:
    """Import ``module:attribute``.

    Raises:
        ControllerError: It cannot be imported, or is nothing that can be run.
    """
    try:
        module = importlib.import_module(module_name)
    except Exception as e:
        raise ControllerError(
            f"controller {module_name}:{attribute}: importing {module_name} failed: "
            f"{type(e).__name__}: {e}. Is its folder on sys.path (ini pythonpath)?"
        ) from e
    found = getattr(module, attribute, None)
    if not (callable(found) or is_object(found) or is_registry(found)):
        there = [n for n, v in vars(module).items() if callable(v) and n[0] != "_"]
        raise ControllerError(
            f"controller {module_name}:{attribute}: {module.__file__} has no function "
            f"{attribute!r}; it has: {', '.join(there) or 'none'}"
        )
    return found


def is_object(found: object) -> bool:
    """Tell whether it is an object that can be started and stopped, or entered."""
    if isinstance(found, type):
        return False
    pairs = (("start", "stop"), ("__enter__", "__exit__"))
    return any(all(callable(getattr(found, n, None)) for n in pair) for pair in pairs)


def is_registry(found: object) -> bool:
    """Tell whether it is a registry of kopf; who has one has imported kopf."""
    kopf = sys.modules.get("kopf")
    return isinstance(found, getattr(kopf, "OperatorRegistry", ()))


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
    given: dict[str, Callable[[], Any]] = {
        "kubeconfig": lambda: str(surroundings.kubeconfig),
        "namespace": lambda: surroundings.namespace,
        "client": lambda: _official(surroundings),
    }
    wanted = given.keys() & parameters.keys() - options.keys()
    arguments = {name: given[name]() for name in wanted} | dict(options)
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


def _official(surroundings: Surroundings) -> Any:
    from kubernetes import config

    return config.new_client_from_config(config_file=str(surroundings.kubeconfig))


class ObjectWork:
    """An object with start() and stop(), or a context manager.

    It is ready when ``start()``, or entering it, returns; one whose ``start()`` goes on
    until ``stop()`` is ready after a moment.
    """

    def __init__(self, target: Any, options: Mapping[str, Any]) -> None:
        self.name = type(target).__qualname__
        if options:
            raise ControllerError(
                f"controller {self.name}: an object takes no options, got "
                f"{', '.join(options)}; give them to it when it is made"
            )
        self._target = target
        self._stop = threading.Event()

    def run(self, controller: Controller) -> None:
        """Start it, and wait until it is to stop."""
        if not hasattr(self._target, "start"):
            with self._target:
                controller.ready()
                self._stop.wait()
            return
        blocked = threading.Timer(BLOCKS, controller.ready)
        blocked.daemon = True
        blocked.start()
        try:
            self._target.start()
        finally:
            blocked.cancel()
        controller.ready()
        self._stop.wait()

    def stop(self) -> None:
        """Tell it."""
        self._stop.set()
        if hasattr(self._target, "start"):
            self._target.stop()

    def waiting_for(self) -> str:
        """Say that it has not started."""
        return "it has not started yet"


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
        self.loop: asyncio.AbstractEventLoop | None = None
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
        with watched(controller.report):
            self._task = asyncio.ensure_future(self.function(**arguments))
            self.loop = asyncio.get_running_loop()
            if self._stopping:  # already, when the loop did not exist yet
                self._end()
            if "ready" not in self.takes:
                controller.ready()
            await self._task

    def stop(self) -> None:
        """Set the stop event, or cancel the task."""
        self._stopping = True
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self.loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if "stop" in self.takes:
            self._stop.set()
        elif self._task is not None:
            self._task.cancel()
