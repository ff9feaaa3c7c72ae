"""However a run ends, nothing of it is left: no process, no port, no folder."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Project

GONE_WITHIN = 2.0
"""Seconds after a SIGKILL in which everything has to be gone."""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="finds processes in Linux' /proc"
)

LONG_TEST = """\
def test_long(kube, kube_controller):
    print("the test runs", flush=True)
    open("running", "w").close()
    kube.wait_for("configmap/never", "create", timeout=60)
"""
STUCK = """\
import kopf, time

@kopf.on.create("widgets")
def reconcile(**_): pass

@kopf.on.cleanup()
def slow(**_):
    open("stopping", "w").close()
    time.sleep(3)
"""


class Run:
    """One pytest process, and a way to find everything that came of it."""

    def __init__(
        self, project: Project, provider: str, temporary: Path, *options: str
    ) -> None:
        temporary.mkdir()
        self.temporary = temporary
        self.env = env = {
            **os.environ,
            "TMPDIR": str(temporary),
            "PYTHONUNBUFFERED": "1",
        }
        self.output = temporary.parent / "output.txt"
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-s"]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*command, f"--kube={provider}", *options],
                cwd=project.path,
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def down(self) -> None:
        """End what the run kept."""
        main = "import sys; from pytest_kube.cli import main; sys.exit(main(['down']))"
        command = [sys.executable, "-c", main]
        subprocess.run(command, env=self.env, check=True, timeout=30)

    def left(self) -> list[str]:
        """Name the processes of this run that are alive, and its folders."""
        mark = f"TMPDIR={self.temporary}".encode()
        found = [str(p) for p in self.temporary.glob("pytest-kube-*")]
        for proc in Path("/proc").iterdir():
            if not proc.name.isdigit():
                continue
            try:
                environment = (proc / "environ").read_bytes().split(b"\0")
                command = (proc / "cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            if mark in environment and command:
                found.append(f"{proc.name}: {command.decode()[:100]}")
        return found

    def await_nothing_left(self, seconds: float) -> list[str]:
        """Wait until nothing is left; return what still is after *seconds*."""
        until(lambda: not self.left(), seconds)
        return self.left()


def until(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < deadline:
        if true():
            return True
        pause.wait(0.02)
    return true()


@pytest.mark.timeout(300)
def test_sigkill_at_random_moments_leaves_nothing(
    project: Project, tmp_path: Path
) -> None:
    """Twenty runs, killed while starting, testing or stopping; seed fixed."""
    project.test(LONG_TEST.replace("timeout=60", "timeout=0.5"))
    moments = random.Random(20261122)  # noqa: S311
    left: dict[float, list[str]] = {}
    for i in range(20):
        moment = moments.uniform(0.2, 4.5)
        folder = tmp_path / str(i)
        folder.mkdir()
        run = Run(project, ("kwok", "envtest")[i % 2], folder / "tmp")
        until(lambda run=run: run.process.poll() is not None, moment)  # type: ignore[misc]
        run.process.kill()
        run.process.wait(10)
        if remains := run.await_nothing_left(GONE_WITHIN):
            left[moment] = remains

    assert left == {}


@pytest.mark.parametrize("moment", ["start", "test", "stop"])
def test_ctrl_c_ends_the_run_and_leaves_nothing(
    project: Project, tmp_path: Path, moment: str
) -> None:
    """While the cluster starts, while a test waits, while the controller stops."""
    project.test(LONG_TEST)
    if moment == "stop":
        project.write("src/widget_operator.py", STUCK)
        project.test(LONG_TEST.replace("timeout=60", "timeout=0.1"))
    run = Run(project, "kwok", tmp_path / "tmp")
    reached = {
        "start": lambda: any("kube-apiserver" in line for line in run.left()),
        "test": (project.path / "running").exists,
        "stop": (project.path / "stopping").exists,
    }[moment]
    assert until(reached, 60), run.output.read_text()

    os.kill(run.process.pid, signal.SIGINT)
    code = run.process.wait(30)

    assert code == pytest.ExitCode.INTERRUPTED, run.output.read_text()
    assert "KeyboardInterrupt" in run.output.read_text()
    assert run.await_nothing_left(GONE_WITHIN) == []
    if moment == "test":
        folder = Path(".pytest-kube/artifacts/test_widgets.py.test_long")
        assert f"test_long was interrupted: {folder}" in run.output.read_text()
        summary = (project.path / folder / "summary.md").read_text("utf-8")
        assert summary.startswith("# interrupted: `test_widgets.py::test_long`")
        steps = (project.path / folder / "timeline.jsonl").read_text("utf-8")
        assert "kube.wait_for('configmap/never', 'create', timeout=60)" in steps


def test_normal_end_leaves_nothing(project: Project, tmp_path: Path) -> None:
    """A run that passes cleans up before it ends, not after."""
    project.test("def test_quick(kube): pass\n")
    run = Run(project, "kwok", tmp_path / "tmp")

    assert run.process.wait(60) == 0, run.output.read_text()
    assert run.left() == []


def test_leftovers_of_a_killed_guardian_are_swept_by_the_next_run(
    project: Project, tmp_path: Path
) -> None:
    """Even the guardian can be killed; its children die with it, its folder later."""
    project.test(LONG_TEST)
    first = Run(project, "envtest", tmp_path / "tmp")
    assert until((project.path / "running").exists, 60), first.output.read_text()
    guardian = next(line for line in first.left() if "guardian.py" in line)
    os.kill(int(guardian.partition(":")[0]), signal.SIGKILL)
    first.process.kill()
    first.process.wait(10)
    until(lambda: not any(": " in line for line in first.left()), GONE_WITHIN)
    folders = first.left()
    assert [Path(f).parent for f in folders] == [first.temporary]

    code = "from pytest_kube.system.processes import Guardian; Guardian().close()"
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(first.temporary)},
        timeout=20,
        check=True,
    )

    assert first.left() == []
