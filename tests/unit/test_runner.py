"""Controllers under test: how they are named, started, ended, and what is said."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
import threading
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.controllers import executables, runner
from pytest_kube.controllers.environment import cluster_environment
from pytest_kube.controllers.runner import Controller, Surroundings, running
from pytest_kube.controllers.specs import load
from pytest_kube.errors import (
    ClusterError,
    ControllerError,
    ControllerExitedError,
    ControllerNotReadyError,
    WaitTimeoutError,
)
from pytest_kube.system.processes import Guardian

from .test_requests_log import event
from .waiting import is_running, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    """What controllers are given; nothing can be started with it."""
    return Surroundings(
        user="controller-1",
        kubeconfig=tmp_path / "kubeconfig",
        namespace="team",
        guardian=SimpleNamespace(),  # type: ignore[arg-type]
        folder=tmp_path,
    )


@pytest.fixture
def modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], None]]:
    """Write modules that can be imported, and forget them afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", "") == str(tmp_path / f"{name}.py"):
            del sys.modules[name]


def message(spec: Any, surroundings: Surroundings, **options: Any) -> str:
    """Return why the specification cannot be loaded."""
    with pytest.raises(ControllerError) as caught:
        load(spec, surroundings, **options)

    return str(caught.value).replace(str(surroundings.folder), "FOLDER")


def run(
    function: Callable[..., Any],
    surroundings: Surroundings,
    *,
    timeout: float = 2.0,
    **options: Any,
) -> Any:
    """Return the context in which a function runs as a controller."""
    work = load(function, surroundings, **options)
    return running(work, surroundings, timeout=timeout)


# --- how they are named -------------------------------------------------------


@pytest.mark.parametrize(
    "spec", ["", "operator", "kopf:", "exec:", "module:", "module:a.b", "a:b:c", ":"]
)
def test_wrong_specification_lists_the_forms(
    surroundings: Surroundings, spec: str
) -> None:
    """Whatever it was meant to be, the right form of it is in the list."""
    assert message(spec, surroundings) == (
        f"{spec!r} names no controller. It is one of:\n"
        "  kopf:src/operator.py        a kopf operator by file\n"
        "  kopf:package.module         a kopf operator by module\n"
        "  package.module:callable     a function, async or with a stop event,\n"
        "                              or an object with start() and stop()\n"
        "  package.module:registry     a kopf operator by its OperatorRegistry\n"
        "  exec:./bin/manager --flag   a program"
    )


def test_module_that_is_missing_is_named(surroundings: Surroundings) -> None:
    """The usual cause stands beside it."""
    assert message("no_such_module:main", surroundings) == (
        "controller no_such_module:main: importing no_such_module failed: "
        "ModuleNotFoundError: No module named 'no_such_module'. Is its folder on "
        "sys.path (ini pythonpath)?"
    )


def test_module_that_raises_is_the_cause(
    surroundings: Surroundings, modules: Callable[[str, str], None]
) -> None:
    """The module's own exception, with its traceback, is chained."""
    modules("broken_controller", "1 / 0")

    with pytest.raises(ControllerError, match="ZeroDivisionError: division") as caught:
        load("broken_controller:main", surroundings)

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_missing_function_lists_those_there_are(
    surroundings: Surroundings, modules: Callable[[str, str], None]
) -> None:
    """The misspelt name is likely one of them."""
    modules(
        "some_controller", "x = 1\ndef _hidden(): ...\ndef run(): ...\ndef go(): ..."
    )

    assert message("some_controller:main", surroundings) == (
        "controller some_controller:main: FOLDER/some_controller.py has no function "
        "'main'; it has: run, go"
    )
    assert "has no function 'x'" in message("some_controller:x", surroundings)


def test_unknown_parameters_are_named(surroundings: Surroundings) -> None:
    """What a function can have by name is listed."""

    def reconcile(stop: Any, queue: Any, *, size: int, depth: int = 1) -> None:
        """Never called."""

    name = reconcile.__qualname__
    assert message(reconcile, surroundings) == (
        f"controller {name}(stop: 'Any', queue: 'Any', *, size: 'int', "
        "depth: 'int' = 1) -> 'None': nothing gives it queue, size. By name it can "
        "have kubeconfig, namespace, client, stop, ready; run_controller(function, "
        "name=value) gives it more"
    )


