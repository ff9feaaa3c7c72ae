"""A stand-in for the release hosts: files behind a mirror URL, and what goes wrong."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KUBERNETES = "dl.k8s.io/release"
ETCD = "github.com/etcd-io/etcd/releases/download"
KIND = "github.com/kubernetes-sigs/kind/releases/download"
KWOK = "github.com/kubernetes-sigs/kwok/releases/download"
KWOK_API = "api.github.com/repos/kubernetes-sigs/kwok/releases/tags"
TOOLS = "github.com/kubernetes-sigs/controller-tools/releases/download"
TOOLS_INDEX = (
    "raw.githubusercontent.com/kubernetes-sigs/controller-tools/HEAD/"
    "envtest-releases.yaml"
)


def script(answer: str) -> bytes:
    """A program that prints *answer*, whatever it is asked."""
    return f"#!/bin/sh\necho '{answer}'\n".encode()


def put(path: Path, content: bytes, *, executable: bool = True) -> Path:
    """Write a program to *path*, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755 if executable else 0o644)
    return path


def tar_gz(member: str, content: bytes) -> bytes:
    """An archive of one file, behind a file that is not wanted."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, body in (("folder/README.md", b"hello"), (member, content)):
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    return archive.getvalue()


def zipped(member: str, content: bytes) -> bytes:
    """An archive of one file."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(member, content)
    return archive.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class ReleaseServer:
    """Serves files by host and path, as a mirror of the release hosts does.

    Attributes:
        mirror: The URL to set as ``PYTEST_KUBE_MIRROR``.
        files: What is served: path to body.
        hits: How often a path was asked for.
        truncated: Paths whose answers end after half of the body.
        stalled: Paths whose answers wait after half of the body, until `go_on` is set.
        statuses: Paths that answer with these statuses first, one after the other;
            0 closes the connection instead.
        asked: Set when a stalled path was asked for.
        credentials: What the last client said who it is, to this server as a proxy.
    """

    def __init__(self, port: int) -> None:
        self.mirror = f"http://127.0.0.1:{port}/prefix"
        self.files: dict[str, bytes] = {}
        self.hits: Counter[str] = Counter()
        self.truncated: set[str] = set()
        self.stalled: set[str] = set()
        self.statuses: dict[str, list[int]] = {}
        self.credentials: str | None = None
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def put_kubernetes(self, name: str, version: str, content: bytes) -> str:
        """Serve a program as dl.k8s.io does; return its path."""
        path = f"{KUBERNETES}/v{version}/bin/linux/amd64/{name}"
        self.files[path] = content
        self.files[f"{path}.sha256"] = sha256(content).encode()
        return path

    def put_etcd(self, version: str, content: bytes) -> None:
        """Serve etcd as its GitHub release does, for Linux and macOS."""
        stem = f"etcd-v{version}-linux-amd64"
        mac = f"etcd-v{version}-darwin-arm64"
        files = {
            f"{stem}.tar.gz": tar_gz(f"{stem}/etcd", content),
            f"{mac}.zip": zipped(f"{mac}/etcd", content),
        }
        folder = f"{ETCD}/v{version}"
        sums = [f"{sha256(body)}  {name}" for name, body in files.items()]
        self.files[f"{folder}/SHA256SUMS"] = "\n".join(sums).encode()
        self.files |= {f"{folder}/{name}": body for name, body in files.items()}

    def put_kind(self, version: str, content: bytes) -> None:
        """Serve kind as its GitHub release does."""
        path = f"{KIND}/v{version}/kind-linux-amd64"
        self.files[path] = content
        self.files[f"{path}.sha256sum"] = (
            f"{sha256(content)}  kind-linux-amd64\n".encode()
        )

    def put_kwok(self, version: str, content: bytes, *, digest: str = "") -> None:
        """Serve kwok, whose checksum only GitHub's API tells."""
        self.files[f"{KWOK}/v{version}/kwok-linux-amd64"] = content
        assets = [
            {"name": "kwok-linux-arm64", "digest": "sha256:00"},
            {
                "name": "kwok-linux-amd64",
                "digest": digest or f"sha256:{sha256(content)}",
            },
        ]
        document = json.dumps({"tag_name": f"v{version}", "assets": assets})
        self.files[f"{KWOK_API}/v{version}"] = document.encode()

    def put_envtest(self, version: str, content: bytes) -> None:
        """Serve an envtest archive for macOS, and the index of all."""
        name = f"envtest-v{version}-darwin-arm64.tar.gz"
        archive = tar_gz("controller-tools/envtest/kube-apiserver", content)
        self.files[f"{TOOLS}/envtest-v{version}/{name}"] = archive
        self.files[TOOLS_INDEX] = (
            "releases:\n"
            "  v1.23.5:\n"
            "    envtest-v1.23.5-darwin-arm64.tar.gz:\n"
            "      hash: '00'\n"
            f"  v{version}:\n"
            f"    {name}:\n"
            f"      hash: {hashlib.sha512(archive).hexdigest()}\n"
            f"      selfLink: https://github.com/x/{name}\n"
        ).encode()


@contextmanager
def release_server() -> Iterator[ReleaseServer]:
    """Run a `ReleaseServer` on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/prefix/")
            server.hits[path] += 1
            server.credentials = self.headers["Proxy-Authorization"]
            # A client that gave up is no error here.
            with suppress(OSError):
                self._serve(path)

        def _serve(self, path: str) -> None:
            if statuses := server.statuses.get(path):
                status = statuses.pop(0)
                if status:
                    self._answer(status, b"")
            elif path not in server.files:
                self._answer(404, b"no such file")
            else:
                self._answer(200, server.files[path], path)

        def _answer(self, status: int, body: bytes, path: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            half = len(body) // 2
            self.wfile.write(body[:half])
            if path in server.stalled:
                self.wfile.flush()
                server.asked.set()
                server.go_on.wait(30)
            if path not in server.truncated:
                self.wfile.write(body[half:])

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = ReleaseServer(http.server_port)
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.go_on.set()
            http.shutdown()
            thread.join()
