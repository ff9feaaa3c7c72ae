"""Logs of containers: which are asked for, in which order, what stands for others."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.diagnostics.pod_logs import ContainerLog, pod_logs

from .fake_api import FakeAPI, Request, fake_api, status

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNNING: dict[str, Any] = {"state": {"running": {}}}
DONE: dict[str, Any] = {"state": {"terminated": {"exitCode": 0}}}
WAITING: dict[str, Any] = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
PATH = "/api/v1/namespaces/test/pods/web/log"


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with fake_api() as api:
        yield api


def pod(**sections: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a pod with containers by section and name, and their statuses."""
    spec = {
        section: [{"name": name} for name in containers]
        for section, containers in sections.items()
    }
    statuses = {
        f"{section.removesuffix('s')}Statuses": [
            {"name": name, "restartCount": 0, **status}
            for name, status in containers.items()
        ]
        for section, containers in sections.items()
    }
    metadata = {"namespace": "test", "name": "web"}
    return {"metadata": metadata, "spec": spec, "status": statuses}


def served(request: Request) -> tuple[int, bytes]:
    previous = " before" if request.query.get("previous") else ""
    return 200, f"{request.query['container']}{previous}".encode()


def soon() -> float:
    return time.monotonic() + 5


def test_previous_life_comes_first_and_every_section_is_there(api: FakeAPI) -> None:
    """Init containers, containers and ephemeral ones, each before it restarted."""
    api.answers[PATH] = served
    web = pod(
        initContainers={"init": DONE},
        containers={"c": {**RUNNING, "restartCount": 2}},
        ephemeralContainers={"debug": RUNNING},
    )

    found = list(pod_logs(api.client, [web], deadline=soon()))

    assert found == [
        ContainerLog("test/web", "init", previous=False, text="init"),
        ContainerLog("test/web", "c", previous=True, text="c before"),
        ContainerLog("test/web", "c", previous=False, text="c"),
        ContainerLog("test/web", "debug", previous=False, text="debug"),
    ]


def test_what_never_started_is_not_asked_for(api: FakeAPI) -> None:
    """It has no log; one that waits to be started again has that of its last life."""
    api.answers[PATH] = served
    web = pod(containers={"a": WAITING, "b": {**WAITING, "restartCount": 1}})
    unscheduled = {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c"}]}}

    found = list(pod_logs(api.client, [web, unscheduled], deadline=soon()))

    assert [(log.container, log.previous) for log in found] == [("b", True)]


def test_logs_are_limited_and_have_times(api: FakeAPI) -> None:
    """The last lines, each with its time, since the test began."""
    api.answers[PATH] = served
    since = datetime(2026, 11, 23, 10, 0, 0, 500, tzinfo=UTC)
    web = pod(containers={"c": RUNNING})

    list(pod_logs(api.client, [web], deadline=soon(), since=since, lines=7))

    (request,) = api.asked(PATH)
    assert request.query == {
        "container": "c",
        "sinceTime": "2026-11-23T10:00:00Z",
        "tailLines": "7",
        "timestamps": "true",
    }


def test_error_stands_in_place_of_the_text(api: FakeAPI) -> None:
    """Whatever goes wrong with one, the others are had."""
    web = pod(containers={"c": RUNNING, "d": RUNNING, "e": RUNNING})

    def refused(request: Request) -> tuple[int, Any]:
        container = request.query["container"]
        if container == "c":
            return status(500, "InternalError", "kubelet does not answer")
        return (0, None) if container == "d" else (200, b"here")

    api.answers[PATH] = refused

    one, two, three = pod_logs(api.client, [web], deadline=soon())

    assert one.text.startswith("(not to be had: ")
    assert "kubelet does not answer" in one.text
    assert two.text.startswith("(not to be had: ")
    assert three.text == "here"


def test_after_the_deadline_nothing_is_asked(api: FakeAPI) -> None:
    """It says so, for an empty log would look like a silent program."""
    web = pod(containers={"c": RUNNING})

    (log,) = pod_logs(api.client, [web], deadline=time.monotonic())

    assert log.text == "(not fetched: it took too long to get the logs before it)"
    assert api.requests == []
