"""A failing test shows the test's own lines and the error, not our insides."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from .conftest import Project


def ours(result: pytest.RunResult) -> list[str]:
    """Return the files of ours that are shown."""
    found = (re.search(r"pytest_kube/(?:\w+/)*(\w+\.py)", x) for x in result.outlines)
    return sorted({match[1] for match in found if match})


def test_errors_of_ours_show_no_line_of_ours(project: Project) -> None:
    """Wrong refs, conditions and objects; waits that time out; controllers."""
    project.test(
        "import pytest\n"
        "def test_ref(kube): kube.get('nonsense')\n"
        "def test_kind(kube): kube.get('nonsense/a')\n"
        "def test_condition(kube): kube.wait_for('cm/a', 'Ready')\n"
        "def test_object(kube): kube.apply({'kind': 'ConfigMap'})\n"
        "def test_typo(kube): kube.apply({'apiVersion': 'v1', 'kind': 'ConfigMap',\n"
        "                                 'metadata': {'name': 'a'}, 'datum': {}})\n"
        "def test_wait(kube): kube.wait_for('cm/a', 'create', timeout=0.1)\n"
        "def test_lambda(kube): kube.wait_for('cm/a', lambda o: o['spec'])\n"
        "def test_all(kube): kube.wait_for_all('cm', lambda o: o['x'], namespace='')\n"
        "def test_early(kube):\n"
        "    kube.wait_for('ns/default', 'condition=X', unless='create')\n"
        "def test_held(kube): kube.consistently('cm/a', 'create', seconds=1)\n"
        "def test_never(kube): kube.eventually(lambda: 0, timeout=0)\n"
        "def test_taken(kube): kube.expect_rejected({'apiVersion': 'v1',\n"
        "    'kind': 'ConfigMap', 'metadata': {'name': 'a'}})\n"
        "def test_exec(kube): kube.exec('pod/a', 'true')\n"
        "def test_update(kube): kube.update('cm/a')\n"
        "def test_change(kube): kube.update('ns/default', lambda o: o['x'])\n"
        "def test_controller(run_controller): run_controller('nonsense')\n"
    )

    result = project.run("--kube=envtest", "--show-capture=no")

    result.assert_outcomes(failed=16)
    assert ours(result) == []
    for error in (
        "*ValueError: 'nonsense' names no object*",
        "*UnknownResourceError: the API server serves no kind 'nonsense'*",
        "*ValueError: no condition in kubectl's words: 'Ready'*",
        "*ManifestError: *apiVersion*",
        "*APIError: applying ConfigMap a: unknown field .datum: *",
        "*WaitTimeoutError: ConfigMap *a: exists not reached within 0.1 s*",
        "*TypeError: 'NoneType' object is not subscriptable*",
        "*KeyError: 'x'",
        "*WaitFailedError: Namespace default: X=True cannot be reached any more*",
        "*WaitFailedError: ConfigMap *a: exists was to hold for 1 s*",
        "*WaitTimeoutError: lambda at test_widgets.py:14: nothing true within 0.0 s",
        "*NotRejectedError: ConfigMap a was to be rejected, and was accepted*",
        "*ClusterError: Pod a runs no commands: *",
        "*ValueError: update('cm/a'): pass the object as it is to be*",
        "*KeyError: 'x'",
        "*ControllerError: 'nonsense' names no controller.*",
    ):
        result.stdout.fnmatch_lines([f"E {error}"])


def test_cluster_that_cannot_start_shows_no_line_of_ours(project: Project) -> None:
    """The test that asked for it, and why there is none."""
    project.write(
        "clusters/odd.yaml",
        "provider: envtest\nextraArgs: {etcd: {no-such-flag: '1'}}\n",
    )
    project.test("def test_it(kube): pass\n")

    result = project.run("--kube=odd")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "kube: no cluster: etcd ended with exit code 2 before it was ready.",
            "E *ComponentExitedError: etcd ended with exit code 2 before it was ready.",
            "*The profile 'odd' gives it extra arguments: --no-such-flag=1",
        ]
    )
    assert ours(result) == []


def test_controller_that_cannot_start_shows_no_line_of_ours(project: Project) -> None:
    """Its own traceback is in the error; how we called it is not."""
    project.test(
        "def fails(stop, ready):\n"
        "    raise LookupError('no such table')\n"
        "def test_it(run_controller):\n"
        "    run_controller(fails)\n"
    )

    result = project.run("--kube=envtest", "--show-capture=no")

    result.assert_outcomes(failed=1)
    assert ours(result) == []
    result.stdout.fnmatch_lines(["E *line 2, in fails"])
