"""envtest: etcd and the API server only; the fastest cluster."""

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


@contextlib.contextmanager
def create(
    profile: Profile, settings: Settings, report: Callable[[str], None]
) -> Iterator[Cluster]:
    """Start etcd and the API server; no controllers, no nodes."""
    version = resolve_version(settings.version)
    store = Store(
        version, explicit=settings.binaries, offline=settings.offline, report=report
    )
    binaries = store.require("etcd", "kube-apiserver")
    plan = Plan(
        profile,
        version,
        binaries,
        nodes=False,
        crds=settings.crds,
        manifests=settings.manifests,
        start_timeout=settings.start_timeout,
    )
    with kept.running(plan, settings, report, plane) as cluster:
        yield cluster
