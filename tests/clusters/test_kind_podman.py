"""kind with podman in docker's place. Runs where podman has the node image."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from pytest_kube.binaries.releases import DEFAULT_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("docker", reason="needs the extra 'kind'")

IMAGE = f"docker.io/kindest/node:v{DEFAULT_VERSION}"
TESTS = """\
def test_runs_a_pod(kube):
    (node,) = kube.list("nodes")
    names = [name for image in node["status"]["images"] for name in image["names"]]
    image = next(name for name in names if "/pause:" in name)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    kube.create({**pod, "spec": {"containers": [{"name": "c", "image": image}]}})
    kube.wait_for("pod/p", "condition=Ready", timeout=60)
    assert kube.history("pod/p")[0].user == "pytest-kube-admin"


def test_is_rolled_back(kube):
    names = [namespace.name for namespace in kube.list("namespaces")]
    assert not [name for name in names if name.startswith("test-runs-a-pod")]


def test_pauses(kube):
    kube.node().pause()
"""


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which kind and pytest-kube use podman."""
    program = shutil.which("podman")
    if not program:
        pytest.skip("podman is not installed")
    if subprocess.run([program, "image", "exists", IMAGE], check=False).returncode:
        pytest.skip(f"podman has no {IMAGE}; podman pull it")
    path = tmp_path / "podman.sock"
    service = [program, "system", "service", "--time=0", f"unix://{path}"]
    with subprocess.Popen(service) as process:
        deadline = time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < deadline
        yield {
            **os.environ,
            "KIND_EXPERIMENTAL_PROVIDER": "podman",
            "CONTAINER_HOST": f"unix://{path}",
        }
        process.terminate()


@pytest.mark.timeout(300)
def test_tests_run_with_podman(podman: dict[str, str], tmp_path: Path) -> None:
    """Pods, history and rollback as with docker."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "--kube=kind", "-p", "no:cacheprovider"]

    run = subprocess.run(
        command,
        cwd=folder,
        env=podman,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert "3 passed" in run.stdout, run.stdout + run.stderr
