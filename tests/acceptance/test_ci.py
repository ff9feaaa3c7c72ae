"""What a run tells CI systems, and that it tells nothing where there is none."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Project

VARIABLES = (
    "GITHUB_ACTIONS",
    "GITHUB_STEP_SUMMARY",
    "GITHUB_WORKSPACE",
    "GITLAB_CI",
    "CI_PROJECT_DIR",
)

TESTS = """\
import pytest

@pytest.mark.parametrize("name", ["plain", "``` <b>, ::error::\\n%"])
def test_fails(kube, name):
    kube.create({"apiVersion": "v1", "kind": "ConfigMap",
                 "metadata": {"name": "c"}})
    print("\\x1b[31m```\\n::error::printed")
    assert False, "100% wrong: \\x1b[1m```"

@pytest.fixture
def fails_at_the_end(kube):
    yield
    raise LookupError("at the end")

def test_fails_twice(fails_at_the_end):
    assert False, "first"

def test_passes(kube): pass

def test_without_a_cluster(): assert False, "not ours"
"""
FOLDER = "test_widgets.py.test_fails-plain"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CI system, wherever these tests run."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def indexed(project: Project) -> list[dict[str, str]]:
    path = project.path / ".pytest-kube/artifacts/index.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def reported(project: Project) -> ET.ElementTree:
    return ET.parse(project.path / "report.xml")  # noqa: S314  # pytest's


def test_github_and_junit_are_told_of_failed_tests(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Summary, marks, properties: each test once, whatever it is called."""
    summary = project.path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path))
    project.test(TESTS)

    result = project.run("--kube=envtest", "--junitxml=report.xml", "--color=yes")

    result.assert_outcomes(failed=4, errors=1, passed=1)
    text = summary.read_text("utf-8")
    headings = re.findall("^### (.*)", text, re.MULTILINE)
    assert len(headings) == 3
    assert headings[0] == "`test_widgets.py::test_fails[plain]`"
    assert headings[2] == "`test_widgets.py::test_fails_twice`"
    assert f"\nartifacts   .pytest-kube/artifacts/{FOLDER}\n" in text
    assert "AssertionError: 100% wrong: ```\n" in text
    assert "\x1b" not in text
    marks = [line for line in result.outlines if line.startswith("::error file")]
    assert len(marks) == 3
    assert marks[0].startswith(
        "::error file=test_widgets.py,line=8,"
        "title=test_widgets.py%3A%3Atest_fails[plain]::AssertionError: 100%25 wrong"
    )
    assert marks[0].endswith(f"%0Akube artifacts: {FOLDER}")
    assert "\x1b" not in "".join(marks)
    cases = {
        case.get("name"): {
            p.get("name"): p.get("value") for p in case.iterfind("properties/property")
        }
        for case in reported(project).iter("testcase")
        if case.find("error") is None
    }
    cluster = "envtest cluster, Kubernetes v1.36.3"
    assert cases["test_fails[plain]"] == {
        "kube_cluster": cluster,
        "kube_artifacts": f".pytest-kube/artifacts/{FOLDER}",
    }
    assert cases["test_passes"] == {"kube_cluster": cluster}
    assert cases["test_without_a_cluster"] == {}


def test_index_names_each_failed_test_once(project: Project) -> None:
    """With its first error; the next run replaces it, or removes it."""
    project.test(TESTS)
    project.run("--kube=envtest", "-k", "twice or passes")

    project.run("--kube=envtest", "-k", "plain or twice")

    found = indexed(project)
    assert [line["test"] for line in found] == [
        "test_widgets.py::test_fails[plain]",
        "test_widgets.py::test_fails_twice",
    ]
    assert found[0]["folder"] == FOLDER
    assert found[0]["cluster"] == "envtest cluster, Kubernetes v1.36.3"
    assert found[1]["error"].startswith("AssertionError: first")
    page = project.path / ".pytest-kube/artifacts/index.md"
    assert page.read_text("utf-8").startswith(
        "# Failed tests\n\n"
        f"- [`test_widgets.py::test_fails[plain]`]({FOLDER}/)\n"
        "  `envtest cluster, Kubernetes v1.36.3`, 20"
    )

    project.run("--kube=envtest", "-k", "passes")

    assert not page.exists()


