"""kopf operators: own thread, loop and registry; ready when their watches are open."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import socket
import sys
import traceback
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

from pytest_kube import login
from pytest_kube.controllers import kopf_logs
from pytest_kube.controllers.loops import watched
from pytest_kube.errors import ControllerError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import SimpleNamespace

    from pytest_kube.controllers.runner import Controller, Surroundings

__tracebackhide__ = hide_frames

_CLOSE_TIMEOUT = 1.0
"""Seconds for connections to close."""

_REGISTRY = "__pytest_kube_kopf_registry__"


class KopfWork:
    """The operator of a file, a module, or a registry.

    A file is executed anew for each run. A module is imported once per process; the
    handlers it registered then are used by each run. Of a registry that is given, the
    target is only the name.

    The operator watches the namespace of the test only, unless told ``clusterwide``.
    """

    tells_outcomes = True

    def __init__(
        self,
        target: str,
        surroundings: Surroundings,
        options: Mapping[str, Any],
        registry: Any = None,
    ) -> None:
        self.name = f"kopf:{target}"
        self._target = target
        self._surroundings = surroundings
        self._options = dict(options)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._opened: set[str] = set()
        self._sockets: list[socket.socket] = []
        self._insights: Any = None
        self._kopf = _import_kopf()
        self._cleanup = contextlib.ExitStack()
        try:
            self._registry = self._load() if registry is None else registry
        except BaseException:
            self._cleanup.close()
            raise

    def run(self, controller: Controller) -> None:
        """Run the operator until it is told to stop."""
        with self._cleanup, kopf_logs.told_to(controller):
            asyncio.run(self._main(controller))

    async def _main(self, controller: Controller) -> None:
        with watched(controller.report):
            await self._operate(controller)

    async def _operate(self, controller: Controller) -> None:
        self.loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        if self._stopping:  # already, when there was nothing to cancel yet
            return
        from kopf._cogs.structs.credentials import Vault
        from kopf._cogs.structs.references import Insights

        self._insights = Insights()
        settings = self._options.pop("settings", None) or self._settings()
        scope: dict[str, Any] = {"namespaces": [self._surroundings.namespace]}
        if self._surroundings.wide:
            scope = {"clusterwide": True}
        if {"clusterwide", "namespaces"} & set(self._options):
            scope = {}
        session = await self._session(controller)
        watcher = asyncio.create_task(self._notice_readiness(controller))
        try:
            # No stop flag: one that is not raised keeps an operator that fails by
            # itself from ending for five seconds. Cancelling ends it as gracefully.
            await self._kopf.operator(
                **{
                    "registry": self._registry,
                    "settings": settings,
                    "insights": self._insights,
                    "vault": Vault({"pytest-kube": session}),
                    "standalone": True,
                    **scope,
                    **self._options,
                }
            )
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
            await session.aiohttp_session.close()
            await self._end_connections()

    def stop(self) -> None:
        """Cancel the operator, which lets it clean up."""
        self._stopping = True
        if self.loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self.loop.call_soon_threadsafe(self._task.cancel)

    def waiting_for(self) -> str:
        """Name the watches that are missing."""
        if self._insights is None or not self._insights.ready_resources.is_set():
            return "it has not discovered the cluster's resources yet"
        expected = self._expected()
        if not expected:
            return (
                "it watches nothing: the cluster serves none of the kinds that its "
                "handlers are for. Is their CRD in kube_crds?"
            )
        missing = ", ".join(sorted(expected - self._opened))
        return f"these watches are not open yet: {missing}"

    # --- readiness ----------------------------------------------------------

    async def _notice_readiness(self, controller: Controller) -> None:
        await self._insights.ready_resources.wait()
        await self._insights.ready_namespaces.wait()
        self._check_readiness(controller)

    def _check_readiness(self, controller: Controller) -> None:
        if not (
            self._insights.ready_resources.is_set()
            and self._insights.ready_namespaces.is_set()
        ):
            return
        expected = self._expected()
        webhooks_only = self._insights.webhook_resources and not expected
        if webhooks_only or (expected and expected <= self._opened):
            controller.ready()

    def _expected(self) -> set[str]:
        """Return the URL paths of the watches that the operator is to open."""
        return {
            resource.get_url(namespace=namespace if resource.namespaced else None)
            for resource in self._insights.watched_resources
            for namespace in self._insights.namespaces
        }

    async def _session(self, controller: Controller) -> Any:
        """Make the operator's HTTP session: our identity, and a look at its watches."""
        import aiohttp

        def note_watch(_: Any, __: SimpleNamespace, params: Any) -> None:
            if params.url.query.get("watch") == "true" and params.response.ok:
                self._opened.add(params.url.path)
                self._check_readiness(controller)

        async def on_request_end(*args: Any) -> None:
            note_watch(*args)

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(on_request_end)
        found = login.read(self._surroundings.kubeconfig)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=found.tls, socket_factory=self._socket
            ),
            headers=found.headers,
            proxy=found.proxy or None,
            trace_configs=[trace],
        )
        return self._kopf.AiohttpSession(
            aiohttp_session=session,
            server=found.server,
            default_namespace=self._surroundings.namespace,
        )

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        made = socket.socket(*address[:3])
        made.setblocking(False)
        self._sockets.append(made)
        return made

    async def _end_connections(self) -> None:
        """Let go of those that the session has not closed: cancelled in the middle.

        They wait for the server to say goodbye, and the loop would end before that.
        """
        for each in self._sockets:
            with contextlib.suppress(OSError):  # it is closed
                each.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                while any(s.fileno() != -1 for s in self._sockets):  # noqa: ASYNC110
                    await asyncio.sleep(0)  # the next turn of the loop, no pause

    def _settings(self) -> Any:
        settings = self._kopf.OperatorSettings()
        # A handler's bug should be retried within a test, not a minute later.
        settings.execution.default_backoff = 1.0
        # What is queued when the test is over has nobody left to wait for it.
        settings.queueing.exit_timeout = 0.1
        # Otherwise kopf kills the whole process, pytest, ten minutes after a hang.
        settings.process.ultimate_exiting_timeout = None
        # kopf leaves its threads to the garbage collector.
        executor = settings.execution.executor
        self._cleanup.callback(executor.shutdown, wait=False, cancel_futures=True)
        return settings

    # --- handlers -----------------------------------------------------------

    def _load(self) -> Any:
        if self._target.endswith(".py"):
            return self._load_file(self._surroundings.folder / self._target)
        return self._load_module(self._target)

    def _load_file(self, path: Path) -> Any:
        if not path.is_file():
            raise ControllerError(
                f"controller {self.name}: {path} does not exist; "
                f"paths are relative to {self._surroundings.folder}"
            )
        # Its own name: an operator.py must not take the place of the standard module.
        name = f"pytest_kube_operator_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ControllerError(f"controller {self.name}: not a Python file")
        module = importlib.util.module_from_spec(spec)
        folder = str(path.parent)
        sys.path.insert(0, folder)
        self._cleanup.callback(_remove_first, sys.path, folder)
        # What it imports of its folder registers handlers as well, at each import.
        self._cleanup.callback(_forget_modules, path.parent, frozenset(sys.modules))
        sys.modules[name] = module
        self._cleanup.callback(sys.modules.pop, name, None)
        with self._fresh_registry() as registry:
            self._import(lambda: spec.loader.exec_module(module))
        return registry

    def _load_module(self, name: str) -> Any:
        module = sys.modules.get(name)
        if module is not None:
            # Imported by the test or its conftest before: kopf's own default registry.
            default = self._kopf.get_default_registry()
            return getattr(module, _REGISTRY, default)
        package = name.partition(".")[0]
        if any(n == package or n.startswith(f"{package}.") for n in sys.modules):
            # A part of it is there, perhaps with handlers: then all go where its are.
            self._import(lambda: importlib.import_module(name))
            return self._kopf.get_default_registry()
        with self._fresh_registry() as registry:
            self._import(lambda: importlib.import_module(name))
        setattr(sys.modules[name], _REGISTRY, registry)
        return registry

    def _import(self, load: Any) -> None:
        try:
            load()
        except Exception as e:
            where = "".join(traceback.format_exception(e)[-3:]).rstrip()
            raise ControllerError(
                f"controller {self.name}: importing it failed: "
                f"{type(e).__name__}: {e}\n" + indent(where, "    ")
            ) from e

    @contextlib.contextmanager
    def _fresh_registry(self) -> Iterator[Any]:
        before = self._kopf.get_default_registry()
        registry = self._kopf.OperatorRegistry()
        self._kopf.set_default_registry(registry)
        try:
            yield registry
        finally:
            self._kopf.set_default_registry(before)


def _import_kopf() -> Any:
    try:
        import kopf
    except ImportError as e:
        raise ControllerError(
            "kopf is not installed in the environment of pytest; pip install kopf"
        ) from e
    if not hasattr(kopf, "AiohttpSession"):
        raise ControllerError(
            "this kopf is too old; pytest-kube needs kopf 1.45 or newer"
        )
    return kopf


def _forget_modules(folder: Path, before: frozenset[str]) -> None:
    """Have the modules of *folder* imported anew, those that *before* lacks."""
    root = folder.resolve()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name in before or not file:
            continue
        path = Path(file).resolve()
        if path.is_relative_to(root) and "site-packages" not in path.parts:
            sys.modules.pop(name, None)


def _remove_first(items: list[str], item: str) -> None:
    if item in items:
        items.remove(item)
