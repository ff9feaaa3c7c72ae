"""Quotas

**What.** When a namespace has no room for what was asked for, somebody is told, and it
goes on as soon as there is room.

**Why it is hard.** Creating the Deployment succeeds. It is the pods that are refused,
one level below, and the reason stands in an event and a condition of other objects than
the one that a test waits for. And quotas are counted by Kubernetes' own controllers: a
cluster without them refuses everything, or nothing.

**How.** Wait for what should become true, with a short timeout, and look at what the
failure says: it tells of the events, too. Or wait for the condition that reports it.
"""

from __future__ import annotations

import pytest

from pytest_kube import Kube, WaitTimeoutError, condition, field, ready

QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "small"},
    "spec": {"hard": {"pods": "2"}},
}
LABELS = {"app": "web"}
WEB = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 3,
        "selector": {"matchLabels": LABELS},
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {"containers": [{"name": "web", "image": "web"}]},
        },
    },
}


@pytest.mark.usefixtures("workloads")
def test_the_failure_says_that_a_quota_is_exceeded(kube: Kube) -> None:
    """Two of three pods run, and the text of the error says why."""
    kube.apply(QUOTA)
    kube.wait_for("quota/small", ready)

    kube.apply(WEB)

    with pytest.raises(WaitTimeoutError, match="exceeded quota: small"):
        kube.wait_for("deployment/web", ready, timeout=1)
    assert len(kube.list("pods", labels=LABELS)) == 2


@pytest.mark.usefixtures("workloads")
def test_goes_on_when_there_is_room(kube: Kube) -> None:
    """The Deployment reports the failure, and that it is over."""
    kube.apply(QUOTA)
    kube.wait_for("quota/small", ready)
    kube.apply(WEB)
    kube.wait_for("deployment/web", condition("ReplicaFailure"))

    kube.patch("quota/small", {"spec": {"hard": {"pods": "5"}}})
    kube.wait_for("quota/small", field("status.hard.pods", "5"))

    kube.wait_for("deployment/web", ready)