def test_workers_have_one_index_and_one_summary(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that started them writes it."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    project.test(
        "import pytest\n\n"
        "@pytest.mark.parametrize('i', range(6))\n"
        "def test_fails(kube, i): assert not kube\n"
    )

    result = project.run("--kube=envtest", "-n2", "--junitxml=report.xml")

    result.assert_outcomes(failed=6)
    expected = {f"test_widgets.py::test_fails[{i}]" for i in range(6)}
    assert {line["test"] for line in indexed(project)} == expected
    assert len(indexed(project)) == 6
    page = project.path / ".pytest-kube/artifacts/index.md"
    assert page.read_text("utf-8").count("\n- [") == 6
    assert (project.path / "summary.md").read_text("utf-8").count("### ") == 6
    assert (
        len([line for line in result.outlines if line.startswith("::error file")]) == 6
    )
    properties = reported(project).iter("property")
    assert len([p for p in properties if p.get("name") == "kube_artifacts"]) == 6


def test_gitlab_finds_the_artifacts_in_the_report(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lines of the test's output, relative to the project."""
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("CI_PROJECT_DIR", str(project.path.parent))
    project.test(TESTS)

    project.run("--kube=envtest", "--junitxml=report.xml", "-k", "plain or passes")

    failed, passed = reported(project).iter("testcase")
    lines = (failed.findtext("system-out") or "").splitlines()
    assert (
        f"[[ATTACHMENT|{project.path.name}/.pytest-kube/artifacts/{FOLDER}/events.txt]]"
        in lines
    )
    assert all(re.fullmatch(r"\[\[ATTACHMENT\|\S+\]\]", line) for line in lines)
    assert passed.find("system-out") is None


def test_page_of_pytest_html_links_to_the_artifacts(project: Project) -> None:
    """Relative to the page; a stand-in shows what that plugin is given."""
    project.write(
        "pytest_html/__init__.py",
        "def pytest_addoption(parser):\n"
        "    parser.addoption('--html', dest='htmlpath')\n"
        "def pytest_configure(config):\n"
        "    config.pluginmanager.register(object(), 'html')\n"
        "def pytest_runtest_logreport(report):\n"
        "    for extra in getattr(report, 'extras', ()): print('EXTRA', extra)\n",
    )
    project.write(
        "pytest_html/extras.py", "def url(content, name): return name, content\n"
    )
    project.test(TESTS)

    result = project.run(
        "-p",
        "pytest_html",
        "--kube=envtest",
        "--html=out/page.html",
        "-s",
        "-k",
        "plain",
    )

    result.stdout.fnmatch_lines(
        [f"*EXTRA ('kube artifacts', '../.pytest-kube/artifacts/{FOLDER}/')"]
    )


def test_nothing_is_told_where_nobody_asks(project: Project) -> None:
    """No marks, no properties, no output; without artifacts no index either."""
    project.test(TESTS)

    result = project.run(
        "--kube=envtest",
        "--kube-artifacts=none",
        "-k",
        "plain",
        "--junitxml=report.xml",
    )

    assert not any(line.startswith("::error file") for line in result.outlines)
    assert "ATTACHMENT" not in (project.path / "report.xml").read_text("utf-8")
    assert not (project.path / ".pytest-kube").exists()
    assert not (project.path / "summary.md").exists()


def test_summary_that_cannot_be_written_is_said_at_the_end(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results are what they were."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path))
    project.test(TESTS)

    result = project.run("--kube=envtest", "-k", "plain or passes")

    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["kube: * could not be written: Is a directory"])