def test_function_that_cannot_be_stopped_is_refused(
    surroundings: Surroundings,
) -> None:
    """A thread cannot be ended from outside."""

    def forever() -> None:
        """Never called."""

    assert message(forever, surroundings) == (
        f"controller {forever.__qualname__}: a function that is not async needs a "
        "parameter 'stop', a threading.Event that it waits on and that ends it; "
        "without one it could never be stopped"
    )


# --- functions ----------------------------------------------------------------


def test_function_is_given_what_it_asks_for(surroundings: Surroundings) -> None:
    """By name: its kubeconfig, the namespace, events, and options of the test."""
    given: dict[str, Any] = {}

    def reconcile(
        stop: threading.Event, kubeconfig: str, namespace: str, size: int
    ) -> None:
        given.update(kubeconfig=kubeconfig, namespace=namespace, size=size)
        stop.wait(2)

    with run(reconcile, surroundings, size=3) as controller:
        until(lambda: given)
        state = controller.summary()

    assert given == {
        "kubeconfig": str(surroundings.kubeconfig),
        "namespace": "team",
        "size": 3,
    }
    assert state == f"{controller.name}: running"
    assert controller.summary() == f"{controller.name}: stopped"
    assert controller.failure() is None


def test_coroutine_with_a_stop_event_ends_by_it(surroundings: Surroundings) -> None:
    """It can clean up in its own time."""
    steps: list[str] = []

    async def reconcile(stop: asyncio.Event) -> None:
        await stop.wait()
        steps.append("cleaned up")

    with run(reconcile, surroundings):
        pass

    assert steps == ["cleaned up"]


def test_coroutine_without_a_stop_event_is_cancelled(
    surroundings: Surroundings,
) -> None:
    """As asyncio does it: with CancelledError, which it can clean up on."""
    steps: list[str] = []

    async def reconcile(ready: Callable[[], None]) -> None:
        ready()
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("cleaned up")

    with run(reconcile, surroundings):
        pass

    assert steps == ["cleaned up"]


def test_coroutine_can_be_stopped_as_soon_as_it_is_ready(
    surroundings: Surroundings,
) -> None:
    """An empty test does not hang, not even once in many."""

    async def reconcile() -> None:
        await asyncio.Event().wait()

    for _ in range(50):
        with run(reconcile, surroundings) as controller:
            pass

        assert controller.summary() == f"{controller.name}: stopped"


def test_ready_is_waited_for(surroundings: Surroundings) -> None:
    """The test begins when the controller says that it is ready."""
    steps: list[str] = []

    async def reconcile(stop: asyncio.Event, ready: Callable[[], None]) -> None:
        await asyncio.to_thread(steps.append, "prepared")
        ready()
        ready()
        await stop.wait()

    with run(reconcile, surroundings):
        steps.append("test")

    assert steps == ["prepared", "test"]


@pytest.mark.parametrize("is_async", [False, True])
def test_ready_that_is_never_called_is_told(
    surroundings: Surroundings, *, is_async: bool
) -> None:
    """What is missing, and what the controller said last."""

    def function(stop: threading.Event, ready: Any) -> None:
        logging.getLogger("mine").warning("still waiting")
        stop.wait(2)

    async def coroutine(stop: asyncio.Event, ready: Any) -> None:
        logging.getLogger("mine").warning("still waiting")
        await stop.wait()

    with (
        pytest.raises(ControllerNotReadyError) as caught,
        run(coroutine if is_async else function, surroundings, timeout=0.1),
    ):
        pass

    first, second, third = str(caught.value).splitlines()
    assert first.endswith(
        "was not ready within 0.1 s: it has a parameter 'ready' and has not called "
        "ready() yet"
    )
    assert second == "  Its last lines:"
    assert third.endswith("WARNING mine: still waiting")
    assert isinstance(caught.value, TimeoutError)


def test_logs_of_other_threads_are_its_output(surroundings: Surroundings) -> None:
    """What the test itself logs is not."""

    def reconcile(stop: threading.Event, ready: Callable[[], None]) -> None:
        logging.getLogger("mine").warning("two\nlines")
        ready()
        stop.wait(2)

    with run(reconcile, surroundings) as controller:
        logging.getLogger("test").warning("something else")

    assert "WARNING mine: two\nlines" in controller.output
    assert "something else" not in controller.output
    assert controller.tail(1) == "lines"


