"""Programs that are missing and are downloaded."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_kube.binaries import download, releases
from pytest_kube.binaries.releases import Platform
from pytest_kube.binaries.store import Store
from pytest_kube.errors import BinaryError, SettingsError

from .binaries_server import (
    ETCD,
    KWOK_API,
    ReleaseServer,
    release_server,
    script,
    sha256,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINUX = Platform("linux", "amd64")
MACOS = Platform("darwin", "arm64")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseServer]:
    """The release hosts, as seen from Linux, with retries that don't wait."""
    monkeypatch.setattr(releases, "this_platform", lambda: LINUX)
    monkeypatch.setattr(download, "RETRY_WAIT", 0)
    with release_server() as server:
        yield server


@pytest.fixture
def lines() -> list[str]:
    """What was reported."""
    return []


@pytest.fixture
def store(server: ReleaseServer, tmp_path: Path, lines: list[str]) -> Store:
    """An empty store on a machine without Go."""
    environ = {
        "PYTEST_KUBE_CACHE": str(tmp_path / "cache"),
        "PYTEST_KUBE_MIRROR": server.mirror,
        "HOME": str(tmp_path),
    }
    return Store("1.36.3", environ=environ, report=lines.append)


def tree(folder: Path) -> list[str]:
    """The files below a folder, but for locks."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    )


def test_kubernetes_programs(
    server: ReleaseServer, store: Store, tmp_path: Path
) -> None:
    """Kubernetes' programs come from its release, can be run, and nothing else stays."""
    server.put_kubernetes("kube-apiserver", "1.36.3", script("Kubernetes v1.36.3"))
    server.put_kubernetes("kubectl", "1.36.3", script("Client Version: v1.36.3"))

    paths = store.require("kubectl", "kube-apiserver")

    answers = [subprocess.check_output([path]) for path in paths.values()]
    assert answers == [b"Client Version: v1.36.3\n", b"Kubernetes v1.36.3\n"]
    assert tree(tmp_path / "cache") == [
        "bin/linux-amd64/kube-apiserver-1.36.3/kube-apiserver",
        "bin/linux-amd64/kubectl-1.36.3/kubectl",
    ]


def test_etcd_from_its_archive(server: ReleaseServer, store: Store) -> None:
    """Etcd is taken out of its archive, whose checksum is one of several in a file."""
    server.put_etcd("3.6.12", script("etcd Version: 3.6.12"))

    path = store.require("etcd")["etcd"]

    assert path.read_bytes() == script("etcd Version: 3.6.12")


def test_kind(server: ReleaseServer, store: Store) -> None:
    """Kind has a checksum file of its own."""
    server.put_kind("0.33.0", script("kind version 0.33.0"))

    path = store.require("kind")["kind"]

    assert path.read_bytes() == script("kind version 0.33.0")


def test_kwok_by_the_digest_of_its_release(server: ReleaseServer, store: Store) -> None:
    """The checksum of kwok is the digest that GitHub tells."""
    server.put_kwok("0.8.0", script("kwok version v0.8.0"))

    path = store.require("kwok")["kwok"]

    assert path.read_bytes() == script("kwok version v0.8.0")


def test_kwok_wrong_digest(server: ReleaseServer, store: Store, tmp_path: Path) -> None:
    """The digest is not only read but compared; nothing but the lock stays."""
    server.put_kwok("0.8.0", script("kwok"), digest=f"sha256:{64 * '0'}")

    with pytest.raises(BinaryError, match=r"kwok 0\.8\.0: wrong checksum"):
        store.require("kwok")

    left = [path.name for path in (tmp_path / "cache/bin/linux-amd64").iterdir()]
    assert left == ["kwok-0.8.0.lock"]


