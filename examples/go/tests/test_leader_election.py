from collections.abc import Callable
from typing import Any

import pytest

from pytest_kube import Controller, Kube

LEASE = "memcached-system/memcached-operator"
STANDBY = "log:(?i)attempting to acquire leader lease"

# A crashed leader holds up the others for three seconds then, instead of fifteen.
ELECTION = (
    "--leader-elect",
    "--leader-elect-lease-duration=3s",
    "--leader-elect-renew-deadline=2s",
    "--leader-elect-retry-period=200ms",
)


@pytest.fixture
def replica(
    manager: None, run_controller: Callable[..., Controller]
) -> Callable[[str], Controller]:
    """Start a replica; all of them run as the ServiceAccount of the ini file."""

    def start(ready: str) -> Controller:
        program = ["./bin/manager", "--health-probe-bind-address=0", *ELECTION]
        return run_controller(program, ready=ready)

    return start


def manifest(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "cache.example.com/v1alpha1",
        "kind": "Memcached",
        "metadata": {"name": name},
        "spec": {"size": 1},
    }


def written(replica: Controller) -> set[str]:
    """Return the kinds of things that a replica has created, changed and deleted."""
    verbs = {"create", "update", "patch", "delete"}
    return {r.resource for r in replica.requests() if r.verb in verbs and r.code < 400}


@pytest.mark.parametrize("end", [Controller.stop, Controller.kill])
def test_standby_takes_over(
    kube: Kube,
    replica: Callable[[str], Controller],
    end: Callable[[Controller], None],
) -> None:
    """Only the leader acts; when it stops or crashes, the other one does."""
    leader = replica(f"lease:{LEASE}")
    standby = replica(STANDBY)
    kube.apply(manifest("first"))
    kube.eventually(lambda: "deployments" in written(leader))
    assert not written(standby)

    end(leader)
    kube.apply(manifest("second"))
    kube.wait_for("deployment/second", "create")
    kube.eventually(lambda: {"deployments", "leases"} <= written(standby))
