"""Real clusters, one of each kind for the whole run, and handles on them."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store
from pytest_kube.kube import Kube
from pytest_kube.profiles import NodeGroup, Profile
from pytest_kube.providers import envtest, kwok
from pytest_kube.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kube.cluster import Cluster

NODES = (
    NodeGroup(count=2),
    NodeGroup(
        name="gpu",
        capacity={"cpu": "4", "example.com/gpu": "2"},
        labels={"tier": "gpu"},
        taints=({"key": "gpu", "value": "yes", "effect": "NoSchedule"},),
    ),
)


@pytest.fixture(scope="session")
def envtest_cluster() -> Iterator[Cluster]:
    profile = Profile("envtest", "envtest")
    with envtest.create(profile, Settings(profile), print) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kwok_cluster() -> Iterator[Cluster]:
    profile = Profile("kwok", "kwok", nodes=NODES)
    with kwok.create(profile, Settings(profile), print) as cluster:
        yield cluster


@pytest.fixture(params=["envtest", "kwok"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Each kind of cluster in turn."""
    found: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    return found


@pytest.fixture
def handle(cluster: Cluster) -> Iterator[Kube]:
    """A handle on a namespace of the test's own."""
    yield from _handle(cluster)


@pytest.fixture
def on_kwok(kwok_cluster: Cluster) -> Iterator[Kube]:
    """A handle where pods run."""
    yield from _handle(kwok_cluster)


def _handle(cluster: Cluster) -> Iterator[Kube]:
    kube = Kube(cluster, f"test-{secrets.token_hex(4)}", timeout=20)
    cluster.create_namespace(kube.namespace)
    yield kube
    kube.leftovers.clean_up()


@pytest.fixture(scope="session")
def binaries() -> dict[str, Path]:
    """Every program of a kwok cluster."""
    return Store(DEFAULT_VERSION, environ=dict(os.environ)).require(*kwok.PROGRAMS)


@pytest.fixture(scope="session")
def kubectl() -> Path:
    """The real kubectl, to compare with."""
    return Store(DEFAULT_VERSION).require("kubectl")["kubectl"]