def test_lines_of_other_threads_have_the_times_of_their_records(
    surroundings: Surroundings,
) -> None:
    """In UTC, whatever the time zone of the machine."""

    def reconcile(stop: threading.Event, ready: Callable[[], None]) -> None:
        logging.getLogger("mine").warning("one")
        ready()
        stop.wait(2)

    before = datetime.now(UTC)
    with run(reconcile, surroundings) as controller:
        (line,) = controller.lines()

    assert line.text.endswith("WARNING mine: one")
    assert before <= line.time <= datetime.now(UTC)
    assert controller.output == line.text


# --- how they end -------------------------------------------------------------


def fail_early(stop: threading.Event) -> None:
    """A controller with a bug."""
    raise ValueError("no such flag")


@pytest.mark.parametrize("is_async", [False, True])
def test_exception_at_start_is_reported_with_its_own_traceback(
    surroundings: Surroundings, *, is_async: bool
) -> None:
    """The controller's own line is in the text, and its exception is the cause."""

    async def coroutine(ready: Any) -> None:
        fail_early(threading.Event())

    def function(stop: threading.Event, ready: Any) -> None:
        fail_early(stop)

    with (
        pytest.raises(ControllerExitedError) as caught,
        run(coroutine if is_async else function, surroundings),
    ):
        pass

    text = str(caught.value)
    assert text.splitlines()[0].endswith(
        "ended while the test needed it: ValueError: no such flag"
    )
    assert 'raise ValueError("no such flag")' in text
    assert isinstance(caught.value.__cause__, ValueError)


def test_controller_that_returns_is_a_failure(surroundings: Surroundings) -> None:
    """A controller runs until it is told to stop."""

    def reconcile(stop: threading.Event, ready: Any) -> None:
        logging.getLogger("mine").warning("nothing to do")

    with (
        pytest.raises(ControllerExitedError) as caught,
        run(reconcile, surroundings),
    ):
        pass

    first, second, third = str(caught.value).splitlines()
    assert first.endswith("ended while the test needed it: returned")
    assert second == "  Its last lines:"
    assert third.endswith("nothing to do")


@pytest.mark.parametrize("is_async", [False, True])
def test_exit_of_the_controller_is_not_the_end_of_pytest(
    surroundings: Surroundings, *, is_async: bool
) -> None:
    """sys.exit() is how programs give up."""

    async def coroutine(ready: Any) -> None:
        sys.exit(3)

    def function(stop: threading.Event, ready: Any) -> None:
        sys.exit(3)

    with (
        pytest.raises(ControllerExitedError, match="needed it: SystemExit: 3"),
        run(coroutine if is_async else function, surroundings),
    ):
        pass


def test_exception_later_is_kept_for_who_asks(surroundings: Surroundings) -> None:
    """A wait asks; so does the summary of a failed test."""
    go_on = threading.Event()

    def reconcile(stop: threading.Event) -> None:
        go_on.wait(2)
        raise ValueError("later")

    with run(reconcile, surroundings) as controller:
        go_on.set()
        controller.exited.exception(2)
        failure = controller.failure()

    assert isinstance(failure, ControllerExitedError)
    assert controller.summary() == f"{controller.name}: ended by ValueError: later"


def test_exception_when_stopped_is_raised(surroundings: Surroundings) -> None:
    """A bug in the controller's clean-up is a bug."""

    def reconcile(stop: threading.Event) -> None:
        stop.wait(2)
        raise ValueError("at the end")

    with (
        pytest.raises(ControllerError) as caught,
        run(reconcile, surroundings),
    ):
        pass

    first, *rest = str(caught.value).splitlines()
    assert first.endswith("raised when it was stopped: ValueError: at the end")
    assert 'raise ValueError("at the end")' in "\n".join(rest)
    assert isinstance(caught.value.__cause__, ValueError)


