"""A kubelet that runs nothing: the API server asks it for the logs of an archive.

Only who has the certificate of its one client may ask. kwok can serve logs, too; but
it is one more process to wait for, asks for nobody's certificate, knows no log of a
container's last life, and writes to nodes and pods, which are to stay as they were.
"""

from __future__ import annotations

import contextlib
import http.server
import socketserver
import ssl
import threading
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from pytest_kube import container_logs
from pytest_kube.container_logs import Container, Wanted
from pytest_kube.errors import ArchiveError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

__tracebackhide__ = hide_frames

TIMEOUT = 5.0
"""Seconds in which a client has to say something, or to read what it asked for."""

_POLL = 0.05  # seconds that its end takes, at most

_RUNS_NOTHING = (
    "this is the replay of an archive: its containers do not run, only what they have "
    "logged is there"
)


class Kubelet(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Has its port from the beginning, and serves when there are certificates.

    Args:
        folder: The folder of artifacts.
        now: What time it is: when the archive was made.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path, now: datetime) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.now = now

    @contextlib.contextmanager
    def serving(self, pki: Path) -> Iterator[None]:
        """Serve, with certificates from a folder as ``certs.kubelet`` makes them."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "kubelet.crt", pki / "kubelet.key")
        context.load_verify_locations(pki / "kubelet-ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        # A client that is slow at its handshake is waited for in its own thread.
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = threading.Thread(target=self.serve_forever, args=(_POLL,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()

    def server_bind(self) -> None:
        """Bind, without asking who this machine is, which may take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: strangers that knock are no concern of the user's."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Kubelet
    timeout = TIMEOUT

    def do_GET(self) -> None:
        """Answer with a log, or say why not."""
        url = urlsplit(self.path)
        match [unquote(part) for part in url.path.split("/")]:
            case ["", "containerLogs", namespace, pod, name]:
                asked = {n: values[-1] for n, values in parse_qs(url.query).items()}
                is_previous = asked.get("previous") == "true"
                container = Container(namespace, pod, name, is_previous)
            case _:
                self.do_POST()
                return
        try:
            wanted = self._wanted(asked)
            log = container_logs.read(self.server.folder, container, wanted)
        except ArchiveError as e:
            self._answer(HTTPStatus.BAD_REQUEST, str(e).encode())
        except (ValueError, OverflowError):
            self._answer(HTTPStatus.BAD_REQUEST, f"{url.query}: no query".encode())
        else:
            self._answer(HTTPStatus.OK, log)

    def do_POST(self) -> None:
        """Run nothing: this is how containers are asked to."""
        self._answer(HTTPStatus.BAD_REQUEST, _RUNS_NOTHING.encode())

    def _wanted(self, asked: dict[str, str]) -> Wanted:
        since = container_logs.utc(t) if (t := asked.get("sinceTime")) else None
        if seconds := asked.get("sinceSeconds"):
            since = self.server.now - timedelta(seconds=int(seconds))
        tail, limit = (
            max(0, int(asked[name])) if name in asked else None
            for name in ("tailLines", "limitBytes")
        )
        return Wanted(since, tail, limit, asked.get("timestamps") == "true")

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Write nothing to the terminal."""
