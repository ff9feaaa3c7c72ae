"""Programs that are missing and are built, by a stand-in for Go."""

from __future__ import annotations

import errno
import io
import os
import select
from typing import TYPE_CHECKING

import pytest

from pytest_kube.binaries import build, progress
from pytest_kube.binaries.store import Store
from pytest_kube.errors import BinaryError

from .binaries_server import put

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GO_MOD = """\
module k8s.io/kubernetes

go 1.26.0

require k8s.io/api v0.0.0

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/client-go => ./staging/src/k8s.io/client-go
)
"""


@pytest.fixture
def lines() -> list[str]:
    """What was reported."""
    return []


@pytest.fixture
def store(tmp_path: Path, lines: list[str]) -> Store:
    """An empty store on a machine with Go and without network."""
    environ = {
        "PYTEST_KUBE_CACHE": str(tmp_path / "cache"),
        "PYTEST_KUBE_MIRROR": "http://127.0.0.1:1",
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
    }
    return Store("1.36.3", environ=environ, report=lines.append)


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., None]:
    """Make a `go` that answers each of its commands with a piece of shell."""
    put(tmp_path / "module/go.mod", GO_MOD.encode())

    def make(**commands: str) -> None:
        download = f"""echo '{{"GoMod": "{tmp_path}/module/go.mod"}}'"""
        cases = {"mod": download, "list": "exit 1", **commands}
        body = "\n".join(f"{name}) {shell} ;;" for name, shell in cases.items())
        content = f"#!/bin/sh\nhere={tmp_path}\ncase $1 in\n{body}\nesac\n"
        put(tmp_path / "bin/go", content.encode())

    return make


def test_build_together(
    tmp_path: Path, store: Store, go: Callable[..., None], lines: list[str]
) -> None:
    """Programs of one module are built in one go, as a dependency of a module of ours."""
    go(
        build='cp go.mod $here/generated; echo "$@" >$here/arguments; '
        "env >$here/environ; "
        "touch programs/kube-apiserver programs/kubectl"
    )

    paths = store.require("kube-apiserver", "kubectl")

    assert all(os.access(path, os.X_OK) for path in paths.values())
    assert (tmp_path / "generated").read_text() == (
        "module pytest-kube.invalid/build\n"
        "go 1.26.0\n"
        "require k8s.io/kubernetes v1.36.3\n"
        "replace k8s.io/api => k8s.io/api v0.36.3\n"
        "replace k8s.io/client-go => k8s.io/client-go v0.36.3\n"
    )
    arguments = (tmp_path / "arguments").read_text()
    assert arguments.startswith(
        "build -mod=mod -trimpath -ldflags -s -w "
        "-X k8s.io/component-base/version.gitVersion=v1.36.3 "
        "-X k8s.io/component-base/version.gitMajor=1 "
        "-X k8s.io/component-base/version.gitMinor=36 "
    )
    assert arguments.endswith(
        "/programs/ k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl\n"
    )
    environ = (tmp_path / "environ").read_text().splitlines()
    assert {"CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off"} <= set(environ)
    assert lines[0] == (
        "building kube-apiserver, kubectl 1.36.3 from their Go module "
        "(once per machine, about 5 minutes) ..."
    )
    assert lines[-1] == "built kube-apiserver, kubectl 1.36.3 in 0 s"
    assert list((tmp_path / "cache/build").iterdir()) == []


def test_build_one_per_module(
    tmp_path: Path, store: Store, go: Callable[..., None], lines: list[str]
) -> None:
    """Programs of several modules are built one by one, each by its own name."""
    go(build='for last; do out=$last; [ "$p" = -o ] && touch "$out"; p=$last; done')

    paths = store.require("etcd", "kwok")

    assert [path.name for path in paths.values()] == ["etcd", "kwok"]
    assert [line for line in lines if line.startswith("building")] == [
        "building etcd 3.6.12 from its Go module (once per machine, about 1 minute) ...",
        "building kwok 0.8.0 from its Go module (once per machine, about 2 minutes) ...",
    ]


