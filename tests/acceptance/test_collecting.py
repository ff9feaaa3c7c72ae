"""Diagnostics of tests whose cluster, or whose end, is not as it should be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Project

HEAD = """\
import os, signal, threading
import pytest

MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}

def hit(cluster, name, number):
    (process,) = [p for p in cluster.guardian.processes() if p.name == name]
    os.kill(process.pid, number)
    if number == signal.SIGKILL:
        process.exited.result(10)

"""
FAULT = """\
def test_fails(kube):
    kube.create(MAP)
    hit(kube.cluster, {name!r}, signal.{number})
    raise LookupError("the test's own failure")

@pytest.mark.parametrize("number", [1, 2])
def test_next(kube, number):
    kube.create(MAP)
"""


def artifacts(project: Project) -> Path:
    """Return the folder of the one test that left something."""
    (folder,) = (project.path / ".pytest-kube/artifacts").glob("*/")
    return folder


def timeline(folder: Path) -> list[dict[str, Any]]:
    """Return what happened."""
    text = (folder / "timeline.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("name", "number", "told", "replay"),
    [
        (
            "kube-apiserver",
            "SIGKILL",
            "objects: kube-apiserver ended with signal 9 *",
            True,
        ),
        ("kube-apiserver", "SIGSTOP", "objects: * more than 4 s", True),
        ("etcd", "SIGKILL", "what has changed: ", False),
        ("etcd", "SIGSTOP", "what has changed: it took more than 4 s", False),
    ],
)
def test_dead_or_hanging_component_leaves_what_can_be_had(
    project: Project, name: str, number: str, told: str, *, replay: bool
) -> None:
    """The test fails by its own failure; what is missing is named; the next runs."""
    project.ini()
    project.test(HEAD + FAULT.format(name=name, number=number))

    result = project.run("--kube=envtest")

    # A server that hangs is noticed by the next test, the second next has a new one.
    hangs = (name, number) == ("kube-apiserver", "SIGSTOP")
    result.assert_outcomes(failed=1, passed=1 if hangs else 2, errors=1)
    result.stdout.fnmatch_lines(["E *LookupError: the test's own failure"])
    result.stdout.fnmatch_lines([f"*{told}*"])
    folder = project.path / ".pytest-kube/artifacts/test_widgets.py.test_fails"
    result.stdout.fnmatch_lines(["artifacts   *test_fails", "report      *report.html"])
    assert (folder / "logs" / "etcd.log").exists()
    assert "the test's own failure" in (folder / "summary.md").read_text("utf-8")
    texts = [entry["text"] for entry in timeline(folder)]
    assert any("kube.create(<ConfigMap settings>)" in text for text in texts)
    assert (folder / "state.jsonl.gz").exists() == replay
    # As etcd has it, where the API server cannot tell any more.
    assert ("name: settings" in (folder / "objects.yaml").read_text("utf-8")) == replay


def test_test_that_is_ended_by_pytest_timeout_is_explained(project: Project) -> None:
    """With where it stood, and with what had happened until then."""
    project.ini()
    project.test(
        HEAD + "@pytest.mark.timeout(2, method='signal')\n"
        "def test_hangs(kube):\n"
        "    kube.create(MAP)\n"
        "    threading.Event().wait()\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *Failed: Timeout*", "objects     ConfigMap settings"]
    )
    assert "Timeout" in (artifacts(project) / "summary.md").read_text("utf-8")


def test_collecting_takes_no_time_of_pytest_timeout(project: Project) -> None:
    """However long it takes: at that moment no test is there that could fail."""
    project.ini()
    project.test(
        HEAD + "import time\n"
        "from pytest_kube.diagnostics import evidence\n"
        "gather = evidence.gather\n"
        "def slowly(*arguments):\n"
        "    time.sleep(1.5)\n"
        "    return gather(*arguments)\n"
        "evidence.gather = slowly\n"
        "@pytest.mark.timeout(1, method='signal')\n"
        "def test_fails(kube):\n"
        "    raise LookupError('mine')\n"
        "def test_next(kube): pass\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["E *LookupError: mine", "*kube diagnostics*"])


def test_values_that_the_environment_names_are_in_no_file(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever printed them: kube_redact names the variables."""
    monkeypatch.setenv("DEPLOY_KEY", "tell-nobody-17")
    project.ini('kube_redact = ["DEPLOY_*"]')
    project.test(
        HEAD + "def test_fails(kube):\n"
        "    key = os.environ['DEPLOY_KEY']\n"
        "    kube.create({**MAP, 'data': {'key': key}})\n"
        "    kube.find('configmap/' + key)\n"
        "    assert key == ''\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(failed=1)
    section = result.stdout.str().partition("kube diagnostics")[2]
    assert "objects     ConfigMap settings" in section
    assert "tell-nobody" not in section.partition("short test summary")[0]
    folder = artifacts(project)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"tell-nobody" in path.read_bytes()]
    assert "assert 'REDACTED' == ''" in (folder / "summary.md").read_text("utf-8")


def test_webhook_that_changed_an_object_is_in_the_timeline(project: Project) -> None:
    """One that cannot be called is named, too, with the request that it was for."""
    project.ini()
    project.test(
        HEAD
        + "HOOK = {'apiVersion': 'admissionregistration.k8s.io/v1',\n"
        "  'kind': 'MutatingWebhookConfiguration', 'metadata': {'name': 'nobody'},\n"
        "  'webhooks': [{'name': 'nobody.example.com', 'sideEffects': 'None',\n"
        "    'admissionReviewVersions': ['v1'], 'failurePolicy': POLICY,\n"
        "    'clientConfig': {'url': 'https://127.0.0.1:1/'},\n"
        "    'rules': [{'apiGroups': [''], 'apiVersions': ['*'],\n"
        "      'operations': ['CREATE'], 'resources': ['configmaps']}]}]}\n"
        "def test_fails(kube):\n"
        "    kube.create(HOOK)\n"
        "    kube.eventually(lambda: not made(kube))\n"
        "    raise LookupError\n"
        "def made(kube):\n"
        "    try:\n"
        "        kube.create({**MAP, 'metadata': {'generateName': 'a'}})\n"
        "    except Exception as e: print(e)\n"
        "    else: return True\n".replace("POLICY", "'Fail'")
    )

    project.run("--kube=envtest")

    calls = [e for e in timeline(artifacts(project)) if e["kind"] == "webhook"]
    assert calls[-1]["who"] == "nobody.example.com"
    assert calls[-1]["text"].startswith("could not be called: create configmaps ")
