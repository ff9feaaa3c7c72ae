"""The option --kube-reuse, and the commands up, down, status, kubeconfig."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.system.kept import kept
from pytest_kube.system.processes import Guardian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Project

TEST = """\
import json
import pathlib

LEFT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left"}}

def test_leaves(kube):
    assert kube.find("cm/left", namespace="default") is None
    path = pathlib.Path("clusters.json")
    known = json.loads(path.read_text()) if path.exists() else []
    path.write_text(json.dumps([*known, str(kube.cluster.guardian.directory)]))

@__import__("pytest").mark.kube(isolation="none")
def test_leaves_something(kube):
    kube.apply(LEFT)
"""
MAIN = "import sys; from pytest_kube.cli import main; sys.exit(main())"
CLUSTER = f"envtest cluster, Kubernetes v{DEFAULT_VERSION}"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which no other test's clusters are found."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    for found in kept():
        with Guardian.connect(found.directory, shared=False) as guardian:
            guardian.end()
    until(lambda: not list(folder.glob("pytest-kube-*")))


def used(project: Project) -> list[str]:
    """Return the folder of the cluster of each run so far."""
    found: list[str] = json.loads((project.path / "clusters.json").read_text())
    return found


def until(look: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        threading.Event().wait(0.02)
    return found


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_second_run_uses_the_cluster_of_the_first_rolled_back(
    project: Project,
) -> None:
    """What the first one left, by choice, is not there for the second."""
    project.test(TEST)

    for _ in range(2):
        project.run("--kube=envtest", "--kube-reuse").assert_outcomes(passed=2)

    first, second = used(project)
    assert first == second
    assert [k.about["name"] for k in kept()] == ["envtest"]


def test_other_crds_are_installed_in_the_same_cluster(project: Project) -> None:
    """A changed CRD is the one that the next run finds."""
    project.test(
        TEST + "def test_schema(kube):\n"
        "    crd = kube.get('crd/widgets.example.com')\n"
        "    schema = crd['spec']['versions'][0]['schema']['openAPIV3Schema']\n"
        "    names = schema['properties']['spec']['properties']\n"
        "    pathlib.Path('schema.json').write_text(json.dumps(sorted(names)))\n"
    )
    project.run("--kube=envtest", "--kube-reuse").assert_outcomes(passed=3)
    crd = project.path / "crds/widgets.yaml"
    crd.write_text(crd.read_text().replace("{size:", "{colour: {type: string}, size:"))

    project.run("--kube=envtest", "--kube-reuse").assert_outcomes(passed=3)

    assert len(set(used(project))) == 1
    names = json.loads((project.path / "schema.json").read_text())
    assert names == ["colour", "size"]


def test_two_runs_at_once_do_not_share(project: Project) -> None:
    """The second gets a cluster of its own, and says nothing of it."""
    project.test(TEST)
    project.run("--kube=envtest", "--kube-reuse").assert_outcomes(passed=2)
    (found,) = kept()

    with Guardian.connect(found.directory, shared=False):
        project.run("--kube=envtest", "--kube-reuse").assert_outcomes(passed=2)

    assert len(set(used(project))) == 2


def test_broken_cluster_is_replaced(project: Project) -> None:
    """Here, a component hangs; one that ended takes the others with it."""
    project.test(TEST)
    project.run("--kube=envtest", "--kube-reuse").assert_outcomes(passed=2)
    (found,) = kept()
    with Guardian.connect(found.directory, shared=False) as guardian:
        pids = {p.name: p.pid for p in guardian.processes()}
    os.kill(pids["kube-apiserver"], signal.SIGSTOP)

    result = project.run("--kube=envtest", "--kube-reuse")

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["kube: the kept cluster cannot be used again, a new one starts: GET *"]
    )
    assert len(set(used(project))) == 2


def test_mark_that_is_compacted_away_means_a_new_cluster(project: Project) -> None:
    """Never a cluster that only looks as it was."""
    project.test(
        TEST + "@__import__('pytest').mark.kube(isolation='none')\n"
        "def test_compacts(kube):\n"
        "    kube.patch('ns/default', {'metadata': {'labels': {'a': 'b'}}})\n"
        "    etcd = kube.cluster.state._etcd\n"
        "    etcd.compact(etcd.count('/')[0])\n"
    )
    project.run("--kube=envtest", "--kube-reuse").assert_outcomes(passed=3)

    result = project.run("--kube=envtest", "--kube-reuse")

    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        ["kube: the kept cluster cannot be used again, a new one starts: *compact*"]
    )
    assert len(set(used(project))) == 2


def test_killed_run_leaves_a_cluster_that_the_next_one_uses(project: Project) -> None:
    """kill -9 in the middle of a test: its objects are rolled back."""
    project.test(
        TEST + "def test_dies(kube):\n"
        "    import os, signal\n"
        "    kube.apply({**LEFT, 'metadata': {'name': 'left', 'namespace': 'default'}})\n"
        "    if len(json.loads(pathlib.Path('clusters.json').read_text())) == 1:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert project.run("--kube=envtest", "--kube-reuse").ret == -signal.SIGKILL

    project.run("--kube=envtest", "--kube-reuse").assert_outcomes(passed=3)

    assert len(set(used(project))) == 1


def test_cluster_of_another_version_of_ours_is_not_used(
    project: Project, temporary: Path
) -> None:
    """Nor one whose description cannot be read: it ends by itself, when idle."""
    project.test(TEST)
    project.run("--kube=envtest", "--kube-reuse").assert_outcomes(passed=2)
    (description,) = temporary.glob("pytest-kube-*/kept.json")
    told = json.loads(description.read_text())
    description.write_text(json.dumps({**told, "format": told["format"] - 1}))

    project.run("--kube=envtest", "--kube-reuse").assert_outcomes(passed=2)

    assert len(set(used(project))) == 2


def test_damaged_description_means_a_new_cluster(
    project: Project, temporary: Path
) -> None:
    """What is missing in it is named."""
    project.test(TEST)
    project.run("--kube=envtest", "--kube-reuse").assert_outcomes(passed=2)
    (description,) = temporary.glob("pytest-kube-*/kept.json")
    told = json.loads(description.read_text())
    del told["about"]["first"]
    description.write_text(json.dumps(told))

    result = project.run("--kube=envtest", "--kube-reuse")

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["kube: the kept cluster cannot be used*: 'first'"])


def test_existing_clusters_say_that_they_cannot(project: Project) -> None:
    """Before any test."""
    result = project.run("--kube=existing", "--kube-reuse")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --kube-reuse and --kube-share are for clusters of kwok, envtest and "
            "kind; an existing one is there before and after every run anyway"
        ]
    )


# --- the commands -------------------------------------------------------------


def test_up_starts_what_a_run_uses(project: Project) -> None:
    """kubectl can use it as well: its kubeconfig is printed."""
    project.test(TEST)

    up = command("up", "envtest")
    status = command("status")
    kubeconfig = command("kubeconfig", "envtest")
    project.run("--kube=envtest", "--kube-reuse").assert_outcomes(passed=2)
    down = command("down", "envtest")

    first, second = up.stdout.splitlines()
    assert first == f"{CLUSTER}; ends after 15 minutes without use"
    assert second == f"export KUBECONFIG={kubeconfig.stdout.strip()}"
    assert status.stdout.startswith(f"envtest      {CLUSTER}; idle, ends in 15 min; ")
    assert used(project) == [str(Path(kubeconfig.stdout).parents[1])]
    assert down.stdout == f"ended: {CLUSTER}\n"
    assert kept() == []


def test_nothing_that_stays(project: Project) -> None:
    """Each command says so; only who wants a path of it gets an error."""
    assert command("status").stdout == "no cluster stays\n"
    assert command("down").stdout == "nothing to end: no cluster stays\n"
    assert command("down", "web").stdout == "nothing to end: no cluster 'web' stays\n"
    failed = command("kubeconfig", "web")
    assert failed.returncode == 1
    assert failed.stderr == (
        "pytest-kube: no cluster 'web' stays; pytest-kube up web starts one\n"
    )


def test_idle_limit_ends_it() -> None:
    """Nobody has to remember to end it."""
    assert command("up", "envtest", "--idle", "0.01").returncode == 0

    until(lambda: not kept())


@pytest.mark.parametrize("minutes", ["0", "-1", "soon", "inf", "nan"])
def test_idle_limit_is_checked(minutes: str) -> None:
    """Before anything starts."""
    result = command("up", "envtest", f"--idle={minutes}")

    assert result.returncode == 2
    assert result.stderr.endswith(
        f"error: argument --idle: invalid minutes above 0 value: '{minutes}'\n"
    )


def test_up_with_a_name_that_does_not_exist() -> None:
    """The same text as that of pytest --kube."""
    result = command("up", "kwk")

    assert result.returncode == 1
    assert result.stderr.startswith(
        "pytest-kube: --kube=kwk: no such provider or profile; did you mean kwok?"
    )
