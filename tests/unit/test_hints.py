"""Known causes of failures: what is said about each, and when nothing is."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_kube.diagnostics import hints
from pytest_kube.requests_log import Request

CONTROLLER: Any = SimpleNamespace(name="kopf:operator.py", user="controller-1")


def find(
    *objects: dict[str, Any],
    requests: list[Request] | None = None,
    controllers: list[Any] | None = None,
    failure: str = "",
    provider: str = "kwok",
) -> list[str]:
    """Look for hints."""
    return hints.find(
        objects,
        requests or [],
        controllers or [],
        failure=failure,
        provider=provider,
    )


def widget(**more: Any) -> dict[str, Any]:
    """Return a custom resource; what is given goes over its parts."""
    usual: dict[str, Any] = {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w", "namespace": "team", "generation": 2},
        "status": {"observedGeneration": 2},
    }
    more["metadata"] = {**usual["metadata"], **more.get("metadata", {})}
    return {**usual, **more}


def request(verb: str, code: int, message: str = "", **more: Any) -> Request:
    """Return a request of the controller."""
    return Request(
        **{
            "user": "controller-1",
            "verb": verb,
            "group": "example.com",
            "resource": "widgets/status",
            "namespace": "team",
            "name": "w",
            "code": code,
            "message": message,
            "time": datetime(2026, 11, 23, tzinfo=UTC),
            **more,
        }
    )


def test_missing_right_is_told_as_a_rule() -> None:
    """For each user that lacks one."""
    text = 'User "controller-1" cannot list resource "pods" in API group ""'

    assert find(requests=[request("list", 403, text)]) == [
        'controller-1 needs a role with\n- apiGroups: [""]\n  resources: [pods]\n'
        "  verbs: [list]"
    ]


def test_webhook_that_cannot_be_reached_is_told() -> None:
    """Once, by its name, with the last reason."""
    text = (
        'Internal error occurred: failed calling webhook "check.example.com": failed to '
        'call webhook: Post "https://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: '
        "connection refused"
    )

    assert find(requests=[request("create", 500, text)] * 3) == [
        "webhook check.example.com could not be reached (connection refused): does its "
        "server run, and does the URL or Service of its configuration lead to it?"
    ]


def test_conflicts_again_and_again_are_told() -> None:
    """One now and then is how it is meant to be."""
    conflict = request("update", 409)

    assert find(requests=[conflict] * (hints.CONFLICTS - 1)) == []
    assert find(requests=[conflict] * 7) == [
        "controller-1 has written an outdated widgets team/w 7 times: read it anew "
        "before each update, or patch only the fields it owns"
    ]


def test_crd_that_is_not_served_is_told() -> None:
    """With what the API server says."""
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "status": {
            "conditions": [
                {"type": "NamesAccepted", "status": "False", "message": "taken"},
                {"type": "Established", "status": "True"},
            ]
        },
    }

    assert find(crd) == [
        "CRD widgets.example.com is not served: NamesAccepted is False: taken"
    ]


def test_finalizer_that_nobody_takes_away_is_told() -> None:
    """Of an object that is being deleted; others may have them."""
    waiting = {"finalizers": ["example.com/a", "example.com/b"]}

    assert find(widget(metadata=waiting)) == []
    deleted = {**waiting, "deletionTimestamp": "2026-11-23T13:00:00Z"}
    assert find(widget(metadata=deleted)) == [
        "Widget team/w is being deleted, and waits for who takes away its finalizers: "
        "example.com/a, example.com/b"
    ]


def test_controller_that_has_written_nothing_is_told() -> None:
    """About what it may be expected to look after; Leases are no work."""
    new = widget(status={})
    idle = [request("list", 200), request("update", 200, resource="leases")]

    assert find(new, requests=idle, controllers=[CONTROLLER]) == [
        "nothing was written by kopf:operator.py, about Widget team/w or anything "
        "else: does it watch that kind, in that namespace?"
    ]
    assert find(new, requests=idle) == []
    assert find(widget(), requests=idle, controllers=[CONTROLLER]) == []
    busy = [*idle, request("patch", 200)]
    assert find(new, requests=busy, controllers=[CONTROLLER]) == []


def test_status_of_an_older_generation_is_told() -> None:
    """The controller is behind, or forgot to say that it is not."""
    assert find(widget(status={"observedGeneration": 1})) == [
        "Widget team/w has generation 2, its status is of 1: its controller has not "
        "seen the last change of its spec, or does not say so"
    ]


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (
            "kwok",
            [
                "kwok pulls no images and runs no containers: what depends on that "
                "needs --kube=kind"
            ],
        ),
        ("kind", []),
    ],
)
def test_image_that_nobody_pulls_is_told(provider: str, expected: list[str]) -> None:
    """On a cluster without containers."""
    failure = "Pod team/p: reason ImagePullBackOff not reached within 10.0 s"

    assert find(failure=failure, provider=provider) == expected


def test_odd_objects_are_no_second_failure() -> None:
    """Nobody knows what custom resources look like."""
    odd: dict[str, Any] = {"metadata": {"finalizers": 3, "deletionTimestamp": "x"}}

    (text,) = find(odd)

    assert text == "a hint could not be made: TypeError: can only join an iterable"
