"""What SECURITY.md promises of a run: where it listens, and who can read its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store

if TYPE_CHECKING:
    from .conftest import Project

KEY = b"PRIVATE KEY-----"
MARKS = [KEY, *(b64encode(b"-" * n + KEY)[4:16] for n in range(3))]
"""What a private key has in it: as it is, and in base64, wherever it begins."""

LISTENERS = """\
import os
import re
from pathlib import Path

LOOPBACK = {"0100007F", "00000000000000000000000001000000"}

def parents():
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        found[int(status.parent.name)] = int(re.search(r"PPid:\\t(\\d+)", text)[1])
    return found

def family(root):
    known, members = parents(), {root}
    while more := {p for p, q in known.items() if q in members} - members:
        members |= more
    return members

def sockets(pid):
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if (target := os.readlink(fd)).startswith("socket:["):
                yield target[8:-1]
        except OSError:
            continue

def listeners(root):
    inodes = {}
    for pid in family(root):
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            inodes |= dict.fromkeys(sockets(pid), name)
        except OSError:
            continue
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                yield inodes[fields[9]], fields[1].split(":")[0] in LOOPBACK
"""
LISTENING = """\
import json
import os
import pathlib
import sys

import pytest
from listeners import listeners

PROGRAM = '''
import http.server, sys
print("started", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])),
                       http.server.BaseHTTPRequestHandler).serve_forever()
'''

def test_listens(kube, kube_controller, run_controller):
    run_controller([sys.executable, "-c", PROGRAM, "{port:x}"], ready="log:started")
    kube.cluster.guardian.keep(idle=60, about={})
    found = sorted(set(listeners(os.getpid())))
    pathlib.Path("found.json").write_text(json.dumps(found))
    assert not found, "leaves an archive"
"""
SECRETS = """\
def test_has_secrets(kube, kube_controller):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"},
              "stringData": {"password": "correct horse"}}
    kube.apply(secret)
    kube.as_user("jane")
    kube.as_service_account("default")
    assert kube.find("secret/b")
"""
on_linux = pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="reads Linux' /proc"
)


def readable(root: Path) -> list[Path]:
    """Return the files with a private key in them that others can come to and read."""
    found = []
    for folder, below, files in os.walk(root):
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink() and path.is_file():
                content = path.read_bytes()
                if path.stat().st_mode & 0o077 and any(m in content for m in MARKS):
                    found.append(path)
        # What is in a folder of the user's own is nobody else's.
        below[:] = [n for n in below if Path(folder, n).stat().st_mode & 0o077]
    return found


def holding_keys(root: Path) -> list[str]:
    """Return the names of all files with a private key in them."""
    return [
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and any(m in path.read_bytes() for m in MARKS)
    ]


@on_linux
@pytest.mark.parametrize("provider", ["kwok", "envtest"])
def test_nothing_listens_beyond_loopback(project: Project, provider: str) -> None:
    """Control plane, gate, controllers, the guardian of a cluster that stays."""
    project.write("listeners.py", LISTENERS)
    project.ini(
        'pythonpath = ["."]',
        'kube_crds = ["crds"]',
        'kube_controller = "kopf:src/widget_operator.py"',
    )
    project.test(LISTENING)

    project.run(f"--kube={provider}").assert_outcomes(failed=1)

    found = dict(json.loads((project.path / "found.json").read_text()))
    plane = {"etcd", "kube-apiserver"}
    if provider == "kwok":
        plane |= {"kube-controller", "kube-scheduler", "kwok"}
    assert plane < found.keys()
    assert len(found) >= len(plane) + 1
    assert set(found.values()) == {True}


@on_linux
def test_replay_listens_on_loopback_only(project: Project) -> None:
    """API server, etcd, and what stands in for kubelets."""
    project.write("listeners.py", LISTENERS)
    project.ini()
    project.test("def test_fails(kube):\n    assert not kube.namespace\n")
    project.run("--kube=envtest").assert_outcomes(failed=1)
    (artifact,) = (project.path / ".pytest-kube/artifacts").glob("*/state.jsonl.gz")
    look = (
        "import json, os; from listeners import listeners; "
        "print(json.dumps(sorted(listeners(os.getppid()))))"
    )
    main = "from pytest_kube.cli import main; exit(main())"

    done = subprocess.run(
        [
            *(sys.executable, "-c", main, "replay", str(artifact)),
            *("--", sys.executable, "-c", look),
        ],
        cwd=project.path,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )

    found = json.loads(done.stdout.splitlines()[-1])
    names = [name for name, _ in found]
    assert {"etcd", "kube-apiserver"} < set(names)
    assert all(is_loopback for _, is_loopback in found)


def test_private_keys_are_for_the_user_only(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the cache and in temporary files, which stay with the cluster.

    Without a umask, so that nothing but our own modes keeps others out.
    """
    folder, cache, temporary = (
        project.path / name for name in ("programs", "cache", "tmp")
    )
    for each in (folder, temporary):
        each.mkdir()
    programs = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    store = Store(DEFAULT_VERSION).require(*programs, "kwok", "kubectl")
    for name, path in store.items():
        (folder / name).symlink_to(path)
    monkeypatch.setenv("PYTEST_KUBE_CACHE", str(cache))
    monkeypatch.setenv("TMPDIR", str(temporary))
    project.write("conftest.py", "import os\nos.umask(0)\n")
    project.test(SECRETS)

    result = project.run(
        *("--kube=kwok", "--kube-reuse", "--kube-artifacts=all"),
        f"--kube-binaries={folder}",
    )
    try:
        result.assert_outcomes(failed=1)
        assert readable(cache) == []
        assert readable(temporary) == []
        assert any("templates" in name for name in holding_keys(cache))
        assert any("kubeconfigs" in name for name in holding_keys(temporary))
        assert holding_keys(project.path / ".pytest-kube") == []
    finally:
        main = "from pytest_kube.cli import main; exit(main(['down']))"
        subprocess.run([sys.executable, "-c", main], timeout=60, check=True)
    assert list(temporary.glob("pytest-kube-*")) == []
