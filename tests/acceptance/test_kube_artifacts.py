"""The options --kube-artifacts and --kube-artifacts-dir."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Project

TESTS = """\
import pytest

SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
          "stringData": {"password": "hunter2"}}
ROLE = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "made-by-the-test"}}

def test_fails(kube, kube_controller):
    kube.apply(SECRET)
    kube.apply(ROLE)
    assert kube.find("secret/s") is None, "as expected"

@pytest.fixture
def broken(kube):
    kube.apply(SECRET)
    raise LookupError("set-up")

def test_set_up_fails(broken): pass

def test_passes(kube): pass
"""


def tree(project: Project, folder: str) -> list[str]:
    root = project.path / folder
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_failed_tests_leave_a_folder_each(project: Project) -> None:
    """Objects, events, logs and versions; nothing for tests that pass."""
    project.test(TESTS)

    result = project.run("--kube=kwok")

    result.assert_outcomes(failed=1, errors=1, passed=1)
    found = tree(project, ".pytest-kube/artifacts")
    recorded = [path for path in found if "/crust-gather/" in path]
    fails = "test_widgets.py.test_fails/crust-gather"
    assert f"{fails}/version.yaml" in recorded
    assert any(
        re.fullmatch(rf"{fails}/namespaces/test-fails-\w+/v1/secret/s\.yaml", path)
        for path in recorded
    )
    assert [path for path in found if path not in recorded] == [
        "index.jsonl",
        "index.md",
        "test_widgets.py.test_fails/audit.jsonl",
        "test_widgets.py.test_fails/environment.json",
        "test_widgets.py.test_fails/events.txt",
        "test_widgets.py.test_fails/logs/controller-1.log",
        "test_widgets.py.test_fails/logs/etcd.log",
        "test_widgets.py.test_fails/logs/kube-apiserver.log",
        "test_widgets.py.test_fails/logs/kube-controller-manager.log",
        "test_widgets.py.test_fails/logs/kube-scheduler.log",
        "test_widgets.py.test_fails/logs/kwok.log",
        "test_widgets.py.test_fails/objects.yaml",
        "test_widgets.py.test_fails/report.html",
        "test_widgets.py.test_fails/state.jsonl.gz",
        "test_widgets.py.test_fails/summary.md",
        "test_widgets.py.test_fails/timeline.jsonl",
        "test_widgets.py.test_set_up_fails/audit.jsonl",
        "test_widgets.py.test_set_up_fails/environment.json",
        "test_widgets.py.test_set_up_fails/events.txt",
        "test_widgets.py.test_set_up_fails/logs/etcd.log",
        "test_widgets.py.test_set_up_fails/logs/kube-apiserver.log",
        "test_widgets.py.test_set_up_fails/logs/kube-controller-manager.log",
        "test_widgets.py.test_set_up_fails/logs/kube-scheduler.log",
        "test_widgets.py.test_set_up_fails/logs/kwok.log",
        "test_widgets.py.test_set_up_fails/objects.yaml",
        "test_widgets.py.test_set_up_fails/report.html",
        "test_widgets.py.test_set_up_fails/state.jsonl.gz",
        "test_widgets.py.test_set_up_fails/summary.md",
        "test_widgets.py.test_set_up_fails/timeline.jsonl",
    ]
    result.stdout.fnmatch_lines(
        [
            "*kube diagnostics*",
            "cluster     kwok cluster, Kubernetes v1.36.3; namespace test-fails-*",
            "objects     Secret s",
            "            ClusterRole made-by-the-test",
            "changes     *:*.* Secret s created (pytest-kube-admin)",
            "controller  kopf:src/widget_operator.py: running",
            "artifacts   .pytest-kube/artifacts/test_widgets.py.test_fails",
            "replay      pytest-kube replay .pytest-kube/artifacts/test_widgets.py.test_fails",
            "kube: kwok cluster,*; 3 tests, diagnostics in .pytest-kube/artifacts",
        ],
        consecutive=False,
    )


def test_secret_values_are_in_no_file(project: Project) -> None:
    """Artifacts are uploaded where others can read them."""
    project.test(TESTS)

    project.run("--kube=envtest")

    root = project.path / ".pytest-kube"
    files = [p for p in root.rglob("*") if p.is_file()]
    written = [
        gzip.decompress(d) if (d := p.read_bytes())[:1] == b"\x1f" else d for p in files
    ]
    assert any(b"UkVEQUNURUQ=" in data for data in written)
    assert not any(b"hunter2" in data or b"aHVudGVyMg" in data for data in written)


@pytest.mark.parametrize(("mode", "tests"), [("none", 0), ("failed", 2), ("all", 3)])
def test_mode_decides_which_tests_leave_something(
    project: Project, mode: str, tests: int
) -> None:
    """none, failed, all: pytest's own words."""
    project.test(TESTS)

    project.run(
        "--kube=envtest", f"--kube-artifacts={mode}", "--kube-artifacts-dir=out"
    )

    assert len(list((project.path / "out").glob("*/"))) == tests


def test_mode_that_does_not_exist_is_a_usage_error(project: Project) -> None:
    """The option and the allowed values."""
    project.test(TESTS)

    result = project.run("--kube=envtest", "--kube-artifacts=some")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: --kube-artifacts=some: allowed are failed, all, none"]
    )


def test_folder_that_cannot_be_written_is_no_second_error(project: Project) -> None:
    """The failure stays what it was; the section says what is missing."""
    project.write("out", "a file in the way")
    project.test(TESTS)

    result = project.run("--kube=envtest", "--kube-artifacts-dir=out")

    result.assert_outcomes(failed=1, errors=1, passed=1)
    result.stdout.fnmatch_lines(["artifacts   could not be written: *"])


def test_failure_of_a_teardown_is_explained_by_what_was_there_before_it(
    project: Project,
) -> None:
    """Objects, changes and their authors; and it replaces nothing of the test's own."""
    project.write(
        "src/bad.py",
        "import asyncio\n"
        "async def run(stop):\n"
        "    asyncio.create_task(asyncio.sleep(100))\n"
        "    await stop.wait()\n",
    )
    project.ini('pythonpath = ["src"]', "kube_strict = true")
    body = (
        "(kube, run_controller):\n"
        "    run_controller('bad:run')\n"
        "    kube.create({'apiVersion': 'v1', 'kind': 'ConfigMap',\n"
        "                 'metadata': {'name': 'c'}})\n"
    )
    project.test(f"def test_passes{body}def test_fails{body}    assert False\n")

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1, failed=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_passes*",
            "E *controller run (controller-1) left a task behind:",
            "objects     ConfigMap c",
            "changes     *:*.* ConfigMap c created (pytest-kube-admin)",
            "controller  run: stopped",
            "artifacts   *test_passes",
            "report      *test_passes/report.html",
            "replay      pytest-kube replay *test_passes",
            "*test_fails*",
        ]
    )
    text = result.stdout.str()
    assert "contextlib.py" not in text
    assert "fixtures.py" not in text
    assert text.count("replay      pytest-kube replay ") == 2