def test_macos_from_the_envtest_archive(
    server: ReleaseServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For macOS, the API server comes from an envtest archive and etcd from a zip."""
    monkeypatch.setattr(releases, "this_platform", lambda: MACOS)
    server.put_envtest("1.36.3", script("Kubernetes v1.36.3"))
    server.put_etcd("3.6.12", script("etcd Version: 3.6.12"))

    paths = store.require("kube-apiserver", "etcd")

    assert [path.read_bytes() for path in paths.values()] == [
        script("Kubernetes v1.36.3"),
        script("etcd Version: 3.6.12"),
    ]


def test_macos_version_without_an_envtest_archive(
    server: ReleaseServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that the index of archives doesn't have is one that isn't there."""
    monkeypatch.setattr(releases, "this_platform", lambda: MACOS)
    server.put_envtest("1.36.2", script("Kubernetes v1.36.2"))

    with pytest.raises(BinaryError) as caught:
        store.require("kube-apiserver")

    assert (
        "/envtest-releases.yaml has no checksum of envtest-v1.36.3-darwin-arm64.tar.gz: "
        "kube-apiserver 1.36.3 does not exist, or not for darwin/arm64"
    ) in str(caught.value)


def test_progress(server: ReleaseServer, store: Store, lines: list[str]) -> None:
    """A line says what is downloaded from where, another how much it was."""
    server.put_kind("0.33.0", b"x" * 1_500_000)

    store.require("kind")

    assert lines[0] == (
        f"downloading kind 0.33.0 from {server.mirror}/github.com/kubernetes-sigs/kind/"
        "releases/download/v0.33.0/kind-linux-amd64 ..."
    )
    assert lines[-1].startswith("kind 0.33.0: 1.5 MB in ")


def test_wrong_checksum(server: ReleaseServer, store: Store, tmp_path: Path) -> None:
    """A file that is not what was published is an error, and isn't kept."""
    path = server.put_kubernetes("kubectl", "1.36.3", b"published")
    expected = server.files[f"{path}.sha256"].decode()
    server.files[path] = b"something else"

    with pytest.raises(BinaryError) as caught:
        store.require("kubectl")

    assert str(caught.value) == (
        "kubectl 1.36.3: wrong checksum, nothing was kept\n"
        f"  file      {server.mirror}/{path}\n"
        f"  expected  sha256 {expected}\n"
        f"  got       sha256 {sha256(b'something else')}\n"
        f"  by        {server.mirror}/{path}.sha256"
    )
    assert caught.value.name == "kubectl"
    assert tree(tmp_path / "cache") == []


def test_truncated(server: ReleaseServer, store: Store, tmp_path: Path) -> None:
    """A file that keeps ending early is an error after three attempts."""
    path = server.put_kubernetes("kubectl", "1.36.3", b"x" * 1000)
    server.truncated.add(path)

    with pytest.raises(BinaryError) as caught:
        store.require("kubectl")

    assert str(caught.value) == (
        "kubectl 1.36.3: the answer ends early, after 500 of 1000 bytes\n"
        f"  file  {server.mirror}/{path}\n"
        "  try again, or set PYTEST_KUBE_MIRROR to a mirror that is nearer"
    )
    assert server.hits[path] == 3
    assert tree(tmp_path / "cache") == []


def test_stalled(
    server: ReleaseServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stops sending is given up, with what came until then."""
    monkeypatch.setattr(download, "STALL_TIMEOUT", 0.1)
    path = server.put_kubernetes("kubectl", "1.36.3", b"x" * 1000)
    server.stalled.add(path)

    with pytest.raises(
        BinaryError,
        match=r"kubectl 1\.36\.3: no data for 0\.1 s, after 500 bytes in 0\.\d s\n  file",
    ):
        store.require("kubectl")


def test_server_error_passes(server: ReleaseServer, store: Store) -> None:
    """A server that fails now and then gets another attempt."""
    path = server.put_kubernetes("kubectl", "1.36.3", script("hello"))
    server.statuses[path] = [503, 502]

    assert store.require("kubectl")["kubectl"].read_bytes() == script("hello")
    assert server.hits[path] == 3


def test_server_error_stays(server: ReleaseServer, store: Store) -> None:
    """A server that keeps failing is as good as none."""
    path = server.put_kubernetes("kubectl", "1.36.3", script("hello"))
    server.statuses[path] = [503] * 3

    with pytest.raises(BinaryError) as caught:
        store.require("kubectl")

    assert f"{server.mirror}/{path}: HTTP status 503 (3 attempts)" in str(caught.value)


def test_no_such_version(server: ReleaseServer, store: Store) -> None:
    """A version that was never released is said to be so, with those that are known."""
    store = Store("1.36.99", environ=store.environ, report=store.report)

    with pytest.raises(BinaryError) as caught:
        store.require("kube-apiserver")

    text = str(caught.value)
    assert (
        f"    download                            {server.mirror}/dl.k8s.io/release/"
        "v1.36.99/bin/linux/amd64/kube-apiserver.sha256: HTTP status 404: "
        "kube-apiserver 1.36.99 does not exist, or not for linux/amd64\n"
    ) in text
    assert (
        "    - ask for a Kubernetes version that is known: "
        "1.33.13, 1.34.4, 1.35.4, 1.36.3, 1.37.2\n"
    ) in text


def test_macos_has_no_release(
    store: Store, monkeypatch: pytest.MonkeyPatch, server: ReleaseServer
) -> None:
    """What nobody publishes is not asked for."""
    monkeypatch.setattr(releases, "this_platform", lambda: MACOS)

    with pytest.raises(BinaryError, match="no release of kube-scheduler for darwin"):
        store.require("kube-scheduler")

    assert not server.hits


def test_checksum_not_published(server: ReleaseServer, store: Store) -> None:
    """A file without a checksum is not downloaded."""
    server.put_etcd("3.6.12", script("etcd"))
    sums = f"{ETCD}/v3.6.12/SHA256SUMS"
    server.files[sums] = b"00  etcd-v3.6.12-linux-arm64.tar.gz\n"

    with pytest.raises(BinaryError) as caught:
        store.require("etcd")

    assert (
        f"{server.mirror}/{sums} has no checksum of etcd-v3.6.12-linux-amd64.tar.gz: "
    ) in str(caught.value)
    assert server.hits.total() == 1


def test_broken_connection(server: ReleaseServer, store: Store) -> None:
    """A connection that ends without an answer gets other attempts."""
    path = server.put_kubernetes("kubectl", "1.36.3", script("hello"))
    server.statuses[path] = [0] * 3

    with pytest.raises(BinaryError) as caught:
        store.require("kubectl")

    assert f"{server.mirror}/{path}: the connection broke (" in str(caught.value)
    assert server.hits[path] == 3


def test_host_that_fails_is_left_alone(server: ReleaseServer, store: Store) -> None:
    """After a host failed for one program, it isn't asked for the next ones."""
    paths = [
        server.put_kubernetes(name, "1.36.3", script("hello"))
        for name in ("kube-scheduler", "kubectl")
    ]
    server.statuses[f"{paths[0]}.sha256"] = [503] * 3

    with pytest.raises(BinaryError) as caught:
        store.require("kube-scheduler", "kubectl")

    assert str(caught.value).count("HTTP status 503 (3 attempts)") == 2
    assert server.hits == {f"{paths[0]}.sha256": 3}


def test_refused(server: ReleaseServer, store: Store) -> None:
    """A status that says nothing about the file is passed on."""
    path = server.put_kubernetes("kubectl", "1.36.3", b"")
    server.statuses[f"{path}.sha256"] = [403]

    with pytest.raises(BinaryError, match=r"kubectl\.sha256: HTTP status 403\n"):
        store.require("kubectl")


def test_answer_of_something_else(server: ReleaseServer, store: Store) -> None:
    """A page of a captive network is not taken for a checksum."""
    server.put_kwok("0.8.0", b"")
    server.files[f"{KWOK_API}/v0.8.0"] = b"<html>Please log in</html>"

    with pytest.raises(BinaryError, match=r"v0\.8\.0: not what is published"):
        store.require("kwok")


def test_mirror_without_a_scheme(store: Store) -> None:
    """A mirror is a URL."""
    environ = {**store.environ, "PYTEST_KUBE_MIRROR": "mirror.example/k8s"}

    with pytest.raises(SettingsError) as caught:
        Store("1.36.3", environ=environ).require("kind")

    assert str(caught.value) == (
        "PYTEST_KUBE_MIRROR=mirror.example/k8s: give a URL, "
        "such as https://mirror.example"
    )


def test_proxy(
    server: ReleaseServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that the environment names is used, with its user and password."""
    proxy = server.mirror.replace("http://", "http://me:secret@").removesuffix(
        "/prefix"
    )
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    server.files["http://mirror.example/kind"] = b"by proxy"
    response = download._pool("http://mirror.example/").request(
        "GET", "http://mirror.example/kind"
    )

    assert response.data == b"by proxy"
    assert server.credentials == "Basic bWU6c2VjcmV0"


def test_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that the environment excepts are asked directly."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "mirror.example")

    assert download._pool("http://mirror.example/").proxy is None


def test_two_processes_download_once(server: ReleaseServer, store: Store) -> None:
    """The second process waits for the first, says so, and uses what it got."""
    path = server.put_kubernetes("kubectl", "1.36.3", script("hello"))
    server.stalled.add(path)
    code = (
        "from pytest_kube.binaries.store import Store\n"
        "Store('1.36.3').require('kubectl')"
    )
    command = [sys.executable, "-c", code]
    environ = {**os.environ, **store.environ, "PATH": "/nowhere"}

    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE) as first:
        assert server.asked.wait(10)
        with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE) as second:
            assert second.stderr is not None
            line = second.stderr.readline()
            server.go_on.set()

    assert (first.returncode, second.returncode) == (0, 0)
    assert line == b"waiting for another process that fetches kubectl 1.36.3\n"
    assert server.hits[path] == 1
