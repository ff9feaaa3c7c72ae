"""New CRDs: waited for by a server that takes its time, and told when it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube import crds
from pytest_kube.errors import ClusterError

from .fake_api import fake_api, status

if TYPE_CHECKING:
    from .fake_api import Request

GROUP = "/apis/example.com/v1"
CRD: dict[str, Any] = {
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"plural": "widgets"},
        "versions": [{"name": "v1", "served": True}],
    },
}


def test_crd_that_nobody_has_looked_at_yet_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its conditions are null until then: a busy server needs a moment."""
    monkeypatch.setattr(crds, "_NAMES_AFTER", 0.0)
    established = [
        {"type": "Established", "status": "True", "lastTransitionTime": "2026-01-01"}
    ]
    looks = [{}, {"conditions": None}, {"conditions": established}]

    def crd(_: Request) -> tuple[int, Any]:
        return 200, {**CRD, "status": looks[0] if len(looks) == 1 else looks.pop(0)}

    def served(_: Request) -> tuple[int, Any]:
        if len(looks) > 1:
            return status(404, "NotFound", "404 page not found")
        return 200, {"resources": [{"name": "widgets"}]}

    with fake_api() as api:
        api.answers[f"{crds.PATH}/widgets.example.com"] = crd
        api.answers[GROUP] = served
        api.put(f"{GROUP}/widgets")

        crds.await_served(api.client, [CRD], single=False, log=None)

        assert api.asked(f"{GROUP}/widgets")


def test_crd_whose_names_are_taken_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits half a minute for that."""
    monkeypatch.setattr(crds, "_NAMES_AFTER", 0.0)
    taken = {"type": "NamesAccepted", "status": "False", "message": "plural is taken"}

    with fake_api() as api:
        answer = {**CRD, "status": {"conditions": [taken]}}
        api.answers[f"{crds.PATH}/widgets.example.com"] = (200, answer)

        with pytest.raises(ClusterError, match="is not accepted: plural is taken"):
            crds.await_served(api.client, [CRD], single=False, log=None)
