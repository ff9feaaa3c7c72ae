"""What happened in a test, merged in order of time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from pytest_kube.audit import Write
from pytest_kube.diagnostics.timeline import Line, merged
from pytest_kube.history import Version
from pytest_kube.objects import Object
from pytest_kube.requests_log import Request, WebhookCall
from pytest_kube.steps import Step

START = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return a moment of the test."""
    return START + timedelta(seconds=seconds)


def obj(kind: str = "Widget", **more: Any) -> Object:
    """Return an object."""
    metadata = {"name": "w", "namespace": "team", "generation": 1}
    return Object(
        {"apiVersion": "example.com/v1", "kind": kind, "metadata": metadata, **more}
    )


def version(
    seconds: float, before: Object | None, after: Object | None, user: str = "me"
) -> Version:
    """Return a change that somebody made."""
    write = Write(user, "patch", at(seconds))
    return Version(after, before, int(seconds * 10), "", lambda *_: write)


def request(seconds: float, verb: str, code: int, **more: Any) -> Request:
    """Return a request about the widget."""
    return Request(
        **{
            "user": "controller-1",
            "verb": verb,
            "group": "example.com",
            "resource": "widgets",
            "namespace": "team",
            "name": "w",
            "code": code,
            "message": "",
            "time": at(seconds),
            **more,
        }
    )


def test_everything_is_in_order_of_time() -> None:
    """Changes, refusals, lines and events, each with who and what."""
    small, big = obj(spec={"size": 1}), obj(spec={"size": 2})
    big["metadata"]["generation"] = 2
    event = {
        "metadata": {"name": "e"},
        "type": "Warning",
        "reason": "Broken",
        "message": "it broke",
        "involvedObject": {"kind": "Widget", "namespace": "team", "name": "w"},
        "lastTimestamp": "2026-11-23T13:00:04Z",
        "source": {"component": "operator"},
    }

    entries = merged(
        [
            version(1, None, small),
            version(3, small, big, "controller-1"),
            version(6, big, None),
        ],
        [request(2, "update", 409, message="try again")],
        [Line(at(5), "kopf:operator.py", "giving up")],
        [event],
    )

    assert [str(entry) for entry in entries] == [
        "13:00:01.000 Widget team/w created (me)",
        "13:00:02.000 update widgets team/w: 409 try again (controller-1)",
        "13:00:03.000 Widget team/w changed spec.size: 1 -> 2 and 1 more "
        "(controller-1)",
        "13:00:04.000 Widget team/w Warning  Broken  it broke (operator)",
        "13:00:05.000 giving up (kopf:operator.py)",
        "13:00:06.000 Widget team/w deleted (me)",
    ]
    assert entries[2].details == ("spec.size: 1 -> 2", "metadata.generation: 1 -> 2")
    assert json.loads(entries[2].as_json()) == {
        "time": "2026-11-23T13:00:03+00:00",
        "kind": "change",
        "who": "controller-1",
        "about": "Widget team/w",
        "text": "changed spec.size: 1 -> 2 and 1 more",
        "details": ["spec.size: 1 -> 2", "metadata.generation: 1 -> 2"],
        "revision": 30,
    }


def test_noise_is_left_out() -> None:
    """Leases, looks for what is not there, writes that changed."""
    same = obj()
    entries = merged(
        [
            version(1, None, obj("Lease")),
            version(3, same, same),
        ],
        [
            request(4, "update", 409, resource="leases"),
            request(5, "get", 404),
            request(6, "patch", 200, version=("u", "7")),
            request(7, "list", 200),
        ],
        [],
        [],
    )

    assert entries == []


def test_event_that_was_recorded_stands_where_it_was_written() -> None:
    """By itself it knows the second only, and would stand before what it tells of."""
    event = obj("Event", type="Warning", reason="Broken", message="it broke")
    event["involvedObject"] = {"kind": "Widget", "namespace": "team", "name": "w"}
    event["lastTimestamp"] = at(0).isoformat()
    event["metadata"]["uid"] = "u"

    entries = merged(
        [version(1.2, None, obj()), version(1.3, None, event)], [], [], [event]
    )

    assert list(map(str, entries)) == [
        "13:00:01.200 Widget team/w created (me)",
        "13:00:01.300 Widget team/w Warning  Broken  it broke",
    ]


def test_webhook_is_told_with_what_it_changed() -> None:
    """For each request that it was asked about."""
    call = WebhookCall("default.widgets", "changed the object", ("add /spec/size",))

    (entry,) = merged([], [request(1, "create", 201, webhooks=(call,))], [], [])

    assert str(entry) == (
        "13:00:01.000 changed the object (add /spec/size): create widgets team/w of "
        "controller-1 (default.widgets)"
    )
    assert entry.details == ("add /spec/size",)


def test_steps_stand_where_they_began() -> None:
    """With how long they took, and what they raised."""
    entries = merged(
        [version(2, None, obj())],
        [],
        [],
        [],
        [
            Step(1, "kube.apply(<Widget w>)", at(1), at(2.5)),
            Step(2, "kube.get('widget/w')", at(3), at(3.25), "NotFoundError: gone"),
            Step(3, "kube.settle()", at(4)),
        ],
    )

    assert list(map(str, entries)) == [
        "13:00:01.000 1: kube.apply(<Widget w>) (1.500 s) (the test)",
        "13:00:02.000 Widget team/w created (me)",
        "13:00:03.000 2: kube.get('widget/w') (0.250 s, NotFoundError: gone) "
        "(the test)",
        "13:00:04.000 3: kube.settle() (the test)",
    ]


def test_write_without_effect_is_told() -> None:
    """It was answered with the version that was there."""
    entries = merged(
        [],
        [request(i, "patch", 200, version=("u", "7")) for i in (1, 2)],
        [],
        [],
    )

    assert [entry.text for entry in entries] == [
        "patch widgets team/w: 200 (changed nothing)"
    ]


def test_values_of_secrets_are_not_in_it() -> None:
    """Only which of them changed."""
    before, after = (
        obj("Secret", data={"key": "b2xk"}),
        obj("Secret", data={"key": "bmV3"}),
    )

    (entry,) = merged([version(1, before, after)], [], [], [])

    assert entry.text == "changed data: changed (values are not shown)"
    assert "bmV3" not in entry.as_json()
    assert "b2xk" not in entry.as_json()