def test_relative_cache(
    tmp_path: Path,
    store: Store,
    go: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A relative cache folder is meant from where the user is, whoever works in it."""
    go(build="touch programs/kube-scheduler programs/kubectl")
    monkeypatch.chdir(tmp_path)
    environ = {**store.environ, "PYTEST_KUBE_CACHE": "here"}
    store = Store("1.36.3", environ=environ, report=store.report)

    # Asking twice for one program must not wait for oneself.
    paths = store.require("kubectl", "kube-scheduler", "kubectl")

    folder = tmp_path / "here/bin"
    assert all(path.is_relative_to(folder) for path in paths.values())
    assert all(path.is_file() for path in paths.values())


def test_build_fails(store: Store, go: Callable[..., None], tmp_path: Path) -> None:
    """A failed build shows the end of its output, and why nothing was downloaded."""
    go(build="for i in $(seq 40); do echo line $i; done; exit 2")

    with pytest.raises(BinaryError) as caught:
        store.require("kubectl")

    text = str(caught.value)
    assert text.startswith("kubectl 1.36.3: not found, and cannot be fetched\n")
    assert (
        "    download                            http://127.0.0.1:1/dl.k8s.io/release/"
        "v1.36.3/bin/linux/amd64/kubectl.sha256: the host cannot be reached "
        f"([Errno {errno.ECONNREFUSED}] Connection refused)\n"
        "    build                               go build failed with exit code 2\n"
        "  the last lines of the build\n"
        "    line 26\n"
    ) in text
    assert "    line 40\n  what helps\n" in text
    assert list((tmp_path / "cache").rglob("kubectl")) == []


def test_no_such_version(store: Store, go: Callable[..., None]) -> None:
    """A version that is no Go module either does not exist, and the error says so."""
    go(
        mod="""echo '{"Error": "unknown revision v1.36.99"}'; exit 1""",
        list="echo k8s.io/kubernetes v1.36.1 v1.36.3",
    )

    with pytest.raises(BinaryError) as caught:
        Store("1.36.99", environ=store.environ, report=store.report).require("kubectl")

    text = str(caught.value)
    assert text.startswith("kubectl 1.36.99 does not exist\n")
    assert (
        "    build                               "
        "there is no version v1.36.99 of the Go module k8s.io/kubernetes\n"
        "  the last lines of the build\n"
        "    unknown revision v1.36.99\n"
    ) in text


def test_modules_cannot_be_reached(store: Store, go: Callable[..., None]) -> None:
    """Where nobody can tell which versions exist, the version isn't blamed."""
    go(mod="echo no route to host >&2; exit 1", list="exit 1")

    with pytest.raises(BinaryError) as caught:
        store.require("kubectl")

    text = str(caught.value)
    assert text.startswith("kubectl 1.36.3: not found, and cannot be fetched\n")
    assert "go mod failed with exit code 1\n" in text
    assert "    no route to host\n" in text


def test_heartbeat(
    store: Store,
    go: Callable[..., None],
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A long build says now and then that it is still running, until its deadline."""
    monkeypatch.setattr(build, "HEARTBEAT", 0.02)
    monkeypatch.setattr(build, "DEADLINE", 0.2)
    go(build="exec sleep 60")

    with pytest.raises(BinaryError, match=r"go build did not end within 0\.2 s"):
        store.require("kubectl")

    assert "building kubectl 1.36.3, 0 s ..." in lines


def test_interrupt_kills_the_build(
    tmp_path: Path,
    store: Store,
    go: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing that Go started is left after Ctrl-C."""
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    go(build="exec 3>$here/alive; sleep 60 & wait")
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    monkeypatch.setattr(build, "HEARTBEAT", 0.05)

    def interrupt(line: str) -> None:
        if ", 0 s" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store("1.36.3", environ=store.environ, report=interrupt).require("kubectl")

    # The end of file: all that had it open are dead.
    select.select([reader], [], [], 5)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_say_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the lines of one job replace each other."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(progress.sys, "stderr", terminal)

    progress.say("kind: 1 MB ...")
    progress.say("kind: 2 MB in 1 s")
    job = progress.Progress(progress.say, 20)

    assert terminal.getvalue() == "\r\x1b[Kkind: 1 MB ...\r\x1b[Kkind: 2 MB in 1 s\n"
    assert job.interval == 0.2


def test_say_in_ci(capsys: pytest.CaptureFixture[str]) -> None:
    """Elsewhere each has a line."""
    progress.say("kind: 1 MB ...")
    progress.say("kind: 2 MB in 1 s")

    assert capsys.readouterr().err == "kind: 1 MB ...\nkind: 2 MB in 1 s\n"
