"""pytest-xdist: a cluster for each worker, or one for all of them by --kube-share."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .test_interrupts import GONE_WITHIN, Run

if TYPE_CHECKING:
    from .conftest import Project

TEST = """\
import os, pathlib, signal
import pytest

THING = {{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "thing"}}}}
HERE = pathlib.Path(__file__).parent

@pytest.mark.parametrize("i", range(12))
def test_many(kube, i):
    assert kube.find("cm/thing") is None
    kube.apply(THING)
    server = kube.cluster.client.server.rpartition(":")[2]
    (HERE / f"server-{{server}}").touch()
    if i in {killed}:
        os.kill(os.getpid(), signal.SIGKILL)
    assert kube.get("cm/thing").namespace == kube.namespace
"""


def servers(project: Project) -> list[str]:
    return [path.name for path in project.path.glob("server-*")]


def test_each_worker_has_a_cluster_of_its_own(project: Project) -> None:
    """Tests of one are rolled back while those of the other run."""
    project.test(TEST.format(killed=[]))

    project.run("--kube=envtest", "-n2").assert_outcomes(passed=12)

    assert len(servers(project)) == 2


def test_shared_cluster_has_a_namespace_for_each_test(project: Project) -> None:
    """One cluster, started by the worker that comes first."""
    project.test(TEST.format(killed=[]))

    project.run("--kube=envtest", "-n2", "--kube-share").assert_outcomes(passed=12)

    assert len(servers(project)) == 1


def test_without_workers_there_is_nothing_to_share(project: Project) -> None:
    """The option may stand in the ini file."""
    project.test(TEST.format(killed=[]))
    project.ini("kube_share = true")

    project.run("--kube=envtest").assert_outcomes(passed=12)


@pytest.mark.parametrize("option", ["", "--kube-share", "--kube-reuse"])
def test_killed_workers_leave_nothing(
    project: Project, tmp_path: Path, option: str
) -> None:
    """Each of four is killed once, at random; what is kept ends by pytest-kube down."""
    killed = random.Random(option).sample(range(12), 4)  # noqa: S311
    project.test(TEST.format(killed=killed))
    run = Run(project, "envtest", tmp_path / "tmp", "-n4", *option.split())

    assert run.process.wait(90) == pytest.ExitCode.TESTS_FAILED

    if option == "--kube-reuse":
        run.down()
    assert run.await_nothing_left(GONE_WITHIN) == []
    assert " 4 failed, 8 passed in " in f" {run.output.read_text().splitlines()[-1]}"


def test_share_and_reuse_exclude_each_other(project: Project) -> None:
    """With what --kube-reuse does for workers."""
    project.test(TEST.format(killed=[]))

    result = project.run("--kube=envtest", "--kube-share", "--kube-reuse")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --kube-reuse and --kube-share: one of them; with pytest-xdist, "
            "--kube-reuse gives each worker a cluster of its own that outlives the run"
        ]
    )


def test_share_and_rollback_exclude_each_other(project: Project) -> None:
    """A rollback takes the whole cluster back, with what other workers do in it."""
    project.test(TEST.format(killed=[]))

    result = project.run("--kube=envtest", "--kube-share", "--kube-isolation=rollback")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --kube-share and --kube-isolation=rollback: a rollback would undo "
            "what other workers do; a shared cluster has a namespace for each test"
        ]
    )
