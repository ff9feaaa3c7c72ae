"""What a controller does too often: hot loops, refusals, writes of what is there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.controllers import hygiene
from pytest_kube.controllers.hygiene import HOT, IDLE_WRITES, RESTLESS
from pytest_kube.requests_log import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

START = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)


def ask(milliseconds: float, verb: str = "patch", **more: Any) -> Request:
    """Return a request about a widget."""
    usual: dict[str, Any] = {
        "user": "me",
        "verb": verb,
        "group": "example.com",
        "resource": "widgets",
        "namespace": "default",
        "name": "w",
        "code": 200,
        "message": "",
        "time": START + timedelta(milliseconds=milliseconds),
    }
    return Request(**usual | more)


def findings(everything: Sequence[Request]) -> list[str]:
    """Find what is wrong with what I have asked for."""
    return hygiene.findings(everything, "me", "")


def test_same_request_again_and_again_is_a_hot_loop() -> None:
    """Told once, with the most that came within a second."""
    asked = [ask(i * 10) for i in range(50)] + [ask(60_000)]

    assert findings(asked) == [
        "is in a hot loop: patch widgets default/w, 50 times within a second"
    ]


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param([ask(i * 60, "get") for i in range(100)], id="sixteen-a-second"),
        pytest.param([ask(0) for _ in range(HOT - 1)], id="one-less"),
        pytest.param([ask(0, name=str(i)) for i in range(500)], id="many-objects"),
        pytest.param([ask(0, "create", name="") for _ in range(500)], id="creates"),
        pytest.param([ask(0, "watch") for _ in range(500)], id="watches"),
        pytest.param([ask(0, resource="leases") for _ in range(99)], id="leases"),
    ],
)
def test_much_work_is_no_loop(asked: list[Request]) -> None:
    """A controller of many objects asks for much."""
    assert findings(asked) == []


def test_refusals_that_are_repeated_are_told() -> None:
    """With what the server said; a role that lacks something is told as a rule."""
    failed = [ask(i, code=422, message="size is too large") for i in range(HOT)]
    text = 'User "me" cannot list resource "pods" in API group ""'
    lacking = ask(0, "list", group="", resource="pods", code=403, message=text)

    assert findings([lacking, *failed]) == [
        "was refused what it asked for; what its roles lack:\n"
        '- apiGroups: [""]\n'
        "  resources: [pods]\n"
        "  verbs: [list]",
        f"was refused {HOT} times within a second: patch widgets default/w: 422 size "
        "is too large",
    ]


def test_writes_that_change_nothing_are_told() -> None:
    """The answer has a version that was there before."""
    changing = [
        asked
        for i in range(100)
        for asked in (ask(i * 100, user="you"), ask(i * 100, version=("u", str(i))))
    ]
    same = [ask(20_000 + i * 100, version=("u", "99")) for i in range(IDLE_WRITES)]

    assert findings(changing) == []
    assert findings(changing + same[1:]) == []
    assert findings(changing + same) == [
        f"wrote what was there already: patch widgets default/w, {IDLE_WRITES} times"
    ]


def test_writes_while_nobody_else_writes_are_told() -> None:
    """A timer that keeps a status in motion, say; not a hot loop, which is told."""
    usual = {"resource": "widgets/status", "verb": "patch"}
    own = [ask(i * 150, version=("u", str(i)), **usual) for i in range(RESTLESS)]
    beats = [ask(i * 150, "update", user="n", resource="leases") for i in range(20)]

    assert findings([*beats, *own]) == [
        f"went on writing while nobody else did: patch widgets/status default/w, "
        f"{RESTLESS} times in 1.4 s"
    ]


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(
            [
                request
                for i in range(40)
                for request in (ask(i * 150), ask(i * 150, "create", user="you"))
            ],
            id="others-write",
        ),
        pytest.param([ask(i * 150) for i in range(RESTLESS - 1)], id="one-less"),
        pytest.param([ask(i * 50) for i in range(RESTLESS)], id="soon-over"),
        pytest.param(
            [ask(i * 150, name=str(i)) for i in range(100)], id="many-objects"
        ),
        pytest.param([ask(i * 150, "get") for i in range(100)], id="reads"),
        pytest.param([ask(i * 150, code=409) for i in range(100)], id="refused"),
    ],
)
def test_work_that_has_a_reason_or_an_end_is_not_told(asked: list[Request]) -> None:
    """Somebody changes what it works for, or it is done after a while."""
    assert findings(asked) == []


def test_history_is_only_read_where_something_may_be_left() -> None:
    """The controller created something, and something custom was deleted."""
    created = ask(0, "create", code=201, resource="configmaps", group="")
    deleted = ask(5, "delete", user="you")

    assert hygiene.may_leave_orphans([created, deleted], "me")
    assert not hygiene.may_leave_orphans([created], "me")
    assert not hygiene.may_leave_orphans([deleted], "me")
    assert not hygiene.may_leave_orphans([created, deleted], "you")
    assert not hygiene.may_leave_orphans(
        [created, ask(5, "delete", user="you", group="", resource="pods")], "me"
    )
