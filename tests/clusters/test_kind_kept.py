"""kind clusters that outlive a run, serve several workers, or were left by dead runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.errors import ClusterError
from pytest_kube.profiles import Profile
from pytest_kube.providers import kind
from pytest_kube.settings import Settings
from pytest_kube.system.kept import end, kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

docker = pytest.importorskip("docker", reason="needs the extra 'kind'")

pytestmark = pytest.mark.timeout(400)

LABEL = "io.x-k8s.kind.cluster"
TESTS = """\
import pytest

LEFT = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "left"}}


@pytest.mark.kube(isolation="none")
def test_leaves_something(kube):
    assert kube.find("namespace/left") is None
    kube.apply(LEFT)


def test_kills_the_node(kube):
    kube.node().kill()


def test_finds_it_again(kube):
    assert kube.get("namespace/left")
    kube.create({**LEFT, "metadata": {"name": "new"}})
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository with tests, whose clusters are not found by others."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "test_it.py").write_text(TESTS)
    yield repository
    for found in kept():
        end(found.directory)


@pytest.fixture
def clusters(docker_client: Any) -> Callable[[], set[str]]:
    """Return the clusters that others do not have."""

    def names() -> set[str]:
        # Not containers.list(): it inspects each, and some may be gone by then.
        found = docker_client.api.containers(all=True, filters={"label": LABEL})
        return {container["Labels"][LABEL] for container in found}

    before = names()
    return lambda: names() - before


def run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "--kube=kind", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    return ended.stdout + ended.stderr


def test_cluster_that_stays_is_rolled_back_for_the_next_run(
    folder: Path, clusters: Callable[[], set[str]]
) -> None:
    """Whatever the last one left in it, a node without power included."""
    first = run(folder, "--kube-reuse")
    (name,) = clusters()
    second = run(folder, "--kube-reuse", "-k", "not kills")

    assert "3 passed" in first, first
    assert f"creating kind cluster {name} with node image" in first
    assert "2 passed, 1 deselected" in second, second
    assert "creating" not in second
    assert clusters() == {name}
    (found,) = kept()
    assert end(found.directory)
    assert not clusters()


def test_workers_share_a_cluster(
    folder: Path, clusters: Callable[[], set[str]]
) -> None:
    """Each test has a namespace, and what it made besides is removed."""
    (folder / "test_it.py").write_text(
        """\
import pytest

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace"}


@pytest.mark.parametrize("number", range(4))
def test_has_its_own(kube, number):
    kube.create({**NAMESPACE, "metadata": {"name": f"beside-{number}"}})
    with open("clusters.txt", "a") as file:
        file.write(str(kube.cluster.guardian.directory) + "\\n")


def test_last(kube):
    kube.cluster.check()
"""
    )

    output = run(folder, "--kube-share", "-n", "2")

    assert "5 passed" in output, output
    assert len(set((folder / "clusters.txt").read_text().split())) == 1
    assert not clusters()


def test_what_a_dead_run_left_is_deleted_by_the_next_one(
    folder: Path, clusters: Callable[[], set[str]], docker_client: Any
) -> None:
    """Its guardian was killed, too: nobody else would."""
    code = (
        "from pytest_kube.providers import kind\n"
        "from pytest_kube.profiles import Profile\n"
        "from pytest_kube.settings import Settings\n"
        "p = Profile('kind', 'kind')\n"
        "with kind.create(p, Settings(p), print) as c:\n"
        "    print('guardian', c.guardian._pid, flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        told = next(line for line in lines if line.startswith("guardian"))
        os.kill(int(told.split()[1]), 9)
        process.kill()
    (name,) = clusters()
    lines_of_next: list[str] = []
    profile = Profile("kind", "kind", image="pytest-kube.invalid/no-such-node:1")

    with (
        pytest.raises(ClusterError),
        kind.create(profile, Settings(profile), lines_of_next.append),
    ):
        pass

    assert lines_of_next[0] == f"deleting kind cluster {name}: its run has died"
    deadline = time.monotonic() + 30
    while name in clusters():
        assert time.monotonic() < deadline
