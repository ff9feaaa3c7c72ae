from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from websites import Zone

from pytest_kube import Object

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kube import Cluster, Controller


@pytest.fixture
def website() -> Object:
    """A Website, not created yet."""
    return make_website("shop")


@pytest.fixture
def many() -> Callable[[int], list[Object]]:
    """Make so many Websites."""
    return lambda count: [make_website(f"site-{i}") for i in range(count)]


def make_website(name: str) -> Object:
    spec: dict[str, Any] = {"host": f"{name}.example.com", "text": "Hello!"}
    return Object(
        apiVersion="example.com/v1",
        kind="Website",
        metadata={"name": name},
        spec=spec,
    )


@pytest.fixture
def zone() -> Zone:
    """The DNS zone of the controller."""
    return Zone()


@pytest.fixture
def controller(run_controller: Callable[..., Controller], zone: Zone) -> Controller:
    """The controller, on the zone that the test sees."""
    return run_controller("websites:run", zone=zone)


@pytest.fixture
def workloads(kube_cluster: Cluster) -> None:
    """Skip the test where nobody runs Deployments, counts quotas or collects garbage.

    That is Kubernetes' own controller-manager, which envtest does not start.
    """
    if "controllers" not in kube_cluster.capabilities:
        pytest.skip("needs Kubernetes' own controllers: --kube=kwok or --kube=kind")
