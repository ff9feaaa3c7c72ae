"""A stand-in for an API server: answers as told, watches that tests feed."""

from __future__ import annotations

import contextlib
import json
import queue
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from pytest_kube.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Request:
    """What a client asked."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


@dataclass
class Stream:
    """An open watch, as the server sees it."""

    query: dict[str, str]
    chunks: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)

    def send(self, type_: str, obj: dict[str, Any]) -> None:
        """Send an event."""
        self.raw(json.dumps({"type": type_, "object": obj}).encode() + b"\n")

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self.chunks.put(data)

    def end(self) -> None:
        """Close the watch."""
        self.chunks.put(None)


def status(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    """Return an answer as the API server gives it for an error."""
    return code, {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def resource(
    plural: str, kind: str, *short: str, scope: str = "Namespaced", verbs: str = ""
) -> dict[str, Any]:
    """Return a resource as discovery lists it."""
    return {
        "resource": plural,
        "responseKind": {"group": "", "version": "", "kind": kind},
        "scope": scope,
        "singularResource": kind.lower(),
        "shortNames": list(short),
        "verbs": (verbs or "create delete get list patch update watch").split(),
        "subresources": [{"subresource": "status"}],
    }


def group(name: str, version: str, *resources: dict[str, Any]) -> dict[str, Any]:
    """Return a group with one version as discovery lists it."""
    return {
        "metadata": {"name": name} if name else {},
        "versions": [
            {"version": version, "freshness": "Current", "resources": list(resources)}
        ],
    }


CORE = group(
    "",
    "v1",
    resource("configmaps", "ConfigMap", "cm"),
    resource("events", "Event", "ev"),
    resource("namespaces", "Namespace", "ns", scope="Cluster"),
    resource("pods", "Pod", "po"),
    resource("secrets", "Secret"),
)
APPS = group("apps", "v1", resource("deployments", "Deployment", "deploy"))
EVENTS = group("events.k8s.io", "v1", resource("events", "Event", "ev"))
WIDGETS = group("example.com", "v1", resource("widgets", "Widget", "wi"))


class FakeAPI:
    """Answers by path; a path that is not there is answered with 404.

    Attributes:
        url: Where it serves.
        client: A client of it.
        answers: Path to status and body, or a function of the request that returns
            both; a body is JSON data or bytes; status 0 closes the connection.
        groups: What discovery lists under ``/apis``.
        requests: Everything that was asked, in order.
        watches: The watches that were opened, for the test to take and feed.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.client = Client(self.url, ssl.create_default_context(), [("X-Who", "me")])
        self.groups = [APPS, EVENTS, WIDGETS]
        self.answers: dict[
            str, tuple[int, Any] | Callable[[Request], tuple[int, Any]]
        ] = {
            "/api": (200, {"items": [CORE]}),
            "/apis": lambda _: (200, {"items": self.groups}),
        }
        self.requests: list[Request] = []
        self.watches: queue.Queue[Stream] = queue.Queue()
        self.streams: list[Stream] = []

    def put(self, path: str, *items: dict[str, Any], version: str = "1") -> None:
        """Serve a collection."""
        metadata = {"resourceVersion": version}
        self.answers[path] = (200, {"metadata": metadata, "items": list(items)})

    def next_watch(self) -> Stream:
        """Return the next watch that a client opens or has opened."""
        return self.watches.get(timeout=2)

    def asked(self, path: str) -> list[Request]:
        """Return the requests for a path, watches left out."""
        return [r for r in self.requests if r.path == path and "watch" not in r.query]


@contextmanager
def fake_api() -> Iterator[FakeAPI]:
    """Run a `FakeAPI` on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(
                self.command,
                url.path,
                dict(parse_qsl(url.query)),
                json.loads(body) if body else None,
                dict(self.headers),
            )
            api.requests.append(request)
            answer = api.answers.get(url.path) or status(404, "NotFound", "not found")
            code, content = answer(request) if callable(answer) else answer
            with contextlib.suppress(OSError):  # a client that left is no error here
                if code == 200 and "watch" in request.query:
                    self._stream(Stream(request.query))
                elif code:
                    self._answer(code, content)
                else:
                    self.close_connection = True

        do_DELETE = do_GET = do_PATCH = do_POST = do_PUT = _serve  # noqa: N815  # its names

        def _answer(self, code: int, content: Any) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content)
            data = data if isinstance(data, bytes) else data.encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, stream: Stream) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            api.streams.append(stream)
            api.watches.put(stream)
            while chunk := stream.chunks.get():
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Keep quiet about clients that left."""

    with Server(("127.0.0.1", 0), Handler) as http:
        api = FakeAPI(http.server_port)
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield api
        finally:
            for stream in api.streams:
                stream.end()
            http.shutdown()
            thread.join()
            api.client._pool.clear()