def test_hang_at_the_end_shows_where(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line at which the controller hangs is in the text."""
    monkeypatch.setattr(runner, "STOP_TIMEOUT", 0.1)
    go_on = threading.Event()

    def reconcile(stop: threading.Event) -> None:
        go_on.wait(10)  # deaf to stop

    with (
        pytest.raises(ControllerError) as caught,
        run(reconcile, surroundings) as controller,
    ):
        pass
    go_on.set()
    controller.stop()

    text = str(caught.value)
    assert "did not stop within 0 s; its thread goes on and may disturb" in text
    assert "go_on.wait(10)  # deaf to stop" in text


def test_stopping_twice_is_no_error(surroundings: Surroundings) -> None:
    """A test may stop its controller before the fixture does."""

    def reconcile(stop: threading.Event) -> None:
        stop.wait(2)

    with run(reconcile, surroundings) as controller:
        controller.stop()
        controller.stop()

    assert controller.failure() is None


def test_controller_that_was_not_started_can_be_stopped(
    surroundings: Surroundings,
) -> None:
    """Nothing runs, nothing hangs."""
    controller = Controller(load(fail_early, surroundings))

    controller.stop()

    assert controller.summary().endswith("starting")


def test_handler_errors_stand_in_the_summary(surroundings: Surroundings) -> None:
    """How many, and the last one's first line."""
    controller = Controller(load(fail_early, surroundings))

    controller.report_error("first")
    controller.report_error("second\nwith a traceback")

    assert controller.errors == ["first", "second\nwith a traceback"]
    assert controller.summary() == (
        "fail_early: starting, 2 handler errors, last: second"
    )


# --- the environment ----------------------------------------------------------


def test_environment_points_to_the_cluster_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No client finds the cluster that pytest happens to run in, or the user's."""
    monkeypatch.setenv("KUBECONFIG", "mine")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.delenv("KUBERNETES_SERVICE_PORT", raising=False)
    before = dict(os.environ)

    with cluster_environment(tmp_path / "theirs"):
        inside = dict(os.environ)

    assert inside["KUBECONFIG"] == str(tmp_path / "theirs")
    assert "KUBERNETES_SERVICE_HOST" not in inside
    assert dict(os.environ) == before


@pytest.mark.parametrize("value", ["mine", None])
def test_frozen_location_of_clients_is_changed_and_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """The official client reads KUBECONFIG once, at its import."""
    if value is None:
        monkeypatch.delenv("KUBECONFIG", raising=False)
    else:
        monkeypatch.setenv("KUBECONFIG", value)
    module = ModuleType("kubernetes.config.kube_config")
    module.__dict__["KUBE_CONFIG_DEFAULT_LOCATION"] = value or "~/.kube/config"
    monkeypatch.setitem(sys.modules, "kubernetes.config.kube_config", module)

    with cluster_environment(tmp_path / "theirs"):
        inside = module.KUBE_CONFIG_DEFAULT_LOCATION

    assert inside == str(tmp_path / "theirs")
    outside = module.KUBE_CONFIG_DEFAULT_LOCATION
    assert outside == (value or "~/.kube/config")


def test_environment_keeps_proxies_away_from_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy cannot reach a cluster on the loopback interface."""
    monkeypatch.setenv("NO_PROXY", "example.com")
    monkeypatch.delenv("no_proxy", raising=False)

    with cluster_environment(tmp_path / "theirs"):
        inside = [os.environ["NO_PROXY"], os.environ["no_proxy"]]

    assert inside == ["example.com,127.0.0.1,localhost", "127.0.0.1,localhost"]
    assert os.environ["NO_PROXY"] == "example.com"
    assert "no_proxy" not in os.environ


def test_environment_comes_back_when_the_start_fails(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next test finds everything as it was."""
    monkeypatch.setenv("KUBECONFIG", "mine")
    handlers = list(logging.getLogger().handlers)

    with pytest.raises(ControllerExitedError), run(fail_early, surroundings) as broken:
        raise broken.exited.exception(2) and broken.failure()

    assert os.environ["KUBECONFIG"] == "mine"
    assert logging.getLogger().handlers == handlers


# --- kopf ---------------------------------------------------------------------

HANDLER = """\
import kopf

@kopf.on.create("widgets")
def created(**_): ...
"""


def handlers_of(work: Any) -> int:
    """Return how many handlers an operator has."""
    return len(work._registry._changing.get_all_handlers())


def close(work: Any) -> None:
    """Do what the end of an operator's run does."""
    work._cleanup.close()


def test_missing_kopf_file_is_named(surroundings: Surroundings) -> None:
    """Where it was looked for stands in the text."""
    assert message("kopf:src/operator.py", surroundings) == (
        "controller kopf:src/operator.py: FOLDER/src/operator.py does not exist; "
        "paths are relative to FOLDER"
    )


def test_kopf_file_that_raises_shows_its_line(surroundings: Surroundings) -> None:
    """The operator's own exception is the cause, and its line is in the text."""
    (surroundings.folder / "broken.py").write_text(
        "import kopf\nimport no_such_thing\n"
    )
    path, modules = list(sys.path), set(sys.modules)

    with pytest.raises(ControllerError) as caught:
        load("kopf:broken.py", surroundings)

    text = str(caught.value)
    assert text.startswith(
        "controller kopf:broken.py: importing it failed: ModuleNotFoundError: "
        "No module named 'no_such_thing'\n"
    )
    assert 'broken.py", line 2, in <module>' in text
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert sys.path == path
    assert not {name for name in set(sys.modules) - modules if "broken" in name}


def test_missing_kopf_module_is_named(surroundings: Surroundings) -> None:
    """A module is looked for as import does it."""
    assert message("kopf:no_such.operator", surroundings).startswith(
        "controller kopf:no_such.operator: importing it failed: ModuleNotFoundError: "
        "No module named 'no_such'"
    )


def test_kopf_file_is_loaded_afresh_and_leaves_nothing(
    surroundings: Surroundings,
) -> None:
    """Modules beside the file come and go with it, their handlers too."""
    import kopf

    (surroundings.folder / "main_operator.py").write_text(
        HANDLER + "import more_handlers\n"
    )
    (surroundings.folder / "more_handlers.py").write_text(HANDLER)
    registry, path = kopf.get_default_registry(), list(sys.path)
    counts = []

    for _ in range(2):
        work = load("kopf:main_operator.py", surroundings)
        counts.append(handlers_of(work))
        close(work)

    assert counts == [2, 2]
    assert kopf.get_default_registry() is registry
    assert sys.path == path
    assert not {"main_operator", "more_handlers"} & set(sys.modules)
    assert not [name for name in sys.modules if name.startswith("pytest_kube_operator")]


def test_kopf_module_keeps_its_handlers_for_the_next_run(
    surroundings: Surroundings, modules: Callable[[str, str], None]
) -> None:
    """A module is imported once per process; so are its decorators run."""
    import kopf

    modules("some_operator", HANDLER)
    registry = kopf.get_default_registry()

    first = load("kopf:some_operator", surroundings)
    second = load("kopf:some_operator", surroundings)

    assert (handlers_of(first), handlers_of(second)) == (1, 1)
    assert kopf.get_default_registry() is registry


def test_registry_of_kopf_is_an_operator(
    surroundings: Surroundings, modules: Callable[[str, str], None]
) -> None:
    """Given as the object, or as where it is imported from."""
    import kopf

    modules(
        "some_handlers",
        "import kopf\nregistry = kopf.OperatorRegistry()\n"
        "@kopf.on.create('widgets', registry=registry)\ndef created(**_): ...\n",
    )

    by_name = load("some_handlers:registry", surroundings)
    given = load(kopf.OperatorRegistry(), surroundings)

    assert (by_name.name, handlers_of(by_name)) == ("kopf:some_handlers:registry", 1)
    assert (given.name, handlers_of(given)) == ("kopf:registry", 0)


def test_kopf_is_not_imported_to_look_for_its_registries(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has a registry has imported it."""
    monkeypatch.delitem(sys.modules, "kopf", raising=False)

    load(fail_early, surroundings)

    assert "kopf" not in sys.modules


# --- programs -----------------------------------------------------------------


@pytest.fixture
def programs(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Surroundings]:
    """Surroundings in which programs can be started."""
    monkeypatch.setattr(tempfile, "tempdir", str(surroundings.folder))
    with Guardian() as guardian:
        yield Surroundings(
            user="controller-1",
            kubeconfig=surroundings.kubeconfig,
            namespace="team",
            guardian=guardian,
            folder=surroundings.folder,
        )


def write_program(folder: Path, script: str, mode: int = 0o755) -> None:
    """Write the program bin/manager."""
    path = folder / "bin" / "manager"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)


def test_missing_program_names_the_places(surroundings: Surroundings) -> None:
    """A program that was not built yet is the usual reason."""
    assert message("exec:bin/manager --flag", surroundings) == (
        "controller exec:bin/manager: no such program; looked at FOLDER/bin/manager "
        "and on PATH. Was it built?"
    )


def test_program_that_is_not_executable_is_told(surroundings: Surroundings) -> None:
    """What to do about it stands there."""
    if os.geteuid() == 0 and sys.platform == "darwin":
        pytest.skip("root may run everything there")
    write_program(surroundings.folder, "", mode=0o644)

    assert message("exec:bin/manager", surroundings) == (
        "controller exec:bin/manager: FOLDER/bin/manager is not executable; chmod +x it"
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("exec: ", "exec: : no program is named"),
        ("exec:a 'b", "exec:a 'b: No closing quotation; quote as in a shell"),
    ],
)
def test_command_that_is_none_is_told(
    surroundings: Surroundings, spec: str, expected: str
) -> None:
    """The words are split as in a shell."""
    assert message(spec, surroundings) == expected


def test_option_that_a_program_does_not_have_is_told(
    surroundings: Surroundings,
) -> None:
    """Arguments are part of the command."""
    assert message("exec:true", surroundings, size=3) == (
        "exec:true: no option size; there are ready, env"
    )


def test_program_may_be_a_list_with_environment_and_ports(
    programs: Surroundings,
) -> None:
    """Nothing is split then; the same name is the same port, also in the test."""
    write_program(programs.folder, 'printf "%s\\n" "$@" "$WHERE"; sleep 60')
    command = ["bin/manager", "a b", "--metrics=:{port:metrics}", "{port:health}"]
    options: dict[str, Any] = {"env": {"WHERE": "{namespace}:{port:metrics}"}}
    work = load(command, programs, ready="log:^team:", **options)

    with running(work, programs, timeout=2) as controller:
        metrics, health = controller.ports["metrics"], controller.ports["health"]
        assert controller.name == "exec:bin/manager"
        assert controller.output.splitlines() == [
            "a b",
            f"--metrics=:{metrics}",
            str(health),
            f"team:{metrics}",
        ]


class Manager:
    """A controller as a class: start() returns, or not."""

    def __init__(self, *, blocks: bool) -> None:
        self.blocks = blocks
        self.kubeconfig = ""
        self.stopped = threading.Event()

    def start(self) -> None:
        self.kubeconfig = os.environ["KUBECONFIG"]
        if self.blocks:
            self.stopped.wait()

    def stop(self) -> None:
        self.stopped.set()


@pytest.mark.parametrize("blocks", [False, True])
def test_object_is_started_and_stopped(
    surroundings: Surroundings, *, blocks: bool
) -> None:
    """Also one whose start() goes on until it is stopped."""
    manager = Manager(blocks=blocks)

    with run(manager, surroundings) as controller:
        assert controller.name == "Manager"
        assert manager.kubeconfig == str(surroundings.kubeconfig)
        assert not manager.stopped.is_set()

    assert manager.stopped.is_set()
    assert controller.failure() is None


def test_context_manager_is_entered_and_left(surroundings: Surroundings) -> None:
    """It is ready when it was entered."""
    seen: list[str] = []

    class Manager:
        def __enter__(self) -> None:
            seen.append("entered")

        def __exit__(self, *_: object) -> None:
            seen.append("left")

    with run(Manager(), surroundings):
        assert seen == ["entered"]

    assert seen == ["entered", "left"]


def test_object_that_fails_to_start_is_told(surroundings: Surroundings) -> None:
    """With its own error."""

    class Broken(Manager):
        def start(self) -> None:
            raise LookupError("no such table")

    with (
        pytest.raises(ControllerExitedError, match="LookupError: no such table"),
        run(Broken(blocks=False), surroundings),
    ):
        pass


def test_what_is_neither_function_nor_object_is_told(
    surroundings: Surroundings,
) -> None:
    """A number, for example; and an object takes no options."""
    with pytest.raises(
        ControllerError, match="^3 is no controller: neither a function"
    ):
        load(3, surroundings)
    with pytest.raises(ControllerError, match="an object takes no options, got size"):
        load(Manager(blocks=False), surroundings, size=3)


def test_function_is_given_an_official_client(
    surroundings: Surroundings, tmp_path: Path
) -> None:
    """Configured for the cluster, by the name of its parameter."""
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:7"}}],
        "users": [{"name": "x", "user": {}}],
    }
    surroundings.kubeconfig.write_text(json.dumps(config))
    hosts = []

    def reconcile(client: Any, stop: threading.Event) -> None:
        hosts.append(client.configuration.host)
        stop.wait()

    with run(reconcile, surroundings):
        assert until(lambda: hosts) == ["http://127.0.0.1:7"]


def test_program_can_be_killed_and_started_again(programs: Surroundings) -> None:
    """That it ended is no failure then; its output goes on."""
    write_program(programs.folder, "trap '' TERM; echo $$; while :; do sleep 60; done")
    load_it = partial(load, "exec:bin/manager", programs, ready="log:.")

    with running(load_it(), programs, timeout=2, again=load_it) as controller:
        first = int(controller.output)
        controller.kill()
        assert not is_running(first)
        assert controller.failure() is None
        assert controller.summary().endswith("stopped")
        controller.restart()
        second = int(controller.output.splitlines()[1])
        assert is_running(second)
        assert controller.summary().endswith("running")
        controller.kill()

    assert not is_running(second)


def test_program_that_does_not_come_back_is_told(programs: Surroundings) -> None:
    """As at its first start."""
    write_program(programs.folder, "test -e done && exit 3; echo yes; sleep 60")
    load_it = partial(load, "exec:bin/manager", programs, ready="log:yes")

    with running(load_it(), programs, timeout=2, again=load_it) as controller:
        (programs.folder / "done").touch()
        with pytest.raises(ControllerExitedError, match="ended with exit code 3"):
            controller.restart()
        controller.stop()


def test_program_stands_still_while_it_is_paused(programs: Surroundings) -> None:
    """And can be stopped nevertheless."""
    write_program(programs.folder, "echo started; exec sleep 60")
    work = load("exec:bin/manager", programs, ready="log:started")

    def state(pid: int) -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]

    with running(work, programs, timeout=2) as controller:
        pid = work._process.pid  # type: ignore[attr-defined]
        controller.pause()
        until(lambda: state(pid) == "T", seconds=10)
        controller.resume()
        until(lambda: state(pid) != "T", seconds=10)
        controller.pause()

    assert not is_running(pid)


@pytest.mark.parametrize(
    ("method", "what"), [("kill", "killed"), ("pause", "paused"), ("resume", "resumed")]
)
def test_what_cannot_be_cut_off_is_not_killed_in_this_process(
    surroundings: Surroundings, method: str, what: str
) -> None:
    """The text says what can be."""

    def reconcile(stop: threading.Event) -> None:
        stop.wait()

    with (
        run(reconcile, surroundings) as controller,
        pytest.raises(
            ControllerError,
            match=f"cannot be {what}: it runs in the process of pytest, and its API",
        ),
    ):
        getattr(controller, method)()


def test_function_is_started_again(surroundings: Surroundings) -> None:
    """With a stop event of its own."""
    stops: list[threading.Event] = []

    def reconcile(stop: threading.Event) -> None:
        stops.append(stop)
        stop.wait()

    load_it = partial(load, reconcile, surroundings)

    with running(load_it(), surroundings, timeout=2, again=load_it) as controller:
        controller.restart()
        until(lambda: len(stops) == 2)
        assert [stop.is_set() for stop in stops] == [True, False]

    assert stops[1].is_set()


def test_requests_cannot_be_known_without_an_audit_log(
    surroundings: Surroundings,
) -> None:
    """Whose text says where there is one."""
    controller = Controller(load(fail_early, surroundings), surroundings)

    for ask in (controller.requests, controller.wait_idle):
        with pytest.raises(
            ClusterError, match="the cluster has no audit log; those of"
        ):
            ask()


def test_idle_controller_asks_nothing_for_a_while(
    surroundings: Surroundings, tmp_path: Path
) -> None:
    """Renewing a Lease does not count; one that goes on is told with what it asks."""
    audit = tmp_path / "audit.log"
    audit.touch()
    where = replace(surroundings, audit=audit)
    controller = Controller(load(fail_early, surroundings), where)
    ended = threading.Event()

    def ask(resource: str) -> None:
        while not ended.wait(0.01):
            line = event("controller-1", "patch", objectRef={"resource": resource})
            with audit.open("a") as file:
                file.write(line)

    for resource in ("leases", "widgets"):
        ended.clear()
        thread = threading.Thread(target=ask, args=(resource,))
        thread.start()
        try:
            controller.wait_idle(quiet=0.2, timeout=0.6)
            assert resource == "leases"
        except WaitTimeoutError as e:
            assert resource == "widgets"  # the other one raises nothing
            first, *lines = str(e).splitlines()
            assert first.startswith(
                "controller fail_early was not idle within 0.6 s: never 0.2 s without "
                "a request. Its last ones:"
            )
            assert lines[-1] == "    patch widgets default: 200"
        finally:
            ended.set()
            thread.join()


def test_program_for_another_machine_is_told(programs: Surroundings) -> None:
    """The usual reason for what the system calls an exec format error."""
    path = programs.folder / "manager"
    path.write_bytes(b"\x7fELF" + bytes(60))
    path.chmod(0o755)

    with (
        pytest.raises(
            ControllerExitedError,
            match="Exec format error.*; was it built for another machine",
        ),
        running(load("exec:manager", programs), programs, timeout=2),
    ):
        pass


def test_program_that_ends_before_it_is_ready_is_told(programs: Surroundings) -> None:
    """With its last lines, not with what it was waited for."""
    write_program(programs.folder, "echo no config; exit 2")

    with (
        pytest.raises(ControllerExitedError) as error,
        running(
            load("exec:bin/manager", programs, ready="log:started"), programs, timeout=5
        ),
    ):
        pass

    assert "ended with exit code 2" in str(error.value)
    assert "no config" in str(error.value)


def test_program_that_is_never_ready_says_what_is_missing(
    programs: Surroundings,
) -> None:
    """And is stopped."""
    write_program(programs.folder, "echo warming up; sleep 60")

    with (
        pytest.raises(ControllerNotReadyError) as error,
        running(
            load("exec:bin/manager", programs, ready="log:^started"),
            programs,
            timeout=0.3,
        ),
    ):
        pass

    assert str(error.value).splitlines() == [
        "controller exec:bin/manager was not ready within 0.3 s: no line of its output "
        "matches '^started'",
        "  Its last lines:",
        "    warming up",
    ]


def test_program_runs_in_its_surroundings(programs: Surroundings) -> None:
    """Environment, folder and arguments; what it prints can be read meanwhile."""
    write_program(
        programs.folder,
        'echo "$KUBECONFIG $NAMESPACE $*"; pwd; echo oops >&2; sleep 60',
    )
    spec = "exec:bin/manager --ns={namespace} '--config {kubeconfig}'"
    config = programs.kubeconfig

    with running(load(spec, programs), programs, timeout=2) as controller:
        until(lambda: controller.output.endswith("oops"))
        output = controller.output

    folder = programs.folder.resolve()
    assert output.splitlines() == [
        f"{config} team --ns=team --config {config}",
        str(folder),
        "oops",
    ]


def test_lines_of_a_program_have_times_also_from_before_a_restart(
    programs: Surroundings,
) -> None:
    """Its output is the same without them, oldest first."""
    write_program(programs.folder, "echo $$; exec sleep 60")
    load_it = partial(load, "exec:bin/manager", programs, ready="log:^\\d+$")
    moments = [datetime.now(UTC)]

    with running(load_it(), programs, timeout=2, again=load_it) as controller:
        moments.append(datetime.now(UTC))
        controller.restart()
        moments.append(datetime.now(UTC))
        first, second = controller.lines()

    assert moments[0] <= first.time <= moments[1] <= second.time <= moments[2]
    assert controller.output == f"{first.text}\n{second.text}"
    assert controller.tail(1) == second.text


def test_program_that_ends_is_a_failure_with_its_code(programs: Surroundings) -> None:
    """Its last lines tell why."""
    write_program(programs.folder, "echo unable to start; read _ < go-on; exit 3")
    os.mkfifo(programs.folder / "go-on")
    work = load("exec:bin/manager", programs)

    with running(work, programs, timeout=2) as controller:
        (programs.folder / "go-on").write_text("now\n")
        controller.exited.exception(2)
        failure = controller.failure()

    text = str(failure)
    assert text.splitlines()[0] == (
        "controller exec:bin/manager ended while the test needed it: ControllerError: "
        f"{programs.folder}/bin/manager ended with exit code 3"
    )
    assert controller.output == "unable to start"
    assert "unable to start" in text


def test_program_is_asked_to_stop(programs: Surroundings) -> None:
    """SIGTERM is how a cluster stops it too; the exit code then is its own affair."""
    write_program(
        programs.folder,
        "trap 'echo bye; kill $!; exit 1' TERM; sleep 60 & echo ready; wait",
    )
    work = load("exec:bin/manager", programs)

    with running(work, programs, timeout=2) as controller:
        until(lambda: controller.output)

    assert controller.output.splitlines()[:2] == ["ready", "bye"]
    assert controller.failure() is None


def test_program_that_does_not_stop_is_killed(
    programs: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL follows after a while."""
    monkeypatch.setattr(executables, "GRACE", 0.1)
    write_program(programs.folder, "trap '' TERM; echo $$; while :; do sleep 60; done")
    work = load("exec:bin/manager", programs)

    with running(work, programs, timeout=2) as controller:
        pid = int(until(lambda: controller.output))
        os.kill(pid, signal.SIGTERM)

    assert not is_running(pid)


def test_program_that_cannot_be_run_is_told(programs: Surroundings) -> None:
    """The system's reason is the controller's."""
    path = programs.folder / "manager"
    path.write_text("#!/no/such/shell\n")
    path.chmod(0o755)

    with (
        pytest.raises(ControllerExitedError, match="FileNotFoundError"),
        running(load("exec:manager", programs), programs, timeout=2),
    ):
        pass
