"""What a controller under test costs: until it is ready, and until it has stopped."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from children import progress
from figures import Figure
from starter import cluster, since

from pytest_kube.controllers.runner import Surroundings, running
from pytest_kube.controllers.specs import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from children import Bench

OPERATOR = """
import kopf

@kopf.on.create("configmaps")
@kopf.on.update("configmaps")
def reconcile(**_):
    pass
"""
CYCLES = 200
GO = Path(__file__).parents[1] / "examples" / "go"
MANAGER = os.environ.get("BENCH_MANAGER", "")
"""The program of examples/go, which was built before."""


def controllers(bench: Bench) -> Iterator[Figure]:
    """Issue 6's rows, on one envtest cluster."""
    (bench.folder / "bench_operator.py").write_text(OPERATOR)
    with cluster("envtest", 0) as ours:
        where = Surroundings(
            user="bench",
            kubeconfig=ours.identity("bench", ["system:masters"]),
            namespace="default",
            guardian=ours.guardian,
            folder=bench.folder,
            wide=True,
            audit=ours.audit,
        )
        shapes: dict[str, Callable[[], Any]] = {
            "kopf": partial(load, "kopf:bench_operator.py", where),
            "async def": partial(load, _coroutine, where),
            "def with stop": partial(load, _function, where),
        }
        if MANAGER:
            ours.install_crds([GO / "config" / "crd"])
            shapes["examples/go"] = partial(load, [MANAGER], where)
        for name, make in shapes.items():
            readies, stops = _cycles(make, where, max(bench.runs, 5))
            bar = {"kopf": 0.1, "examples/go": 0.5}.get(name)
            yield Figure(f"{name}: until ready", readies, unit="ms", bar=bar)
            yield Figure(f"{name}: stop", stops, unit="ms", bar=0.05)
        yield from _leaks(partial(load, "kopf:bench_operator.py", where), where)


async def _coroutine(ready: Callable[[], None]) -> None:
    import asyncio

    ready()
    await asyncio.Event().wait()


def _function(stop: threading.Event) -> None:
    stop.wait()


def _cycles(
    make: Callable[[], Any], where: Surroundings, count: int
) -> tuple[list[float], list[float]]:
    """Return the seconds until ready, without loading it, and those of each stop."""
    readies, stops = [], []
    for i in range(count + 1):
        work = make()
        began = time.monotonic()
        with running(work, where, timeout=30):
            ready = since(began)
            began = time.monotonic()
        if i:
            readies.append(ready)
            stops.append(since(began))
    return readies, stops


def _leaks(make: Callable[[], Any], where: Surroundings) -> Iterator[Figure]:
    """Start and stop it many times, and count what is there before and after."""
    _cycles(make, where, 3)
    before = _counts()
    began = time.monotonic()
    _cycles(make, where, CYCLES - 1)
    seconds = since(began)
    after = _counts()
    progress(f"leaks: {before} -> {after}")
    left = {k: after[k] - before[k] for k in before if after[k] > before[k]}
    note = ", ".join(f"{n} {k} more" for k, n in left.items()) or "nothing is left"
    yield Figure(f"kopf: {CYCLES} starts and stops", [seconds], note=note)


def _counts() -> dict[str, int]:
    import gc
    import logging

    gc.collect()
    return {
        "threads": threading.active_count(),
        "file descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "log handlers": len(logging.getLogger().handlers),
    }
