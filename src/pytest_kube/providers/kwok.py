"""kwok: the whole control plane and simulated nodes, on which pods seem to run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pytest_kube.binaries.releases import resolve_version
from pytest_kube.binaries.store import Store
from pytest_kube.controlplane import kept, plane
from pytest_kube.controlplane.plan import Plan
from pytest_kube.errors import hide_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kube.cluster import Cluster
    from pytest_kube.profiles import Profile
    from pytest_kube.settings import Settings

__tracebackhide__ = hide_frames

PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kwok",
)


@contextlib.contextmanager
def create(
    profile: Profile, settings: Settings, report: Callable[[str], None]
) -> Iterator[Cluster]:
    """Start the control plane and create the nodes of the profile."""
    version = resolve_version(settings.version)
    store = Store(
        version, explicit=settings.binaries, offline=settings.offline, report=report
    )
    binaries = store.require(*PROGRAMS)
    plan = Plan(
        profile,
        version,
        binaries,
        nodes=True,
        crds=settings.crds,
        manifests=settings.manifests,
        start_timeout=settings.start_timeout,
    )
    with kept.running(plan, settings, report, plane) as cluster:
        yield cluster
