"""What the operator talks to besides the API server: Dask's scheduler, by its name."""

import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_kube import Cluster, Kube, Object, ready

WORKERS = "dask.org/component=worker"


@pytest.fixture
def nodes(kube_cluster: Cluster) -> None:
    """Skip the test where pods don't run."""
    if "nodes" not in kube_cluster.capabilities:
        pytest.skip("needs pods that run: --kube=kwok or --kube=kind")


@pytest.fixture
def wait_for_workers(kube: Kube, kube_client: Any) -> Callable[[int], list[Object]]:
    """Wait until there is a number of workers, and all are ready; return them."""
    deployments = kube_client.resources.get(api_version="apps/v1", kind="Deployment")

    def wait(count: int) -> list[Object]:
        workers: list[Object] = []
        for _ in deployments.watch(
            namespace=kube.namespace, label_selector=WORKERS, timeout=30
        ):
            workers = kube.list("deployments", labels=WORKERS)
            if len(workers) == count and all(map(ready, workers)):
                return workers
        return pytest.fail(f"not {count} ready workers, but: {workers}")

    return wait


class SchedulerAPI(http.server.BaseHTTPRequestHandler):
    """The part of a Dask scheduler's HTTP API that the operator uses."""

    def do_GET(self) -> None:
        """Say how many workers the work at hand could use."""
        assert self.path == "/api/v1/adaptive_target"
        self.answer({"workers": 100})

    def do_POST(self) -> None:
        """Retire workers: here the first ones of the alphabet."""
        assert self.path == "/api/v1/retire_workers"
        count = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["n"]
        workers = self.server.kube.list("deployments", labels=WORKERS)
        names = sorted(worker.name for worker in workers)[:count]
        self.answer({f"tcp://{name}:8786": {"name": name} for name in names})

    def answer(self, body: dict[str, Any]) -> None:
        """Send JSON."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@pytest.fixture
def scheduler(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand in for the scheduler of the cluster "simple", whose pod only seems to run.

    The operator finds it as always: by its Service's name in the cluster's DNS.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SchedulerAPI)
    server.kube = kube
    name, getaddrinfo = f"simple-scheduler.{kube.namespace}", socket.getaddrinfo

    def cluster_dns(host: str, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host == name:
            host, port = server.server_address
        return getaddrinfo(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", cluster_dns)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield
    server.shutdown()
    server.server_close()
    thread.join()
