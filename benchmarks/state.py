"""What a test costs on a running cluster: isolation, whole runs, reuse, history."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from children import ChildError, progress
from figures import Figure
from objects import config_map, crd, of_a_test
from starter import cluster, each, since

from pytest_kube.errors import KubeError
from pytest_kube.kube import Kube

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from children import Bench

    from pytest_kube.cluster import Cluster

CHANGES = 2000
TESTS = 100
DEADLINE = 300.0
"""Seconds for one run of pytest."""

TEST_OF_EVERYTHING = """\
import json
from pathlib import Path

import pytest

OBJECTS = json.loads(Path(__file__).with_name("objects.json").read_text())


@pytest.mark.parametrize("number", range({tests}))
def test_everything(kube, number):
    for obj in OBJECTS:
        kube.create(obj)
    kube.wait_for("deployment/web", "condition=Available")
"""
TEST_OF_LITTLE = """\
def test_little(kube):
    kube.create({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings"},
        "data": {"a": "1"},
    })
    assert kube.get("configmap/settings")["data"] == {"a": "1"}
"""
TEST_OF_NOTHING = "def test_empty(): pass\n"


# --- on a cluster of this process -------------------------------------------


def isolation(bench: Bench) -> Iterator[Figure]:
    """Row 6."""
    file = bench.folder / "crd.yaml"
    file.write_text(yaml.safe_dump(crd(0)))
    marks, rollbacks, deletions = [], [], []
    with cluster("kwok", 3) as ours:
        ours.install_crds([file])
        for i in range(max(20, bench.runs) + 1):
            began = time.monotonic()
            mark = ours.mark()
            marked = since(began)
            _as_a_test_does(ours, f"test-{i}")
            began = time.monotonic()
            ours.roll_back(mark)
            if i:
                rollbacks.append(since(began))
                marks.append(marked)
            ours.release(mark)
        progress(f"isolation: {rollbacks}")
        for i in range(bench.few(3)):
            kube = _as_a_test_does(ours, f"deleted-{i}")
            deletions.append(_delete(kube))
            progress(f"isolation: deletion of a namespace {deletions[-1]}")
    yield Figure(
        "isolation: rollback of a namespace, 10 objects with finalizers, "
        "a Deployment of 3",
        rollbacks,
        "deletion of the namespace",
        deletions,
        unit="ms",
        bar=0.015,
    )
    yield Figure("isolation: the mark before it", marks, unit="ms")


def _as_a_test_does(ours: Cluster, namespace: str) -> Kube:
    ours.create_namespace(namespace)
    kube = Kube(ours, namespace, timeout=30)
    for obj in of_a_test():
        kube.create(obj)
    kube.wait_for("deployment/web", "condition=Available")
    return kube


def _delete(kube: Kube) -> float:
    """Delete a namespace by the API, until it is gone; return the seconds."""
    began = time.monotonic()
    for obj in kube.list("thing0s.bench.example.com"):
        kube.patch(obj, {"metadata": {"finalizers": None}})
    kube.delete(f"namespace/{kube.namespace}", timeout=60)
    return since(began)


def history(bench: Bench) -> Iterator[Figure]:
    """Row 9."""
    objects, users = [], []
    with cluster("kwok", 3) as ours:
        mark = ours.mark()
        kube = Kube(ours, "default", mark_revision=mark.since)
        each(lambda i: kube.create(config_map(f"change-{i}")), CHANGES)
        for _ in range(max(bench.runs, 3)):
            began = time.monotonic()
            versions = kube.history()
            objects.append(since(began))
            known = sum(version.user is not None for version in versions)
            users.append(since(began))
            made = sum(version.ref.startswith("ConfigMap") for version in versions)
            if made != CHANGES:
                raise ChildError(f"history: {made} ConfigMaps, not {CHANGES}")
    yield Figure(
        f"history of {CHANGES:,} changes",
        objects,
        bar=0.3,
        note=f"{len(versions)} versions",
    )
    yield Figure(
        "the same, and the user of each of them",
        users,
        note=f"{known} of {len(versions)} known",
    )


# --- whole runs of pytest ---------------------------------------------------


def hundred(bench: Bench) -> Iterator[Figure]:
    """Row 7."""
    folder = bench.folder / "hundred"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\nkube_crds = crd.yaml\n")
    (folder / "crd.yaml").write_text(yaml.safe_dump(crd(0)))
    (folder / "objects.json").write_text(json.dumps(of_a_test()))
    tests = TEST_OF_EVERYTHING.format(tests=TESTS)
    (folder / "test_everything.py").write_text(tests)
    first = "test_everything.py::test_everything[0]"
    _pytest(folder, "--kube=kwok", first)  # a template with the CRD is there from now
    seconds = []
    for i in range(bench.few(3)):
        progress(f"hundred: run {i + 1}")
        seconds.append(_pytest(folder, "--kube=kwok"))
        progress(f"    {seconds[-1]}")
    yield Figure(
        f"`pytest --kube=kwok`, {TESTS} such tests, whole command", seconds, bar=30.0
    )


def reuse(bench: Bench) -> Iterator[Figure]:
    """Row 8."""
    what = "`pytest --kube=kwok --kube-reuse`, one test, second run, whole command"
    if "--kube-reuse" not in _output(bench.folder, "-m", "pytest", "--help"):
        yield Figure(what, [], bar=0.8, note="not there")
        return
    # Kept planes are looked for in the folder for temporary files: not those of others.
    folder = bench.folder / "reuse"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_little.py").write_text(TEST_OF_LITTLE)
    temporary = {"TMPDIR": str(bench.folder)}
    command = ("--kube=kwok", "--kube-reuse")
    try:
        first = _pytest(folder, *command, **temporary)
        seconds = [_pytest(folder, *command, **temporary) for _ in range(bench.runs)]
    finally:
        program = shutil.which("pytest-kube", path=str(Path(sys.executable).parent))
        if program:
            _run([program, "down"], folder, temporary, 60)
    progress(f"reuse: {first}, then {seconds}")
    yield Figure(what, seconds, bar=0.8)
    yield Figure("the first run, which starts the plane", [first])


def plugin(bench: Bench) -> Iterator[Figure]:
    """What the plugin costs a run that does not use it, in CPU seconds.

    Not the time on the wall: of 200 ms, a shared machine takes or gives 50.
    """
    (bench.folder / "test_empty.py").write_text(TEST_OF_NOTHING)
    base = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    base += ["test_empty.py"]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    taken: tuple[list[float], list[float]] = ([], [])
    for i in range(max(bench.runs, 25) + 1):
        for seconds, extra in zip(
            taken, (["-p", "pytest_kube.plugin"], []), strict=True
        ):
            process = subprocess.Popen(
                [*base, *extra], cwd=bench.folder, env=env, stdout=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if i:  # the first run fills caches
                seconds.append(usage.ru_utime + usage.ru_stime)
    yield Figure(
        "`pytest -q`, one empty test: CPU with the plugin",
        taken[0],
        "without",
        taken[1],
        unit="ms",
    )


def _pytest(folder: Path, *arguments: str, **env: str) -> float:
    """Run pytest, by this interpreter, with our plugin only; return the seconds."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_kube.plugin"]
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    began = time.monotonic()
    output, code = _run([*command, *arguments], folder, env, DEADLINE)
    seconds = since(began)
    if code:
        raise ChildError(f"{' '.join(arguments)} ended with {code}:\n{output[-3000:]}")
    return seconds


def _output(folder: Path, *arguments: str) -> str:
    return _run([sys.executable, *arguments], folder, {}, DEADLINE)[0]


def _run(
    command: Sequence[str], folder: Path, env: dict[str, str], deadline: float
) -> tuple[str, int]:
    # What it leaves running may hold a pipe open: a file does not wait for that.
    log = folder / "output.log"
    with log.open("w") as file:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=deadline,
        )
    return log.read_text(errors="replace"), done.returncode


FAILURES = (ChildError, KubeError, subprocess.SubprocessError, OSError)
"""What may go wrong with a row, without ending the others."""
