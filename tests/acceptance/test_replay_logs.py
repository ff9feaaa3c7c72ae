"""Logs of pods in a replay: kubectl asks the API server, and that the archive."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store
from pytest_kube.state import archive_file
from pytest_kube.state.archive import About, Stored

if TYPE_CHECKING:
    from pathlib import Path

MAIN = "import sys; from pytest_kube.cli import main; sys.exit(main())"
COMMAND = [sys.executable, "-c", MAIN, "replay"]
ABOUT = About(
    version=DEFAULT_VERSION,
    provider="kind",
    namespace="test",
    test="test_a.py::test_a",
    made=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    first=7,
    last=7,
)
LOG = """\
2026-01-02T03:04:01.000000001Z one
2026-01-02T03:04:02.500000000Z two
2026-01-02T03:04:04.000000000Z three
"""


def stored(key: str, kind: str, name: str, **further: Any) -> Stored:
    """Return an object as it is stored."""
    metadata = {"name": name, "uid": name, "creationTimestamp": "2026-01-02T03:04:00Z"}
    if key.endswith("/test"):
        metadata["namespace"] = "test"
    value = {"kind": kind, "apiVersion": "v1", "metadata": metadata, **further}
    return Stored(f"/registry/{key}/{name}", 7, value)


def pod(name: str, node: str, *containers: str) -> Stored:
    """Return a pod that runs."""
    spec = {"nodeName": node, "containers": [{"name": c} for c in containers]}
    return stored("pods/test", "Pod", name, spec=spec, status={"phase": "Running"})


ADDRESSES = [
    {"type": "InternalIP", "address": "192.0.2.7"},
    {"type": "Hostname", "address": "node-0"},
]
BASELINE = [
    stored("namespaces", "Namespace", "test"),
    stored("minions", "Node", "node-0", status={"addresses": ADDRESSES}),
    pod("web", "node-0", "main"),
    pod("two", "node-0", "main", "side"),
    pod("lost", "no-node", "main"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts of a test whose pods have logged something."""
    folder = tmp_path_factory.mktemp("artifacts")
    archive_file.write(folder / archive_file.NAME, ABOUT, BASELINE, [])
    for name, text in {
        "web/main.log": LOG,
        "web/main.previous.log": "2026-01-02T03:04:00Z before\n",
        "two/side.log": "2026-01-02T03:04:00Z of side\n",
    }.items():
        (folder / "pods/test" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "pods/test" / name).write_text(text, "utf-8")
    return folder


def shell(folder: Path, script: str) -> list[str]:
    """Run kubectl against a replay; return the lines that it wrote."""
    kubectl = Store(DEFAULT_VERSION).require("kubectl")["kubectl"]
    done = subprocess.run(
        [
            *COMMAND,
            str(folder),
            "--",
            "sh",
            "-ec",
            f"PATH={kubectl.parent}:$PATH\n{script}",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_logs_are_served(folder: Path) -> None:
    """All of it, a part of it, that of the last life; nothing more comes, so -f ends."""
    lines = shell(
        folder,
        """
        kubectl logs web
        kubectl logs web --tail=1 --timestamps
        kubectl logs web --previous
        kubectl logs web --since=2s
        kubectl logs web --since-time=2026-01-02T03:04:02Z -f
        kubectl logs two -c side
        kubectl logs web --limit-bytes=3
        """,
    )

    assert lines == [
        *("one", "two", "three"),
        "2026-01-02T03:04:04.000000000Z three",
        "before",
        "three",
        *("two", "three"),
        "of side",
        "one",
    ]


def test_what_has_no_log_is_told(folder: Path) -> None:
    """And containers that do not run can do nothing else; nothing waits for them."""
    lines = shell(
        folder,
        """
        exec 2>&1
        kubectl logs two -c main || true
        kubectl logs two -c side --previous || true
        kubectl logs two -c none || true
        kubectl logs lost || true
        kubectl exec web -- ls || true
        kubectl port-forward web :80 || true
        kubectl attach web 2>&1 | tail -n1
        """,
    )

    runs_nothing = (
        "unable to upgrade connection: this is the replay of an archive: its "
        "containers do not run, only what they have logged is there"
    )
    assert lines == [
        "Error from server (BadRequest): the archive has no log of container main of "
        "pod test/two; one that never started has none",
        "Error from server (BadRequest): the archive has no log of the last life of "
        "container side of pod test/two; one that never started has none",
        "error: container none is not valid for pod two out of: main, side",
        # Kubernetes' own words, of a node that is gone.
        'Error from server (NotFound): pods "no-node" not found',
        f"error: Internal error occurred: {runs_nothing}",
        f"error: error upgrading connection: {runs_nothing}",
        f"error: Internal error occurred: {runs_nothing}",
    ]


def test_archive_without_logs_says_where_there_are_some(tmp_path: Path) -> None:
    """Containers of kwok and envtest clusters never ran."""
    archive_file.write(tmp_path / archive_file.NAME, ABOUT, BASELINE, [])

    lines = shell(tmp_path, "kubectl logs web 2>&1 || true")

    assert lines == [
        "Error from server (BadRequest): the archive has no log of container main of "
        "pod test/web, nor of any other: there are logs of pods only where their "
        "containers really run, as on kind"
    ]


def test_nodes_keep_their_addresses(folder: Path) -> None:
    """The one where their logs are comes after them."""
    lines = shell(folder, "kubectl get nodes -o 'jsonpath={..address}'; echo")

    assert lines == ["192.0.2.7 node-0 127.0.0.1"]
