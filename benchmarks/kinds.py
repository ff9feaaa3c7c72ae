"""Real nodes: how long a kind cluster needs, a kept one, and a test's isolation."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from typing import TYPE_CHECKING

from children import ChildError, progress
from figures import Figure
from starter import since

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store
from pytest_kube.kube import Kube
from pytest_kube.profiles import Profile
from pytest_kube.providers import kind
from pytest_kube.settings import Settings
from pytest_kube.system.kept import end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from children import Bench

    from pytest_kube.cluster import Cluster

PROFILE = Profile("kind", "kind")
WAIT = 120.0
"""Seconds, for the peer as for us."""


def cluster(*, reuse: bool = False) -> AbstractContextManager[Cluster]:
    return kind.create(PROFILE, Settings(PROFILE, reuse=reuse), progress)


def kinds(bench: Bench) -> Iterator[Figure]:
    """Nothing where there is no docker."""
    with contextlib.closing(kind.daemon()) as docker:
        image = kind.node_image(docker, "")
    yield from _creation(bench, image)
    yield from _isolation(bench)


def _creation(bench: Bench, image: str) -> Iterator[Figure]:
    program = str(Store(DEFAULT_VERSION).require("kind")["kind"])
    ours: list[float] = []
    theirs: list[float] = []
    sides: list[tuple[list[float], Callable[[], float]]] = [
        (ours, _ours),
        (theirs, lambda: _theirs(bench, program, image)),
    ]
    for i in range(bench.few(5) + 1):
        for seconds, measure in sides if i % 2 else reversed(sides):
            taken = measure()
            progress(f"kinds: {'ours' if seconds is ours else 'theirs'} {taken}")
            if i:  # the first ones fill caches
                seconds.append(taken)
    yield Figure(
        "kind cluster, until its node is Ready",
        ours,
        "kind create cluster --wait",
        theirs,
        bar=1.05,
        relative=True,
    )


def _ours() -> float:
    began = time.monotonic()
    with cluster():
        return since(began)


def _theirs(bench: Bench, program: str, image: str) -> float:
    name = f"bench-{secrets.token_hex(4)}"
    own = ["--name", name, "--kubeconfig", str(bench.folder / name)]
    create = [program, "create", "cluster", *own, "--image", image]
    began = time.monotonic()
    try:
        _run([*create, f"--wait={WAIT:.0f}s"])
        return since(began)
    finally:
        _run([program, "delete", "cluster", *own])


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=2 * WAIT, env=dict(os.environ)
    )
    if done.returncode:
        raise ChildError(f"{' '.join(command)}: {done.stderr[-2000:]}")


def _isolation(bench: Bench) -> Iterator[Figure]:
    reused, rollbacks, deletions = [], [], []
    with cluster(reuse=True) as first:
        directory = first.guardian.directory
    try:
        for _ in range(max(bench.runs, 3)):
            began = time.monotonic()
            with cluster(reuse=True):
                reused.append(since(began))
        with cluster(reuse=True) as ours:
            for i in range(max(bench.runs, 5)):
                mark = ours.mark()
                _as_a_test_does(ours, f"test-{i}")
                began = time.monotonic()
                ours.roll_back(mark)
                rollbacks.append(since(began))
                ours.release(mark)
            for i in range(bench.few(3)):
                kube = _as_a_test_does(ours, f"deleted-{i}")
                began = time.monotonic()
                kube.delete(f"namespace/{kube.namespace}", timeout=WAIT)
                deletions.append(since(began))
    finally:
        end(directory)
    progress(f"kinds: reused {reused}, rollbacks {rollbacks}, deletions {deletions}")
    yield Figure(
        "a kind cluster that was kept, until a test may begin", reused, bar=1.0
    )
    yield Figure(
        "isolation on kind: rollback of a namespace with 2 real pods, containers gone",
        rollbacks,
        "deletion of the namespace",
        deletions,
        bar=1.5,
    )


def _as_a_test_does(ours: Cluster, namespace: str) -> Kube:
    ours.create_namespace(namespace)
    kube = Kube(ours, namespace, timeout=WAIT)
    (node,) = kube.list("nodes")
    names = [name for image in node["status"]["images"] for name in image["names"]]
    image = next(name for name in names if "/pause:" in name)
    labels = {"app": "web"}
    kube.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "c", "image": image}]},
                },
            },
        }
    )
    kube.wait_for("deployment/web", "condition=Available")
    return kube
