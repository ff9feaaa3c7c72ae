"""One wait: what ends it, what it survives, and what a timeout says."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube import observation
from pytest_kube.conditions import deleted
from pytest_kube.conditions import field as field_condition
from pytest_kube.errors import ControllerExitedError, WaitTimeoutError
from pytest_kube.kube import Kube

from .fake_api import FakeAPI, fake_api, status
from .waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
ALL_WIDGETS = "/apis/example.com/v1/widgets"
EVENTS = "/api/v1/namespaces/default/events"
NO_CONTROLLER = "  controller   none was started; kube_controller starts it"


def widget(version: int, size: int = 0, **more: Any) -> dict[str, Any]:
    """Return a version of the widget w1; without the kind, as lists have it."""
    metadata = {
        "name": "w1",
        "namespace": "default",
        "uid": "u1",
        "resourceVersion": str(version),
        **more.pop("metadata", {}),
    }
    return {"metadata": metadata, "spec": {"size": size}, **more}


@dataclass
class Controller:
    """What a wait needs to know of a controller under test."""

    name: str = "mine"
    user: str = "controller-1"
    credential: str = ""
    exited: Future[None] = field(default_factory=Future)
    errors: list[str] = field(default_factory=list)
    output: str = ""

    def tail(self, lines: int = 15) -> str:
        return ""[-lines:]

    def failure(self) -> Exception | None:
        return ControllerExitedError("it ended") if self.exited.done() else None

    def summary(self) -> str:
        return f"{self.name}: running"


class Waiting:
    """A wait in a thread of its own, while the test plays the server."""

    def __init__(self, wait: Callable[[], Any]) -> None:
        self._result: Future[Any] = Future()
        self._wait = wait
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result.set_result(self._wait())
        except BaseException as e:  # noqa: BLE001  # the test is to see it
            self._result.set_exception(e)

    def result(self) -> Any:
        """Return what the wait returned, or raise what it raised."""
        try:
            return self._result.result(2)
        finally:
            self._thread.join(2)


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with fake_api() as api:
        api.put(EVENTS)
        api.put(ALL_WIDGETS)
        yield api


def handle(api: FakeAPI, *controllers: Controller, timeout: float = 10.0) -> Kube:
    """Return a handle on the fake server."""
    cluster: Any = SimpleNamespace(client=api.client, audit=None)
    return Kube(cluster, "default", timeout, controllers=list(controllers))


def wait_for(
    api: FakeAPI,
    condition: Any,
    *controllers: Controller,
    timeout: float = 10.0,
    kind: str = "widgets",
    **how: Any,
) -> Callable[[], Any]:
    """Return a wait for w1 that has not begun."""
    kube = handle(api, *controllers, timeout=timeout)
    return lambda: kube.wait_for(f"{kind}/w1", condition, **how)


def timeout_text(
    api: FakeAPI, condition: Any, *controllers: Controller, **how: Any
) -> list[str]:
    """Return the lines of a timeout, with the time that it took left out."""
    with pytest.raises(WaitTimeoutError) as caught:
        wait_for(api, condition, *controllers, **{"timeout": 0.0, **how})()

    return lines_of(caught.value)


def lines_of(error: WaitTimeoutError) -> list[str]:
    """Return its lines, without the time that it took and that of no controller."""
    lines = str(error).replace(f"{error.elapsed:.1f} s", "T s").split("\n")
    return [line for line in lines if line != NO_CONTROLLER]


# --- what ends it -------------------------------------------------------------


def test_what_holds_already_returns_at_once(api: FakeAPI) -> None:
    """The object comes back with its kind, though lists leave that out."""
    api.put(WIDGETS, widget(5, size=3))

    found = wait_for(api, field_condition("spec.size", 3))()

    assert (found["kind"], found["apiVersion"]) == ("Widget", "example.com/v1")
    assert found["metadata"]["resourceVersion"] == "5"
    assert api.asked(WIDGETS)[0].query["fieldSelector"] == "metadata.name=w1"


def test_wait_of_no_time_looks_once(api: FakeAPI) -> None:
    """A timeout of 0 asks how things are now."""
    api.put(WIDGETS, widget(5, size=3))

    found = wait_for(api, field_condition("spec.size", 3), timeout=0)()

    assert found["spec"] == {"size": 3}


def test_what_becomes_true_ends_the_wait(api: FakeAPI) -> None:
    """The watch starts where the list ended, and every version is looked at."""
    api.put(WIDGETS, version="4")
    seen: list[Any] = []

    def looked_at(obj: dict[str, Any] | None) -> bool:
        seen.append(obj and obj["spec"]["size"])
        return seen[-1] == 3

    waiting = Waiting(wait_for(api, looked_at))
    stream = api.next_watch()
    for n in range(1, 4):
        stream.send("ADDED" if n == 1 else "MODIFIED", widget(4 + n, size=n))

    assert waiting.result()["metadata"]["resourceVersion"] == "7"
    assert seen == [None, 1, 2, 3]
    assert stream.query["resourceVersion"] == "4"
    assert stream.query["fieldSelector"] == "metadata.name=w1"


def test_deleted_object_is_seen_as_none(api: FakeAPI) -> None:
    """The object as last seen is what a wait for its end returns."""
    api.put(WIDGETS, widget(5, size=3))

    waiting = Waiting(wait_for(api, deleted))
    api.next_watch().send("DELETED", widget(6, size=3))

    assert waiting.result()["metadata"]["resourceVersion"] == "5"


def test_wait_for_the_end_of_what_never_was_returns_nothing(api: FakeAPI) -> None:
    """There is no object that could be returned."""
    api.put(WIDGETS)

    assert wait_for(api, deleted)() == {}


def test_controller_that_ends_fails_the_wait_at_once(api: FakeAPI) -> None:
    """Nobody waits ten seconds for what a dead controller was to do."""
    api.put(WIDGETS)
    controller = Controller()

    waiting = Waiting(wait_for(api, lambda _: False, controller))
    api.next_watch()
    controller.exited.set_result(None)

    with pytest.raises(ControllerExitedError, match="it ended"):
        waiting.result()


def test_controller_that_has_ended_fails_the_next_wait(api: FakeAPI) -> None:
    """Even one for something that is there already."""
    api.put(WIDGETS, widget(5))
    controller = Controller()
    controller.exited.set_result(None)

    with pytest.raises(ControllerExitedError):
        wait_for(api, lambda _: True, controller)()


def test_condition_that_raises_ends_the_wait(api: FakeAPI) -> None:
    """Its own error comes at once, with a note on what it was asked about."""
    api.put(WIDGETS, widget(5))

    with pytest.raises(KeyError, match="status") as caught:
        wait_for(api, lambda w: w["status"]["ready"])()

    (note,) = caught.value.__notes__
    assert note.startswith("The condition 'lambda at test_waits.py:")
    assert note.endswith(
        "raised this when asked about an object: Widget default/w1. It is asked about "
        "every version, also one without a status, and about None while there is none."
    )


def test_condition_that_takes_no_absence_is_told_so(api: FakeAPI) -> None:
    """The usual mistake: the object is not there yet."""
    api.put(WIDGETS)

    with pytest.raises(TypeError) as caught:
        wait_for(api, lambda w: w["spec"]["size"] == 3)()

    (note,) = caught.value.__notes__
    assert "asked about None, for there is no such object: Widget default/w1" in note


def test_negative_timeout_is_refused(api: FakeAPI) -> None:
    """A mistake in the test is told before anything is asked."""
    kube = Kube(SimpleNamespace(client=api.client), "default")  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="timeout=-1: expected seconds, 0 or more"):
        kube.wait_for("widget/w1", deleted, timeout=-1)


def test_thread_and_watch_end_with_the_wait(api: FakeAPI) -> None:
    """A thousand waits leave no thousand threads."""
    api.put(WIDGETS)
    waiting = Waiting(wait_for(api, lambda w: w))
    api.next_watch().send("ADDED", widget(5))
    waiting.result()

    def threads() -> list[str]:
        names = [t.name for t in threading.enumerate()]
        return [name for name in names if name == "pytest-kube wait w1"]

    until(lambda: not threads())


# --- what it survives ---------------------------------------------------------


def test_gone_version_is_listed_again(api: FakeAPI) -> None:
    """After 410 the state is read afresh, and watched from there."""
    api.put(WIDGETS, version="4")

    waiting = Waiting(wait_for(api, lambda w: w))
    stream = api.next_watch()
    api.put(WIDGETS, version="90")
    stream.send("ERROR", status(410, "Expired", "too old resource version")[1])
    again = api.next_watch()
    again.send("ADDED", widget(91))

    assert waiting.result()["metadata"]["resourceVersion"] == "91"
    assert again.query["resourceVersion"] == "90"
    assert len(api.asked(WIDGETS)) == 2


def test_object_that_vanished_unseen_is_noticed_by_the_next_list(
    api: FakeAPI,
) -> None:
    """A deletion between a lost watch and the next list is one nevertheless."""
    api.put(WIDGETS, widget(5), version="5")

    waiting = Waiting(wait_for(api, deleted))
    stream = api.next_watch()
    api.put(WIDGETS, version="90")
    stream.send("ERROR", status(410, "Expired", "too old resource version")[1])

    assert waiting.result()["metadata"]["resourceVersion"] == "5"


def test_closed_watch_goes_on_where_it_ended(api: FakeAPI) -> None:
    """API servers close watches now and then; nothing is lost, nothing seen twice."""
    api.put(WIDGETS, version="4")
    seen: list[Any] = []

    def looked_at(obj: dict[str, Any] | None) -> bool:
        seen.append(obj and obj["metadata"]["resourceVersion"])
        return seen[-1] == "8"

    waiting = Waiting(wait_for(api, looked_at))
    first = api.next_watch()
    first.send("ADDED", widget(7))
    first.end()
    second = api.next_watch()
    second.send("MODIFIED", widget(8))
    waiting.result()

    assert second.query["resourceVersion"] == "7"
    assert seen == [None, "7", "8"]
    assert len(api.asked(WIDGETS)) == 1


def test_watches_that_close_at_once_are_no_flood(api: FakeAPI) -> None:
    """A broken proxy is not asked a thousand times per second."""
    api.put(WIDGETS)

    waiting = Waiting(wait_for(api, lambda w: w, timeout=0.2))
    opened = 0
    while waiting._thread.is_alive():
        for stream in list(api.streams[opened:]):
            opened += 1
            stream.end()
        waiting._thread.join(0.001)

    with pytest.raises(WaitTimeoutError):
        waiting.result()
    assert 2 < opened <= 25


def test_error_event_is_survived(api: FakeAPI) -> None:
    """Another error than 410 on a watch is kept for the text, and tried again."""
    api.put(WIDGETS, version="4")

    waiting = Waiting(wait_for(api, lambda w: w))
    error = status(500, "InternalError", "etcd is slow")[1]
    api.next_watch().send("ERROR", error)
    api.next_watch().send("ADDED", widget(5))

    assert waiting.result()["metadata"]["resourceVersion"] == "5"


def test_api_server_that_comes_back_is_asked_again(api: FakeAPI) -> None:
    """A restart of the API server is waited for, within the time of the wait."""
    there = (200, {"metadata": {"resourceVersion": "5"}, "items": [widget(5)]})
    answers = [(0, None), status(503, "ServiceUnavailable", "starting"), there]
    wait = wait_for(api, lambda w: w)
    api.answers[WIDGETS] = lambda _: answers.pop(0)

    found = wait()

    assert found["metadata"]["resourceVersion"] == "5"
    assert answers == []


@pytest.mark.parametrize(
    "lie",
    [
        {"items": [{"spec": {}}], "metadata": {"resourceVersion": "1"}},
        {"items": [widget(5)]},
        {"items": "none", "metadata": {"resourceVersion": "1"}},
        {"kind": "Status"},
        [],
        b"<html>",
    ],
)
def test_list_that_makes_no_sense_is_no_list(api: FakeAPI, lie: Any) -> None:
    """A proxy in between, for example; it is asked again until the time is over."""
    api.answers[WIDGETS] = (200, lie)

    lines = timeout_text(api, "create", timeout=0.3)

    server, seen = lines[1:3]
    assert server.startswith("  API server ")
    assert "is none of an API server" in server or "is not JSON but '<html>'" in server
    assert seen == "  last seen    never: the API server did not answer"
    assert len(api.asked(WIDGETS)) > 2


def test_event_that_makes_no_sense_is_survived(api: FakeAPI) -> None:
    """What is true is listed afresh."""
    api.put(WIDGETS, version="4")
    waiting = Waiting(wait_for(api, lambda w: w))
    stream = api.next_watch()
    api.put(WIDGETS, widget(5))

    stream.raw(b'{"type": "ADDED"}\n')

    assert waiting.result()["metadata"]["resourceVersion"] == "5"


def test_other_objects_are_not_taken_for_the_one(api: FakeAPI) -> None:
    """A server that ignores the selector is not believed."""
    other = widget(4, size=3, metadata={"name": "w2"})
    api.put(WIDGETS, other, version="4")
    waiting = Waiting(wait_for(api, lambda w: w and w["spec"]["size"] == 3))
    stream = api.next_watch()

    stream.send("MODIFIED", {**other, "spec": {"size": 3}})
    stream.send("ADDED", widget(6, size=3))

    assert waiting.result()["metadata"]["name"] == "w1"


# --- what a timeout says ------------------------------------------------------


def test_timeout_is_kept(api: FakeAPI) -> None:
    """The wait ends when it should; its error carries what code may want to see."""
    api.put(WIDGETS, widget(5))
    started = time.monotonic()

    with pytest.raises(WaitTimeoutError) as caught:
        wait_for(api, field_condition("spec.size", 3), timeout=0.2)()

    assert 0.2 <= time.monotonic() - started < 1.0
    assert 0.2 <= caught.value.elapsed < 1.0
    assert caught.value.last is not None
    assert caught.value.last["metadata"]["resourceVersion"] == "5"
    assert isinstance(caught.value, TimeoutError)


def test_timeout_tells_everything_there_is(api: FakeAPI) -> None:
    """The object, its conditions, its events and the controllers, a line each."""
    reported = [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Quota",
            "message": 'no "cpu"',
        },
        {"type": "Synced", "status": "True"},
    ]
    stuck = {
        "generation": 2,
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["a.io/x", "b.io/y"],
    }
    status_ = {"observedGeneration": 1, "conditions": reported, "replicas": 0}
    api.put(WIDGETS, widget(412, metadata=stuck, status=status_))
    api.put(
        EVENTS,
        *(
            {
                "metadata": {"resourceVersion": str(version)},
                "type": "Warning",
                "reason": f"Failed{version}",
                "message": "quota",
            }
            for version in (10, 9, 8, 7, 6, 100)
        ),
    )

    lines = timeout_text(api, "condition=Ready", Controller(), Controller(name="other"))

    assert lines == [
        "Widget default/w1: Ready=True not reached within T s",
        '  because      Ready=False, for generation 1 of 2, reason Quota: no "cpu"',
        (
            "  last seen    resourceVersion 412, generation 2, observedGeneration 1 "
            "(the controller has not seen the latest spec)"
        ),
        "  deleting     since 2026-01-01T00:00:00Z, finalizers left: a.io/x, b.io/y",
        "  conditions   Ready=False  reason=Quota  message='no \"cpu\"'",
        "  conditions   Synced=True",
        "  status       {'replicas': 0}",
        "  events       Warning  Failed7  quota",
        "  events       Warning  Failed8  quota",
        "  events       Warning  Failed9  quota",
        "  events       Warning  Failed10  quota",
        "  events       Warning  Failed100  quota",
        "  controller   mine: running",
        "  controller   other: running",
    ]
    (asked,) = api.asked(EVENTS)
    assert asked.query["fieldSelector"] == (
        "involvedObject.kind=Widget,involvedObject.name=w1"
    )


def test_timeout_says_that_no_controller_was_started(api: FakeAPI) -> None:
    """The usual slip: the test did not ask for the fixture."""
    api.put(WIDGETS, widget(5))

    with pytest.raises(WaitTimeoutError) as caught:
        wait_for(api, lambda _: False, timeout=0)()

    assert str(caught.value).splitlines()[-1] == NO_CONTROLLER


def test_timeout_says_that_nothing_wrote_the_status(api: FakeAPI) -> None:
    """The controller did not even look at the object."""
    api.put(WIDGETS, widget(5))

    assert timeout_text(api, lambda _: False)[1:] == [
        "  last seen    resourceVersion 5",
        "  status       empty: nothing has written to it yet",
    ]


def test_timeout_expects_no_status_of_what_has_none(api: FakeAPI) -> None:
    """A ConfigMap has no status, and no spec either."""
    obj = widget(5)
    del obj["spec"]
    api.put(WIDGETS, obj)

    assert timeout_text(api, lambda _: False)[1:] == [
        "  last seen    resourceVersion 5"
    ]


def test_timeout_says_that_the_object_was_never_there(api: FakeAPI) -> None:
    """A typo in the name, or a controller that did not create it."""
    api.put(WIDGETS)

    assert timeout_text(api, "create") == [
        "Widget default/w1: exists not reached within T s",
        "  last seen    no such object, from the first look on",
        "  instead      there is no Widget at all",
    ]


def test_timeout_says_that_the_object_was_deleted(api: FakeAPI) -> None:
    """Something took it away while the test waited."""
    api.put(WIDGETS, widget(5))
    waiting = Waiting(wait_for(api, lambda _: False, timeout=0.3, unless=None))
    api.next_watch().send("DELETED", widget(6))

    with pytest.raises(WaitTimeoutError) as caught:
        waiting.result()

    lines = lines_of(caught.value)
    assert lines[1] == "  last seen    no such object; it was deleted meanwhile"
    assert re.fullmatch(r"  changes      \+0\.\d\d s  deleted", lines[-1])
    assert caught.value.last is None


def test_timeout_of_a_cluster_scoped_object_names_no_namespace(api: FakeAPI) -> None:
    """Events about it are in the namespace default nevertheless."""
    api.put("/api/v1/namespaces")
    told = {"metadata": {"resourceVersion": "3"}, "type": "Normal", "reason": "Made"}
    api.put(EVENTS, {**told, "message": "it"})

    first, *_, last = timeout_text(api, "create", kind="namespaces")

    assert first == "Namespace w1: exists not reached within T s"
    assert last == "  events       Normal  Made  it"


def test_timeout_tells_of_an_api_server_that_is_gone(
    api: FakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That nothing was seen is not the object's fault."""
    wait = wait_for(api, "create", timeout=0.05)
    api.answers[WIDGETS] = status(503, "ServiceUnavailable", "no leader")
    api.answers[EVENTS] = (0, None)

    with pytest.raises(WaitTimeoutError) as caught:
        wait()

    assert lines_of(caught.value)[1:] == [
        f"  API server   GET {WIDGETS}: 503 ServiceUnavailable: no leader",
        "  last seen    never: the API server refused",
        "  instead      there is no Widget at all",
    ]


