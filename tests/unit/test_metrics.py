"""How often a program reconciled, read from what controller-runtime serves."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from pytest_kube.controllers.metrics import reconciles
from pytest_kube.errors import ControllerError

if TYPE_CHECKING:
    from collections.abc import Iterator

HOW = (
    "A program that is built on controller-runtime tells by its metrics: give it "
    "--metrics-bind-address=127.0.0.1:{port:metrics}, in projects of Kubebuilder also "
    "--metrics-secure=false"
)
SERVED = """\
# HELP controller_runtime_reconcile_errors_total Total number of errors.
# TYPE controller_runtime_reconcile_errors_total counter
controller_runtime_reconcile_errors_total{controller="memcached"} 9
# TYPE controller_runtime_reconcile_total counter
controller_runtime_reconcile_total{controller="memcached",result="error"} 1
controller_runtime_reconcile_total{controller="memcached",result="requeue"} 0
controller_runtime_reconcile_total{controller="memcached",result="requeue_after"} 0
controller_runtime_reconcile_total{controller="memcached",result="success"} 7
controller_runtime_reconcile_total{controller="web",result="success"} 1.2e+06
"""


@pytest.fixture
def served() -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """The port of a metrics endpoint, and what it answers."""
    given: list[tuple[int, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, text = given.pop(0)
            self.send_response(code if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port, given
        server.shutdown()
        thread.join()


def test_results_are_added_up_over_all_controllers(
    served: tuple[int, list[tuple[int, str]]],
) -> None:
    """Those that never came are among them."""
    port, given = served
    given.append((200, SERVED))

    found = reconciles("manager", port)

    assert dict(found) == {
        "success": 1_200_007,
        "error": 1,
        "requeue": 0,
        "requeue_after": 0,
    }


@pytest.mark.parametrize(
    ("code", "text", "seen"),
    [
        (401, "Unauthorized", "answered 401: Unauthorized"),
        (403, "", "answered 403: Forbidden"),
        (
            400,
            "Client sent an HTTP request to an HTTPS server.\n",
            "answered 400: Client sent an HTTP request to an HTTPS server",
        ),
        (
            200,
            "go_goroutines 12\ngo_threads 7\n",
            "has no metric controller_runtime_reconcile_total; it has 2 lines of others",
        ),
    ],
)
def test_what_else_is_served_is_told(
    served: tuple[int, list[tuple[int, str]]], code: int, text: str, seen: str
) -> None:
    """And what the program has to be given instead."""
    port, given = served
    given.append((code, text))

    with pytest.raises(ControllerError) as caught:
        reconciles("manager", port)

    assert str(caught.value) == (
        f"controller manager: http://127.0.0.1:{port}/metrics {seen}. {HOW}"
    )


def test_endpoint_that_nobody_serves_is_told() -> None:
    """The reason of the system is in the text."""
    with pytest.raises(ControllerError) as caught:
        reconciles("manager", 1)

    text = str(caught.value)
    assert text.startswith("controller manager: http://127.0.0.1:1/metrics: ")
    assert "Connection refused" in text
    assert text.endswith(HOW)


def test_program_without_a_port_for_metrics_is_told_how() -> None:
    """Nothing can be asked of it."""
    with pytest.raises(ControllerError) as caught:
        reconciles("manager", None)

    assert str(caught.value) == (
        "controller manager: nobody tells how its reconciles ended. kopf does for its "
        f"handlers. {HOW}"
    )
