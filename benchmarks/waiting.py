"""What a handle takes: to notice, to wait a thousand times, to list, to be there."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any

from children import progress
from figures import Figure
from objects import config_map
from starter import cluster, each, since

from pytest_kube import exists, field
from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store
from pytest_kube.kube import Kube

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from children import Bench

LATENCIES = 200
PARALLEL = 1000
MANY = 10_000
FIRST_CALL = """
import time
began = time.perf_counter()
from pathlib import Path
from types import SimpleNamespace
from pytest_kube.client import Client
from pytest_kube.kube import Kube
import sys
client = Client.from_kubeconfig(Path(sys.argv[1]))
kube = Kube(SimpleNamespace(client=client), "default")
kube.get("namespace/default")
print(time.perf_counter() - began)
"""


def handle(bench: Bench) -> Iterator[Figure]:
    """Issue 5's rows, on one envtest cluster."""
    with cluster("envtest", 0) as ours:
        kube = Kube(ours, "default", timeout=120)
        kube.create(config_map("changing"))
        mine = _latencies(kube, LATENCIES)
        progress(f"latency: {sorted(mine)[:: LATENCIES // 10]}")
        theirs = _kubectl_latencies(kube, bench.few(20))
        progress(f"kubectl: {theirs}")
        yield Figure(
            "from commit in the API server to the return of `wait_for`",
            mine,
            "kubectl wait, to its end",
            theirs,
            unit="ms",
            bar=0.005,
        )
        calls = [_first_call(kube.kubeconfig) for _ in range(bench.runs + 1)][1:]
        yield Figure(
            "first call of a process, imports included", calls, unit="ms", bar=0.15
        )
        yield from _parallel(kube)
        yield from _many(bench, kube)


def _latencies(kube: Kube, count: int) -> list[float]:
    """Return the seconds from commit to return, each by a thread that waits."""
    returned: list[tuple[str, float]] = []
    waiting, started = threading.Event(), threading.Event()

    def wait() -> None:
        for i in range(count):
            seen = field("data.n", str(i))

            def holds(obj: Any, seen: Any = seen) -> bool:
                waiting.set()  # the first version was looked at
                return bool(seen(obj))

            obj = kube.wait_for("configmap/changing", holds)
            returned.append((obj["metadata"]["resourceVersion"], time.time()))
            started.wait()
            started.clear()

    thread = threading.Thread(target=wait)
    thread.start()
    pause = threading.Event()
    for i in range(count):
        waiting.wait()
        waiting.clear()
        pause.wait(0.02)  # the watch is open by then
        kube.patch("configmap/changing", {"data": {"n": str(i)}})
        while len(returned) <= i:
            pause.wait(0.001)
        started.set()
    thread.join()
    commits = _commits(kube)
    return [at - commits[version] for version, at in returned]


def _commits(kube: Kube) -> dict[str, float]:
    """Return when each revision was answered for, by the API server's own clock."""
    assert kube.cluster.audit is not None  # noqa: S101  # for the type checker
    found = {}
    for line in kube.cluster.audit.read_text("utf-8").splitlines():
        event = json.loads(line)
        answer = event.get("responseObject") or {}
        version = (answer.get("metadata") or {}).get("resourceVersion")
        if version and event["verb"] == "patch":
            at = datetime.fromisoformat(event["stageTimestamp"])
            found[version] = at.timestamp()
    return found


def _kubectl_latencies(kube: Kube, count: int) -> list[float]:
    kubectl = Store(DEFAULT_VERSION).require("kubectl")["kubectl"]
    latencies = []
    pause = threading.Event()
    for i in range(count):
        argv = [kubectl, f"--kubeconfig={kube.kubeconfig}", "wait", "cm/changing"]
        process = subprocess.Popen(
            [*argv, f"--for=jsonpath={{.data.n}}=k{i}"], stdout=subprocess.DEVNULL
        )
        pause.wait(0.5)  # it has started to watch by then
        patched = kube.patch("configmap/changing", {"data": {"n": f"k{i}"}})
        process.wait(60)
        ended = time.time()
        version = patched["metadata"]["resourceVersion"]
        latencies.append(ended - _commits(kube)[version])
    return latencies


def _first_call(kubeconfig: Path) -> float:
    argv = [sys.executable, "-c", FIRST_CALL, str(kubeconfig)]
    return float(subprocess.check_output(argv, timeout=60))


def _parallel(kube: Kube) -> Iterator[Figure]:
    """Wait for a thousand objects in a thousand threads; then create them."""
    began = time.monotonic()
    looked = threading.Semaphore(0)

    def wait(i: int) -> float:
        def there(obj: Any) -> bool:
            looked.release()
            return obj is not None

        kube.wait_for(f"configmap/parallel-{i}", there)
        return time.monotonic()

    with ThreadPoolExecutor(PARALLEL) as pool:
        waits = [pool.submit(wait, i) for i in range(PARALLEL)]
        for _ in range(PARALLEL):
            looked.acquire()
        open_ = since(began)
        began = time.monotonic()
        each(lambda i: kube.create(config_map(f"parallel-{i}")), PARALLEL)
        created = time.monotonic()
        ends = [w.result() for w in waits]
    yield Figure("1,000 waits in parallel, until all have looked", [open_])
    yield Figure("the same, until 1,000 objects are created", [created - began])
    yield Figure("the same, from then until all have returned", [max(ends) - created])


def _many(bench: Bench, kube: Kube) -> Iterator[Figure]:
    """List ten thousand objects, and wait for all of them."""
    labels = {"many": "yes"}
    obj = config_map("x")

    def create(i: int) -> None:
        metadata = {"name": f"many-{i}", "labels": labels}
        kube.create({**obj, "metadata": metadata, "data": {"n": "0"}})

    each(create, MANY)
    lists, waits = [], []
    for i in range(bench.few(5)):
        began = time.monotonic()
        assert len(kube.list("configmaps", labels=labels)) == MANY  # noqa: S101
        lists.append(since(began))
        began = time.monotonic()
        kube.wait_for_all("configmaps", exists, labels=labels, count=MANY)
        waits.append(since(began))
        progress(f"many: run {i}: {lists[-1]:.2f} {waits[-1]:.2f}")
    yield Figure("10,000 objects listed", lists)
    yield Figure("`wait_for_all` of 10,000 objects for which it holds", waits)
    began = time.monotonic()
    mine = field("data.n", "1")
    with ThreadPoolExecutor(1) as pool:
        wait = pool.submit(
            kube.wait_for_all, "configmaps", mine, labels=labels, count=MANY
        )
        patch = {"data": {"n": "1"}}
        each(lambda i: kube.patch(f"configmap/many-{i}", patch), MANY)
        patched = time.monotonic()
        wait.result()
    yield Figure(
        "`wait_for_all` of 10,000 objects that change, after the last change",
        [time.monotonic() - patched],
        note=f"{patched - began:.0f} s for the changes",
    )
