"""Start one cluster, ours or kwokctl's, do one task on it, stop.

    python starter.py envtest|kwok|PATH-OF-KWOKCTL NODES TASK [ARGUMENT…]

It prints a word when something is reached; the one who started it keeps the time. What
it timed by itself, or has to say, it prints as a JSON object. Imports come late: ours
count, for they are part of our start; kwokctl starts while its side does them.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from pytest_kube.client import Client
    from pytest_kube.cluster import Cluster

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
NODES = "/api/v1/nodes"

MANY, MANY_DEPLOYED = 10_000, 5_000
DEPLOYED_BY = 10
THREADS = 4
PATIENCE = 60.0
"""Seconds for the first of anything."""

BRING_UP = 400.0
"""Seconds for thousands of pods."""


@dataclass
class Started:
    """A cluster that takes requests."""

    client: Client
    cluster: Cluster | None
    add_nodes: Callable[[], None]


# --- the two sides ----------------------------------------------------------


def cluster(provider: str, nodes: int) -> AbstractContextManager[Cluster]:
    """Start a cluster of ours, as the plugin does."""
    from pytest_kube.profiles import NodeGroup, Profile, providers
    from pytest_kube.settings import Settings

    profile = Profile(provider, provider, nodes=(NodeGroup(count=nodes),))
    create = providers()[provider].load()
    return create(profile, Settings(profile), lambda _: None)  # type: ignore[no-any-return]


@contextlib.contextmanager
def ours(provider: str, nodes: int) -> Iterator[Started]:
    with cluster(provider, nodes) as created:
        yield Started(created.client, created, lambda: None)


@contextlib.contextmanager
def kwokctl(program: str, nodes: int) -> Iterator[Started]:
    """Use kwokctl as fast as it goes: it is not told to wait, we ask the API."""
    folder = Path(os.environ["KWOK_WORKDIR"])
    kubeconfig = folder / "bench-kubeconfig"
    command = [program, "--name", "bench"]
    options = ["--runtime", "binary", "--kubeconfig", str(kubeconfig)]
    options += os.environ.get("BENCH_KWOKCTL_OPTIONS", "").split()
    created = run([*command, "create", "cluster", *options])
    from pytest_kube.client import Client

    end(created, 100)
    client = Client.from_kubeconfig(kubeconfig)

    def add_nodes() -> None:
        end(run([*command, "scale", "node", "--replicas", str(nodes)]), 200)

    yield Started(client, None, add_nodes)
    end(run([*command, "delete", "cluster"]), 100)


def run(command: list[str]) -> subprocess.Popen[bytes]:
    import subprocess

    nothing = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    if code := process.wait(seconds):
        raise SystemExit(f"{process.args!r} ended with {code}")


# --- tasks ------------------------------------------------------------------


def nothing(_: Started) -> None:
    """Only the first write, which precedes every task."""


def first_pod(started: Started) -> None:
    from objects import pod

    client = started.client
    patiently(lambda: client.request("POST", PODS, body=pod("first")))
    patiently(lambda: check_running(client.request("GET", f"{PODS}/first")))
    say("pod")


def first_deployment(started: Started) -> None:
    from objects import deployment

    client = started.client
    patiently(lambda: client.request("POST", DEPLOYMENTS, body=deployment("web", 3)))
    patiently(lambda: check_available(client.request("GET", f"{DEPLOYMENTS}/web")))
    say("deployment")


def crds(started: Started, one: str, ten: str) -> None:
    """Install one CRD, then ten, and create an object of each as soon as it can be."""
    from objects import custom

    from pytest_kube.kube import Kube

    assert started.cluster is not None  # noqa: S101  # for the type checker
    kube = Kube(started.cluster, "default")
    kube.find("configmap/none")  # a session has read discovery long ago
    threading.Event().wait(2)  # the API server still does what it does at its start
    say("calm")
    started.cluster.install_crds([Path(one)])
    kube.create(custom(0, "first"))
    say("one")
    started.cluster.install_crds([Path(ten)])
    for number in range(1, 11):
        kube.create(custom(number, "first"))
    say("ten")


def all_nodes(started: Started, wanted: str) -> None:
    """Run a pod as soon as a node takes it; tell when the last node is Ready."""
    with ThreadPoolExecutor() as threads:
        pod = threads.submit(first_pod, started)
        ready = lambda: check_nodes(started.client, int(wanted))  # noqa: E731
        patiently(ready, BRING_UP, pause=0.1)
        say("nodes")
        pod.result()


def many_pods(started: Started, wanted: str) -> None:
    """Run 10,000 pods; of ours, tell how long their rollback takes."""
    from objects import pod

    client = started.client
    patiently(lambda: check_nodes(client, int(wanted)), BRING_UP, pause=0.1)
    patiently(lambda: check_untainted(client), BRING_UP, pause=0.1)
    mark = started.cluster.mark() if started.cluster else None
    first_account(client)
    began = time.monotonic()
    each(
        lambda i: client.request("POST", PODS, body=pod(f"pod-{i}")),
        MANY,
    )
    created = time.monotonic()
    tell(create=created - began)
    patiently(lambda: check_all_running(client), BRING_UP, pause=0.1)
    tell(run=time.monotonic() - began)
    say("weigh")
    if started.cluster:
        timed_rollback(started.cluster, mark)


def deployed_pods(started: Started, wanted: str) -> None:
    """Run 5,000 pods of 10 Deployments, and roll them back."""
    from objects import deployment

    assert started.cluster is not None  # noqa: S101  # for the type checker
    client = started.client
    patiently(lambda: check_nodes(client, int(wanted)), BRING_UP, pause=0.1)
    patiently(lambda: check_untainted(client), BRING_UP, pause=0.1)
    mark = started.cluster.mark()
    first_account(client)
    began = time.monotonic()
    size = MANY_DEPLOYED // DEPLOYED_BY
    for i in range(DEPLOYED_BY):
        client.request("POST", DEPLOYMENTS, body=deployment(f"web-{i}", size))
    for i in range(DEPLOYED_BY):
        path = f"{DEPLOYMENTS}/web-{i}"
        available = lambda path=path: check_available(client.request("GET", path))  # noqa: E731
        patiently(available, BRING_UP, pause=0.1)
    tell(run=time.monotonic() - began)
    timed_rollback(started.cluster, mark)


def timed_rollback(cluster: Cluster, mark: Any) -> None:
    """Roll back; then do what the next test does first."""
    began = time.monotonic()
    try:
        cluster.roll_back(mark)
    except Exception as e:  # noqa: BLE001  # a row of the table says so
        tell(failed=f"{type(e).__name__}: {e}", rollback_failed=since(began))
        return
    tell(rollback=since(began))
    cluster.create_namespace("next")
    path = "/api/v1/namespaces/next/configmaps"
    patiently(lambda: cluster.client.request("POST", path, body=NAMED))
    tell(next=since(began))
    left = cluster.client.request("GET", PODS, query={"limit": "1"})["items"]
    if left:
        tell(failed=f"pods are left, {left[0]['metadata']['name']} first")


NAMED = {"metadata": {"name": "first"}}
TASKS: dict[str, Callable[..., None]] = {
    "write": nothing,
    "pod": first_pod,
    "deployment": first_deployment,
    "crds": crds,
    "nodes": all_nodes,
    "pods": many_pods,
    "rollback": deployed_pods,
}


# --- asking until it is so --------------------------------------------------


def check_running(pod: dict[str, Any]) -> None:
    if pod["status"].get("phase") != "Running":
        raise LookupError(pod["status"])


def check_available(deployment: dict[str, Any]) -> None:
    status = deployment.get("status", {})
    if status.get("availableReplicas") != deployment["spec"]["replicas"]:
        raise LookupError(status)


def check_nodes(client: Client, wanted: int) -> None:
    """Look whether all nodes are Ready."""
    ready = 0
    for node in nodes(client):
        conditions = node["status"].get("conditions") or ()
        ready += {"Ready": "True"}.items() <= {
            c["type"]: c["status"] for c in conditions
        }.items()
    if ready < wanted:
        raise LookupError(f"{ready} of {wanted} nodes are ready")


def check_untainted(client: Client) -> None:
    """Look whether all nodes take pods: controllers let them, once they are Ready."""
    if tainted := sum("taints" in node["spec"] for node in nodes(client)):
        raise LookupError(f"{tainted} nodes have taints")


def nodes(client: Client) -> list[dict[str, Any]]:
    answer = client.request("GET", NODES, query={"resourceVersion": "0"})
    items: list[dict[str, Any]] = answer["items"]
    return items


def check_all_running(client: Client) -> None:
    """Ask for one pod that does not run; there is none, in one small answer."""
    query = {"fieldSelector": "status.phase!=Running", "limit": "1"}
    answer = client.request("GET", PODS, query=query)
    if answer["items"] or answer["metadata"].get("continue"):
        raise LookupError(f"{answer['items'][:1]}")


def first_account(client: Client) -> None:
    """Wait for the ServiceAccount that pods need."""
    path = "/api/v1/namespaces/default/serviceaccounts/default"
    patiently(lambda: client.request("GET", path))


def each(action: Callable[[int], Any], count: int) -> None:
    """Do it for each number, in four threads."""
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(action, range(count)):
            pass


def patiently(
    action: Callable[[], Any], seconds: float = PATIENCE, pause: float = 0.005
) -> None:
    """Try again until it works."""
    never, deadline = threading.Event(), time.monotonic() + seconds
    while True:
        try:
            action()
        except Exception:
            if time.monotonic() > deadline:
                raise
            never.wait(pause)
        else:
            return


def since(began: float) -> float:
    return time.monotonic() - began


# --- telling ----------------------------------------------------------------


def say(word: str) -> None:
    """Print a word; after ``weigh``, wait until that is done."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()
    if word == "weigh":
        sys.stdin.readline()


def tell(**values: Any) -> None:
    say(json.dumps(values))


def main(who: str, nodes: str, task: str, *arguments: str) -> None:
    """Start, write, do the task, stop."""
    starting = kwokctl if os.sep in who else ours
    with starting(who, int(nodes)) as started:
        body = NAMED
        patiently(lambda: started.client.request("POST", CONFIG_MAPS, body=body))
        say("write")
        started.add_nodes()
        TASKS[task](started, *arguments)
        if task in {"write", "pod"}:
            say("weigh")
        say("stopping")
    say("stopped")


if __name__ == "__main__":
    main(*sys.argv[1:])
