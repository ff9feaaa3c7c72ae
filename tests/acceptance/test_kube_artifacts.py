"""The options --kube-artifacts and --kube-artifacts-dir."""

from __future__ import annotations

import base64
import gzip
import re
import zlib
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


PLANTED = """\
import base64, json, logging
from urllib.parse import quote
import pytest
from pytest_kube import APIError

VALUE = "correct <horse> & \\"battery\\" staple"
LATER = "another/value+of the same"

def encoded(text):
    return base64.b64encode(text.encode()).decode()

def object_of(kind, name, **more):
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **more}

def test_plants(kube, run_controller):
    def talkative(stop):
        logging.getLogger("mine").error("logged %s", VALUE)
        print("printed", encoded("user:" + VALUE))
        stop.wait()

    run_controller(talkative)
    kube.apply(object_of("Secret", "s", stringData={"k": VALUE, "user": "postgres"}))
    kube.apply(object_of("ConfigMap", "postgres", data={
        "plain": VALUE, "base64": encoded(VALUE), "url": quote(VALUE),
        "json": json.dumps({"k": VALUE}), "twice": json.dumps(json.dumps([VALUE])),
        "basic": "Basic " + encoded("user:" + VALUE)}))
    kube.patch("configmap/postgres", type="json", patch=[
        {"op": "add", "path": "/metadata/annotations", "value": {"note": VALUE}}])
    kube.patch("secret/s", {"stringData": {"k": LATER}})
    kube.patch("configmap/postgres", {"data": {"plain": LATER}})
    with pytest.raises(APIError):
        kube.create(object_of("ConfigMap", "x", data={"not/" + VALUE: "a"}))
    kube.delete("secret/s")
    assert kube.get("configmap/postgres")["data"] == {"k": VALUE}
"""


def test_value_of_a_secret_is_nowhere_however_it_is_written(project: Project) -> None:
    """Not where others wrote it, not where it was refused, not of deleted Secrets."""
    project.ini()
    project.test(PLANTED)

    result = project.run("--kube=envtest")

    result.assert_outcomes(failed=1)
    written = b"".join(contents(project.path / ".pytest-kube"))
    assert written.count(b"VVVVVVVV") > 5
    assert b"postgres" in written  # a name is no secret, whatever a Secret says
    value, later = 'correct <horse> & "battery" staple', "another/value+of the same"
    for text in (value, later):
        plain = text.encode()
        core = base64.b64encode(b"user:" + plain)[8:-8]
        for form in (plain, base64.b64encode(plain), core, quote(text).encode()):
            assert form not in written
    # Whatever stands between them.
    assert b"horse" not in written
    section = result.stdout.str().partition("kube diagnostics")[2]
    assert "horse" not in section.partition("short test summary")[0]


def contents(folder: Path) -> Iterator[bytes]:
    """Return what is in all files, unpacked."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        yield gzip.decompress(data) if data[:1] == b"\x1f" else data
        for chunk in re.findall(rb'"(eJ[A-Za-z0-9+/]{20,}=*)"', data):
            yield zlib.decompress(base64.b64decode(chunk))


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
