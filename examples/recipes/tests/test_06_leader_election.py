"""Leader election

**What.** Of two replicas exactly one acts; when it ends, the other takes over.

**Why it is hard.** "Exactly one" is about every moment, and a test sees a few of them.
Two that act at once for some milliseconds at the handover go unnoticed, until they cost
data.

**How.** Start the controller twice: each `run_controller` has a user of its own, and
the API server's audit log has who wrote what. The history of what they do, complete and
in order, then shows whether they took turns.

**In Go.** Replicas of controller-runtime may run as one ServiceAccount, as shipped:
each start has a token of its own, by which `requests()` tells them apart. The leader is
ready by `ready="lease:NAMESPACE/NAME"`, when it holds the Lease itself; the standby by
the line in which it says that it tries to. `leader.stop()` gives the Lease back at once
where the manager has `LeaderElectionReleaseOnCancel`. After `leader.kill()` it has to
expire: 15 seconds, unless flags of the manager shorten that, as in
[examples/go](../examples/go/tests/test_leader_election.py).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import pytest

from pytest_kube import Controller, Kube, field

ENDS: dict[str, dict[str, object]] = {
    "gives the lease back": {"polite": True},
    "crashes": {"polite": False, "seconds": 2},
}


@pytest.mark.parametrize("options", ENDS.values(), ids=ENDS)
def test_the_other_one_takes_over(
    kube: Kube,
    run_controller: Callable[..., Controller],
    options: dict[str, object],
) -> None:
    """One acts until it ends; then the other does, and no earlier."""
    first = run_controller("leader:run", me="first", **options)
    kube.wait_for("configmap/work", field("data.by", "first"))
    second = run_controller("leader:run", me="second")
    kube.wait_for("configmap/work", field("data.turn", lambda turn: int(turn) > 5))

    first.stop()
    kube.wait_for("configmap/work", field("data.by", "second"))

    acting = [version.user for version in kube.history("configmap/work")]
    assert [user for user, _ in groupby(acting)] == [first.user, second.user]


def test_they_do_not_quarrel(
    kube: Kube, run_controller: Callable[..., Controller]
) -> None:
    """Of several that start together, one has the lease, and keeps it."""
    for me in ("first", "second", "third"):
        run_controller("leader:run", me=me)
    lease = kube.wait_for("lease/leader", field("spec.holderIdentity"))
    holder = lease["spec"]["holderIdentity"]

    kube.wait_for("configmap/work", field("data.turn", lambda turn: int(turn) > 10))

    kube.history("lease/leader").always(field("spec.holderIdentity", holder))
    kube.history("configmap/work").always(field("data.by", holder))
