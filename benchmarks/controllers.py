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

from pytest_kube.controllers.starter import Starter
from pytest_kube.kube import Kube
from pytest_kube.profiles import Profile
from pytest_kube.settings import Settings
from pytest_kube.system.gates import Gates

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
    with cluster("envtest", 0) as ours, Gates() as gates:
        kube = Kube(ours, "default", 30, bench.folder)
        starter = partial(
            Starter,
            kube,
            Settings(Profile("envtest", "envtest"), timeout=30),
            folder=bench.folder,
            wide=True,
            service_account=None,
            identities={},
            gates=gates,
        )
        shapes: dict[str, Any] = {
            "kopf": "kopf:bench_operator.py",
            "async def": _coroutine,
            "def with stop": _function,
        }
        if MANAGER:
            ours.install_crds([GO / "config" / "crd"])
            shapes["examples/go"] = [MANAGER]
        for name, spec in shapes.items():
            readies, stops = _cycles(starter, spec, max(bench.runs, 5))
            bar = {"kopf": 0.1, "examples/go": 0.5}.get(name)
            yield Figure(f"{name}: until ready", readies, unit="ms", bar=bar)
            yield Figure(f"{name}: stop", stops, unit="ms", bar=0.05)
        yield from _leaks(starter, "kopf:bench_operator.py")


async def _coroutine(ready: Callable[[], None]) -> None:
    import asyncio

    ready()
    await asyncio.Event().wait()


def _function(stop: threading.Event) -> None:
    stop.wait()


def _cycles(
    starter: Callable[[], Starter], spec: Any, count: int
) -> tuple[list[float], list[float]]:
    """Return the seconds until ready, and those of each stop."""
    readies, stops = [], []
    for i in range(count + 1):
        began = time.monotonic()
        with starter() as tests:
            controller = tests.start(spec)
            ready = since(began)
            began = time.monotonic()
            controller.stop()
            stop = since(began)
            tests.kube.controllers.clear()
        if i:
            readies.append(ready)
            stops.append(stop)
    return readies, stops


def _leaks(starter: Callable[[], Starter], spec: str) -> Iterator[Figure]:
    """Start and stop it many times, and count what is there before and after."""
    _cycles(starter, spec, 3)
    before = _counts()
    began = time.monotonic()
    _cycles(starter, spec, CYCLES - 1)
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
