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


@pytest.fixture
def leases(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAPI]:
    """An API server with Leases."""
    with fake_api() as api:
        monkeypatch.setattr(Client, "from_kubeconfig", lambda _: api.client)
        yield api


def held(api: FakeAPI, holder: str | None, *, version: int, where: str) -> None:
    """Let somebody hold the Lease, who has written this version of it."""
    lease = {
        "metadata": {"uid": where, "resourceVersion": str(version)},
        "spec": {"holderIdentity": holder, "acquireTime": "2026-11-23T13:00:00Z"},
    }
    api.answers[f"{LEASES}/{where}/leases/manager"] = (200, lease)


def wrote(version: int, jti: str) -> str:
    """Return the line of a write to the Lease of the namespace team."""
    return event(
        "me",
        "update",
        credential=f"JTI={jti}",
        objectRef={"resource": "leases", "namespace": "team"},
        responseObject={"metadata": {"uid": "team", "resourceVersion": str(version)}},
    )


def test_lease_has_to_be_held_by_the_program_itself(
    surroundings: Surroundings, log: Path, leases: FakeAPI
) -> None:
    """Not by a replica with the same user name, nor by itself before it was started."""
    audit = surroundings.audit
    assert audit is not None
    audit.write_text(wrote(1, "mine"))
    held(leases, "manager-0", version=1, where="team")
    mine = replace(surroundings, credential="JTI=mine")
    check = ready.check("lease:manager", mine)

    def passes(*lines: str) -> bool:
        with audit.open("a") as file:
            file.writelines(lines)
        return check.passes(log)

    assert not passes()
    held(leases, "manager-1", version=2, where="team")
    assert not passes(wrote(2, "other"))
    assert check.missing() == (
        "Lease team/manager: held by 'manager-1' since 2026-11-23T13:00:00Z, which is "
        "not this program"
    )
    held(leases, "", version=3, where="team")
    assert not passes(wrote(3, "mine"))
    assert check.missing() == "Lease team/manager: nobody holds it"
    held(leases, "manager-0", version=4, where="team")
    assert passes(wrote(4, "mine"))


@pytest.mark.parametrize(
    ("ref", "where", "audited"),
    [("manager", "team", False), ("kube-system/manager", "kube-system", True)],
)
def test_lease_needs_another_holder_where_no_log_tells(
    surroundings: Surroundings,
    log: Path,
    leases: FakeAPI,
    ref: str,
    where: str,
    *,
    audited: bool,
) -> None:
    """Without an audit log, and in namespaces that it leaves out."""
    if not audited:
        surroundings = replace(surroundings, audit=None)
    free = ready.check(f"lease:{ref}", surroundings)
    assert not free.passes(log)
    assert free.missing().startswith(f"Lease {where}/manager: GET /apis/coordination.")
    held(leases, "manager-0", version=1, where=where)
    taken = ready.check(f"lease:{ref}", surroundings)

    assert free.passes(log)
    assert not taken.passes(log)
    assert taken.missing() == (
        f"Lease {where}/manager: held by 'manager-0' since 2026-11-23T13:00:00Z, as "
        "when the program was started; no audit log tells more"
    )
    held(leases, None, version=2, where=where)
    assert not taken.passes(log)
    held(leases, "manager-1", version=3, where=where)
    assert taken.passes(log)


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