def test_timeout_tells_of_an_api_server_that_hangs(
    api: FakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even the first look has its limit."""
    monkeypatch.setattr(observation, "_FIRST_LOOK", 0.05)
    wait = wait_for(api, "create", timeout=0)
    go_on = threading.Event()
    api.answers[WIDGETS] = lambda _: (0, go_on.wait(2))

    with pytest.raises(WaitTimeoutError) as caught:
        wait()

    go_on.set()
    server, seen = lines_of(caught.value)[1:]
    assert "no answer from the API server" in server
    assert seen == "  last seen    never: the API server did not answer"


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        ("Ready", "{'status': 'Ready'}"),
        ({"conditions": ["Ready"]}, "{'conditions': ['Ready']}"),
        ({"conditions": {"Ready": True}}, "{'conditions': {'Ready': True}}"),
        ({"conditions": None, "a": 1}, "{'a': 1}"),
        ({"observedGeneration": "9", "a": 1}, "{'a': 1}"),
    ],
)
def test_timeout_is_told_whatever_the_status_looks_like(
    api: FakeAPI, odd: Any, expected: str
) -> None:
    """A CRD may give its status any shape."""
    api.put(WIDGETS, widget(5, status=odd, metadata={"generation": 1}))

    assert timeout_text(api, lambda _: False)[-1] == f"  status       {expected}"


def test_timeout_cuts_a_huge_status(api: FakeAPI) -> None:
    """The line stays one that can be read."""
    api.put(WIDGETS, widget(5, status={"log": "x" * 10_000}))

    line = timeout_text(api, lambda _: False)[-1]

    assert len(line) < 330
    assert line.endswith("…")
