"""Control planes that outlive a run, or serve several, found again by what they are."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from dataclasses import asdict, replace
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pytest_kube.binaries.store import cache_folder
from pytest_kube.controlplane.plan import Plan
from pytest_kube.errors import KubeError, hide_frames
from pytest_kube.system.connection import BusyError
from pytest_kube.system.kept import Kept, kept
from pytest_kube.system.processes import FORMAT, Guardian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from pytest_kube.cluster import Cluster
    from pytest_kube.settings import Settings
    from pytest_kube.state.rollback import Mark

__tracebackhide__ = hide_frames

LOCK_TIMEOUT = 900.0
"""Seconds to wait while somebody else starts the plane that we want, at most: a kind
cluster whose node image has to be pulled first takes some minutes."""

P_contra = TypeVar("P_contra", bound=Plan, contravariant=True)


class Planes(Protocol[P_contra]):
    """A way to run a control plane, and to find it again."""

    def running(self, plan: P_contra) -> AbstractContextManager[Cluster]:
        """Run one, which is deleted at the end unless its guardian keeps it."""

    def attach(self, guardian: Guardian, plan: P_contra) -> Cluster:
        """Return the cluster of the one that *guardian* keeps.

        Raises:
            ClusterError: It is not well any more.
        """


@contextlib.contextmanager
def running(
    plan: P_contra,
    settings: Settings,
    report: Callable[[str], None],
    planes: Planes[P_contra],
) -> Iterator[Cluster]:
    """Run a control plane as the settings want it: our own, a kept or a shared one.

    Raises:
        ClusterError: A component does not start.
    """
    with contextlib.ExitStack() as stack:
        if settings.share and settings.run:
            yield _shared(plan, settings, stack, planes)
        elif settings.reuse:
            yield _reused(plan, settings, stack, report, planes)
        else:
            yield stack.enter_context(planes.running(plan))


def _shared(
    plan: P_contra,
    settings: Settings,
    stack: contextlib.ExitStack,
    planes: Planes[P_contra],
) -> Cluster:
    """Connect to the plane that the workers of this run share; the first starts it."""
    key = _key(plan, settings.run)
    with _lock():
        for found in _find(key):
            with contextlib.ExitStack() as attempt, contextlib.suppress(KubeError):
                guardian = Guardian.connect(found.directory, shared=True)
                attempt.callback(guardian.end)  # a broken one serves nobody
                cluster = planes.attach(guardian, plan)
                cluster.loaded(plan.crds, plan.manifests)
                _spare(cluster)
                attempt.pop_all()
                stack.enter_context(guardian)
                return cluster
        cluster = stack.enter_context(planes.running(plan))
        _spare(cluster)
        cluster.guardian.keep(idle=0.0, about=_about(cluster, plan, key), shared=True)
        return cluster


def _spare(cluster: Cluster) -> None:
    """Leave other workers their history."""
    from pytest_kube.state.rollback import SPARED

    assert cluster.state is not None  # noqa: S101  # for the type checker
    cluster.state.spared = SPARED


def _reused(
    plan: P_contra,
    settings: Settings,
    stack: contextlib.ExitStack,
    report: Callable[[str], None],
    planes: Planes[P_contra],
) -> Cluster:
    """Take the plane of an earlier run, rolled back, or start one that stays."""
    key = _key(plan)
    for found in _find(key):
        try:
            return _taken(found, plan, stack, planes)
        except BusyError:  # by another run, or another worker of this one
            continue
        except (KubeError, LookupError, ValueError, TypeError) as e:
            reason = str(e).partition("\n")[0]
            report(f"the kept cluster cannot be used again, a new one starts: {reason}")
    bare = replace(plan, crds=(), manifests=())
    cluster = stack.enter_context(planes.running(bare))
    about = _about(cluster, plan, key) | {"idle": settings.idle}
    _prepare(cluster, plan, about, stack)
    return cluster


def _taken(
    found: Kept, plan: P_contra, stack: contextlib.ExitStack, planes: Planes[P_contra]
) -> Cluster:
    """Connect to a kept plane, and bring it back to what it was at first."""
    about = found.about
    with contextlib.ExitStack() as attempt:
        guardian = Guardian.connect(found.directory, shared=False)
        attempt.callback(guardian.end)  # what cannot be used is of no use to anybody
        cluster = planes.attach(guardian, plan)
        assert cluster.state is not None  # noqa: S101  # for the type checker
        first, then = (_mark(about[name]) for name in ("first", "then"))
        if then is not None and about["content"] == plan.content:
            cluster.state.adopt(first, then)
            cluster.state.roll_back(then)
            cluster.loaded(plan.crds, plan.manifests)
        else:
            cluster.state.adopt(first)
            cluster.state.roll_back(first)
            then = None
        attempt.pop_all()
    stack.enter_context(guardian)
    _prepare(cluster, plan, about, stack, (first, then))
    return cluster


def _prepare(
    cluster: Cluster,
    plan: Plan,
    about: dict[str, Any],
    stack: contextlib.ExitStack,
    marks: tuple[Mark | None, Mark | None] = (None, None),
) -> None:
    """Install what the plan wants, and see to it that the next run finds it so."""
    assert cluster.state is not None  # noqa: S101  # for the type checker
    state = cluster.state
    first, then = marks[0] or state.mark(), marks[1]
    if then is None:
        cluster.install(plan.crds, plan.manifests)
        then = state.mark()

    def keep() -> None:
        marks = {"first": _stored(first), "then": _stored(then)}
        known = {**about, "content": plan.content, **marks}
        cluster.guardian.keep(idle=about["idle"], about=known)

    keep()

    def keep_again() -> None:  # old history may be gone by then, and the marks know
        with contextlib.suppress(KubeError):
            keep()

    stack.callback(keep_again)


def _find(key: str) -> Iterator[Kept]:
    for found in kept():
        if found.format == FORMAT and found.about.get("key") == key:
            yield found


def _lock() -> AbstractContextManager[object]:
    from filelock import FileLock

    folder = cache_folder(os.environ)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return FileLock(folder / "shared-plane.lock", timeout=LOCK_TIMEOUT)


def _key(plan: Plan, run: str = "") -> str:
    """Return what planes are found by: ours of this version, its programs and flags."""
    described = (package_version("pytest-kube"), plan.described, run)
    return hashlib.sha256(repr(described).encode()).hexdigest()[:24]


def _about(cluster: Cluster, plan: Plan, key: str) -> dict[str, Any]:
    return {
        "key": key,
        "name": plan.profile.name,
        "cluster": cluster.name,
        "kubeconfig": str(cluster.kubeconfig),
    }


def _stored(mark: Mark | None) -> dict[str, Any] | None:
    if mark is None:
        return None
    differed = {
        key: None if value is None else base64.b64encode(value).decode("ascii")
        for key, value in mark.differed.items()
    }
    return {**asdict(mark), "differed": differed}


def _mark(stored: dict[str, Any] | None) -> Any:
    from pytest_kube.state.rollback import Mark

    if stored is None:
        return None
    differed = {
        key: None if value is None else base64.b64decode(value)
        for key, value in stored["differed"].items()
    }
    return Mark(**{**stored, "differed": differed})
