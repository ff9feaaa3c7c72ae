"""What somebody asked, from the lines of an audit log."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pytest_kube.requests_log import Follower, requests

CREDENTIAL = "authentication.kubernetes.io/credential-id"
START = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)


def at(milliseconds: float) -> datetime:
    return START + timedelta(milliseconds=milliseconds)


def event(user: str, verb: str, done: float = 0, **more: Any) -> str:
    """Return a line about a widget, answered so many milliseconds after the start."""
    about = {"resource": "widgets", "apiGroup": "example.com", "namespace": "default"}
    code = more.pop("code", 200)
    credentials = [more.pop("credential")] if "credential" in more else []
    line = {
        "stage": "ResponseComplete",
        "requestURI": "/apis/example.com/v1/namespaces/default/widgets",
        "verb": verb,
        "user": {"username": user, "extra": {CREDENTIAL: credentials}},
        "objectRef": about | more.pop("objectRef", {}),
        "responseStatus": {"code": code, **more.pop("status", {})},
        "stageTimestamp": at(done).isoformat().replace("+00:00", "Z"),
        **more,
    }
    return json.dumps(line) + "\n"


def test_requests_are_those_of_the_users_since_then(tmp_path: Path) -> None:
    """Newest first; whoever was impersonated asked, not the one who did it."""
    path = tmp_path / "audit.log"
    forbidden = {"message": "forbidden: it may not"}
    lines = [
        event("me", "get", 1),
        event("me", "list", 2000, objectRef={"subresource": "status", "name": "w"}),
        event("other", "list", 2001),
        event("admin", "patch", 2002, impersonatedUser={"username": "me"}),
        event("me", "create", 2003, code=403, status=forbidden),
        event("me", "get", 2004, objectRef={"resource": "", "apiGroup": ""}),
    ]
    path.write_text("".join(lines) + '{"kind": "Event", "half')

    found = requests(path, at(1000), {"me"})

    assert [str(request) for request in found] == [
        "get /apis/example.com/v1/namespaces/default/widgets default: 200",
        "create widgets default: 403 forbidden: it may not",
        "patch widgets default: 200",
        "list widgets/status default/w: 200",
    ]
    assert {(r.user, r.group) for r in found[1:]} == {("me", "example.com")}


def test_watch_counts_when_it_begins(tmp_path: Path) -> None:
    """Not again when it ends; one that is refused never began."""
    path = tmp_path / "audit.log"
    lines = [
        event("me", "watch", 1, stage="ResponseStarted"),
        event("me", "watch", 2),
        event("me", "watch", 3, code=403),
    ]
    path.write_text("".join(lines))

    assert [r.code for r in requests(path, at(0), {"me"})] == [403, 200]


def test_requests_of_one_user_are_told_apart_by_credentials(tmp_path: Path) -> None:
    """What has none may be of any; impersonating somebody does not give theirs."""
    path = tmp_path / "audit.log"
    path.touch()
    follower = Follower(path, "me", "JTI=1")
    lines = [
        event("me", "get", 1, credential="JTI=1"),
        event("me", "list", 2, credential="JTI=2"),
        event("me", "patch", 3),
        event(
            "admin",
            "delete",
            4,
            credential="X509SHA256=3",
            impersonatedUser={"username": "me"},
        ),
    ]
    path.write_text("".join(lines))

    def verbs(credential: str) -> list[str]:
        return [r.verb for r in requests(path, at(0), {"me"}, credential)]

    assert verbs("JTI=1") == ["patch", "get"]
    assert verbs("JTI=2") == ["patch", "list"]
    assert verbs("") == ["delete", "patch", "list", "get"]
    assert [r.verb for r in follower.read()] == ["get", "patch"]


def test_no_log_tells_of_no_requests(tmp_path: Path) -> None:
    """A profile may write it elsewhere."""
    assert requests(tmp_path / "audit.log", at(0), {"me"}) == []
    assert list(Follower(tmp_path / "audit.log", "me").read()) == []


def test_follower_reads_what_comes_after_it(tmp_path: Path) -> None:
    """Each line once, when it is whole, also in a new file."""
    path = tmp_path / "audit.log"
    path.write_text(event("me", "get"))
    follower = Follower(path, "me")

    def verbs() -> list[str]:
        return [request.verb for request in follower.read()]

    assert verbs() == []
    whole = event("me", "patch")
    with path.open("a") as file:
        file.write(event("me", "list") + event("other", "list") + whole[:50])
    assert verbs() == ["list"]
    with path.open("a") as file:
        file.write(whole[50:])
    assert verbs() == ["patch"]
    path.write_text(event("me", "watch", stage="ResponseStarted"))
    assert verbs() == ["watch"]
