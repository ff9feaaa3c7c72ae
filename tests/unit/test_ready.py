"""When a program is ready: each way to tell, and what it says until then."""

from __future__ import annotations

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.client import Client
from pytest_kube.controllers import ready
from pytest_kube.controllers.runner import Surroundings
from pytest_kube.errors import ControllerError

from .fake_api import FakeAPI, fake_api
from .test_requests_log import event

if TYPE_CHECKING:
    from collections.abc import Iterator

LEASES = "/apis/coordination.k8s.io/v1/namespaces"


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    """With an audit log."""
    return Surroundings(
        user="me",
        kubeconfig=tmp_path / "kubeconfig",
        namespace="team",
        guardian=SimpleNamespace(),  # type: ignore[arg-type]
        folder=tmp_path,
        audit=tmp_path / "audit.log",
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "output.log"
    path.write_text(
        "2026-11-23T19:08:17.123456Z starting\n"
        "2026-11-23T19:08:17.234567Z serving on 8080\n"
    )
    return path


def test_log_is_searched_line_by_line(surroundings: Surroundings, log: Path) -> None:
    """All of it, whenever the line came; its time is no part of it."""
    assert ready.check("log:^serving on \\d+$", surroundings).passes(log)
    assert not ready.check("log:2026", surroundings).passes(log)
    never = ready.check("log:ready", surroundings)
    assert not never.passes(log)
    assert never.missing() == "no line of its output matches 'ready'"


@pytest.fixture
def answers() -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    """A health endpoint, and what it answers."""
    given: list[tuple[int, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, text = given.pop(0)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/readyz", given
        server.shutdown()
        thread.join()


def test_health_endpoint_has_to_answer_that_it_is_well(
    surroundings: Surroundings, log: Path, answers: tuple[str, list[tuple[int, bytes]]]
) -> None:
    """What it answers otherwise is told."""
    url, given = answers
    given += [(500, b"informers: not synced"), (200, b"ok")]
    check = ready.check(url, surroundings)

    assert not check.passes(log)
    assert check.missing() == f"{url}: it answered 500: informers: not synced"
    assert check.passes(log)


def test_health_endpoint_where_nobody_listens(
    surroundings: Surroundings, log: Path
) -> None:
    """The reason of the system is told."""
    check = ready.check("http://127.0.0.1:1/readyz", surroundings)

    assert not check.passes(log)
    assert "Connection refused" in check.missing()


def test_lease_has_to_be_held(
    surroundings: Surroundings, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the test's namespace, or in the one that is named."""
    with fake_api() as api:
        monkeypatch.setattr(Client, "from_kubeconfig", lambda _: api.client)
        own, named = (
            ready.check(text, surroundings)
            for text in ("lease:manager", "lease:system/manager")
        )
        assert not own.passes(log)
        assert own.missing().startswith("Lease team/manager: GET /apis/coordination.")
        held(api, "team", None)
        held(api, "system", "manager-0")
        assert not own.passes(log)
        assert own.missing() == "Lease team/manager: nobody holds it"
        assert named.passes(log)


def held(api: FakeAPI, namespace: str, holder: str | None) -> None:
    lease = {"metadata": {"name": "manager"}, "spec": {"holderIdentity": holder}}
    api.answers[f"{LEASES}/{namespace}/leases/manager"] = (200, lease)


def test_what_is_listed_has_to_be_watched(
    surroundings: Surroundings, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing more may come, for a moment."""
    monkeypatch.setattr(ready, "QUIET", 0.0)
    audit = surroundings.audit
    assert audit is not None
    audit.write_text(event("me", "watch", stage="ResponseStarted"))  # an earlier run
    check = ready.check("watches", surroundings)

    def ask(*lines: str) -> bool:
        with audit.open("a") as file:
            file.writelines(lines)
        return check.passes(log)

    pods: Any = {"objectRef": {"resource": "pods", "apiGroup": ""}}
    assert not ask()
    assert check.missing().startswith(
        "it has opened no watch, and asked the API server for no other things; "
    )
    assert not ask(event("me", "list"), event("me", "list", **pods))
    assert not ask(event("other", "watch", stage="ResponseStarted"))
    assert not ask(event("me", "watch", stage="ResponseStarted"))
    assert check.missing() == "it has listed pods, and does not watch it"
    refused = {"message": "forbidden: it may not"}
    assert not ask(event("me", "watch", code=403, status=refused, **pods))
    assert check.missing().splitlines() == [
        "it has listed pods, and does not watch it",
        "  refused: watch pods default: 403 forbidden: it may not",
    ]
    assert ask(event("me", "watch", stage="ResponseStarted", **pods))


def test_watches_that_come_one_after_another_are_waited_for(
    surroundings: Surroundings, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until none has come for a moment."""
    monkeypatch.setattr(ready, "QUIET", 60.0)
    assert surroundings.audit is not None
    check = ready.check("watches", surroundings)

    surroundings.audit.write_text(event("me", "watch", stage="ResponseStarted"))

    assert not check.passes(log)
    assert check.missing() == "it goes on opening watches"


def test_watches_cannot_be_seen_without_an_audit_log(
    surroundings: Surroundings,
) -> None:
    """The text says what can be used instead."""
    with pytest.raises(ControllerError, match="elsewhere use log:REGEX, http://"):
        ready.check("watches", replace(surroundings, audit=None))


@pytest.mark.parametrize("text", ["", "soon", "log:", "lease:", "http:x", "watches:1"])
def test_other_words_are_answered_with_the_right_ones(
    surroundings: Surroundings, text: str
) -> None:
    """All forms are listed."""
    with pytest.raises(ControllerError) as error:
        ready.check(text, surroundings)

    first, *forms = str(error.value).splitlines()
    assert first == (
        f"ready={text!r} says not when a controller is ready. It is one of:"
    )
    assert len(forms) == 5


def test_pattern_that_is_none_is_told(surroundings: Surroundings) -> None:
    """With what is wrong with it."""
    with pytest.raises(
        ControllerError, match=r"ready='log:\(': no regular expression:"
    ):
        ready.check("log:(", surroundings)
