"""What a run has made on somebody's cluster, and cannot remove."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube import belongings, crds
from pytest_kube.belongings import RUN, Belongings, Made
from pytest_kube.errors import ClusterError

from .fake_api import FakeAPI, fake_api, status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .fake_api import Request

NAMESPACE = Made("/api/v1/namespaces/test-a", "namespaces/test-a", "")
ROLE = Made("/apis/rbac/roles/r", "roles.rbac/r", "team")
CRD = f"{crds.PATH}/widgets.example.com"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAPI]:
    monkeypatch.setattr(belongings, "TIMEOUT", 0.0)
    with fake_api() as api:
        yield api


@pytest.fixture
def ours(api: FakeAPI) -> Belongings:
    return Belongings(api.client, {RUN: "1"})


def test_installed_things_are_removed_last_one_first(
    api: FakeAPI, ours: Belongings
) -> None:
    """What is gone already is no burden, nor is what was noted twice."""
    for made in (NAMESPACE, ROLE, NAMESPACE):
        ours.note(made)

    ours.remove()

    asked = [(r.method, r.path) for r in api.requests]
    assert asked == [("DELETE", ROLE.path), ("DELETE", NAMESPACE.path)]
    assert ours.left == {}


def test_what_may_not_be_removed_is_a_command(api: FakeAPI, ours: Belongings) -> None:
    """With the reason; nothing is raised."""
    api.answers[ROLE.path] = status(403, "Forbidden", "jane may not")
    ours.note(ROLE)

    ours.remove()

    assert ours.lines("kubectl --context=a") == [
        "  kubectl --context=a delete roles.rbac/r --namespace=team   "
        "# DELETE /apis/rbac/roles/r: 403 Forbidden: jane may not"
    ]


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        ({}, ""),
        (
            {
                "metadata": {"deletionTimestamp": "now"},
                "status": {
                    "conditions": [
                        {"status": "True", "message": "Some content remains"},
                        {"status": "False", "message": "All is well"},
                    ]
                },
            },
            ": Some content remains",
        ),
        ({"metadata": {"finalizers": ["a.com/x", "b"]}}, ": finalizers a.com/x, b"),
    ],
)
def test_what_does_not_go_is_told_with_the_reason(
    api: FakeAPI, ours: Belongings, obj: dict[str, Any], why: str
) -> None:
    """After half a minute, for all of them together."""
    api.answers[NAMESPACE.path] = (200, {"metadata": {}, **obj})
    ours.note_going(NAMESPACE)

    ours.remove()

    assert ours.left == {"delete namespaces/test-a": f"still there after 0 s{why}"}


def test_what_nobody_may_look_at_any_more_is_listed(
    api: FakeAPI, ours: Belongings
) -> None:
    """It may be there still."""
    api.answers[NAMESPACE.path] = status(401, "Unauthorized", "who?")
    ours.note_going(NAMESPACE)

    ours.remove()

    told = "GET /api/v1/namespaces/test-a: 401 Unauthorized: who?"
    assert ours.left == {"delete namespaces/test-a": told}


def test_replaced_crd_that_cannot_be_put_back_is_listed(
    api: FakeAPI, ours: Belongings
) -> None:
    """Somebody has to look at it."""
    api.answers[CRD] = status(403, "Forbidden", "jane may not")
    ours.note_replaced(CRD, {"spec": {}})

    ours.remove()

    assert ours.left == {
        "edit crd/widgets.example.com": "it was replaced, and not put back: "
        f"GET {CRD}: 403 Forbidden: jane may not"
    }


def test_other_process_can_remove_it_all(api: FakeAPI, ours: Belongings) -> None:
    """What two workers have installed is removed once."""
    data = []
    for _ in range(2):
        ours.note(ROLE)
        ours.note_going(NAMESPACE)
        ours.note_replaced(CRD, {"spec": {}})
        data.append(json.loads(json.dumps(ours.handed_over())))
    ours.remove()
    assert api.requests == []

    for each in data:
        ours.take_over(each)
    ours.remove()

    assert [r.path for r in api.requests if r.method == "DELETE"] == [ROLE.path]
    assert list(ours.left) == ["edit crd/widgets.example.com"]


# --- CRDs ---------------------------------------------------------------------


def crd(**schema: Any) -> dict[str, Any]:
    """Return a CRD as a file has it."""
    versions = [{"name": "v1", "schema": schema}]
    metadata = {"name": "widgets.example.com"}
    return {"metadata": metadata, "spec": {"group": "a", "versions": versions}}


def stored(**schema: Any) -> dict[str, Any]:
    """Return it as a server has it."""
    found = crd(**schema)
    found["metadata"]["resourceVersion"] = "1"
    found["spec"]["conversion"] = {"strategy": "None"}
    return found


@pytest.mark.parametrize(
    ("there", "differs"),
    [
        ({"size": 1}, []),
        ({"size": 1, "more": 2}, []),
        ({"size": 2}, ["spec.versions[v1].schema.size: 2 -> 1"]),
        ({}, ["spec.versions[v1].schema.size: absent -> 1"]),
    ],
)
def test_crd_is_compared_as_far_as_a_reader_can(
    api: FakeAPI, tmp_path: Path, there: dict[str, Any], differs: list[str]
) -> None:
    """Who may not write cannot ask the server for its defaults."""

    def answer(request: Request) -> tuple[int, Any]:
        if request.method == "GET":
            return 200, stored(**there)
        assert request.query["dryRun"] == "All"
        return status(403, "Forbidden", "jane may not")

    api.answers[CRD] = answer
    how: dict[str, Any] = {"labels": {}, "replace": False, "note": print}

    if not differs:
        assert crds.adopt(api.client, crd(size=1), tmp_path, **how) == {}
        return
    with pytest.raises(ClusterError) as caught:
        crds.adopt(api.client, crd(size=1), tmp_path, **how)

    assert str(caught.value).splitlines()[1:] == [
        "  installed -> file",
        *(f"    {line}" for line in differs),
    ]
