"""What the etcd client makes of answers that no healthy etcd gives."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.errors import ClusterError
from pytest_kube.state.etcd import Change, CompactedError, Etcd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def answering() -> Iterator[Callable[..., Etcd]]:
    """Start a server that gives one answer to everything; return a client of it."""
    servers = []

    def start(body: bytes, status: int = 200, length: int | None = None) -> Etcd:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(length or len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        url = f"http://127.0.0.1:{server.server_port}"
        return Etcd(url, ssl.create_default_context())

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def told(*events: dict[str, Any], **further: Any) -> bytes:
    """Return a line of a watch."""
    return json.dumps({"result": {"events": events, **further}}).encode() + b"\n"


def event(revision: int, key: str = "/registry/a", **further: Any) -> dict[str, Any]:
    encoded = base64.b64encode(key.encode()).decode()
    return {"kv": {"key": encoded, "mod_revision": str(revision)}, **further}


def test_watch_that_ends_early_is_an_error(answering: Callable[..., Etcd]) -> None:
    """The first half of what happened is not taken for the whole."""
    etcd = answering(told() + told(event(2)) + told(event(3)))

    assert [c.revision for c in etcd.changes(1, 3)] == [2, 3]
    with pytest.raises(ClusterError, match="watch: it ended before revision 4"):
        etcd.changes(1, 4)


def test_watch_that_breaks_off_is_an_error(answering: Callable[..., Etcd]) -> None:
    """In the middle of an answer, as when the server dies."""
    etcd = answering(told(event(2)) + b'{"result": {"ev', length=10_000)

    with pytest.raises(ClusterError, match="watch: no answer: "):
        etcd.changes(1, 3)


def test_error_within_a_watch_is_told(answering: Callable[..., Etcd]) -> None:
    """The server's own words."""
    line = json.dumps({"error": {"code": 14, "message": "etcdserver: stopped"}})

    with pytest.raises(ClusterError, match="watch: .*etcdserver: stopped"):
        answering(told(event(2)) + line.encode() + b"\n").changes(1, 3)


def test_canceled_watch_is_told(answering: Callable[..., Etcd]) -> None:
    """With the reason; forgotten revisions are an error of their own."""
    with pytest.raises(ClusterError, match="watch: permission denied"):
        answering(told(canceled=True, cancel_reason="permission denied")).changes(1, 3)
    with pytest.raises(CompactedError, match="before revision 9; 2 was asked for"):
        answering(told(canceled=True, compact_revision="9")).changes(1, 3)


def test_values_that_are_empty_are_left_out_of_answers(
    answering: Callable[..., Etcd],
) -> None:
    """A created key without a value is not a deleted one."""
    lines = told(event(2), event(3, prev_kv={}), event(4, type="DELETE", prev_kv={}))

    assert answering(lines).changes(1, 4) == [
        Change(2, "/registry/a", None, b""),
        Change(3, "/registry/a", None, b""),
        Change(4, "/registry/a", None, None),
    ]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b'{"health": "false", "reason": "ALARM NOSPACE"}', 503, "/health: ALARM NOSP"),
        (b'{"health": "false"}', 200, "is not healthy: {'health': 'false'}"),
        (b'{"message": "no leader"}', 500, "/health: no leader"),
        (b"[1]", 500, r"/health: \[1\]"),
        (b" down for lunch\n", 502, "/health: down for lunch$"),
    ],
)
def test_bad_health_is_told_in_the_servers_words(
    answering: Callable[..., Etcd], body: bytes, status: int, text: str
) -> None:
    """Whatever shape they have."""
    with pytest.raises(ClusterError, match=text):
        answering(body, status).check_health()
