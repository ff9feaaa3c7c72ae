"""The option --kube-isolation and the fixtures that depend on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Project

TWO = """\
THING = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "thing"}}

def test_one(kube):
    assert kube.find("cm/thing") is None
    kube.apply(THING)

def test_two(kube):
    assert kube.find("cm/thing") is None
    kube.apply(THING)
"""


@pytest.mark.parametrize("provider", ["envtest", "kwok"])
def test_each_test_has_a_namespace_of_its_own(project: Project, provider: str) -> None:
    """One test's objects are not there for the next."""
    project.test(TWO)

    result = project.run(f"--kube={provider}")

    result.assert_outcomes(passed=2)


def test_none_shares_the_default_namespace(project: Project) -> None:
    """For those who look after it themselves."""
    project.test(TWO)

    result = project.run("--kube=envtest", "--kube-isolation=none")

    result.assert_outcomes(passed=1, failed=1)


def test_marker_overrides_the_option(project: Project) -> None:
    """Test by test."""
    project.test(
        "import pytest\npytestmark = pytest.mark.kube(isolation='none')\n" + TWO
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1, failed=1)


def test_without_isolation_an_operator_watches_all_namespaces(
    project: Project,
) -> None:
    """With it, the test's own: another test's objects are none of its business."""
    project.test(
        "import pytest\n"
        "WIDGET = {'apiVersion': 'example.com/v1', 'kind': 'Widget', 'metadata':\n"
        "          {'name': 'w', 'namespace': 'kube-public'}, 'spec': {'size': 3}}\n"
        "DONE = 'jsonpath={.status.size}=3'\n"
        "def test_isolated(kube, kube_controller):\n"
        "    kube.apply(WIDGET)\n"
        "    own = {**WIDGET, 'metadata': {'name': 'own'}}\n"
        "    kube.apply(own)\n"
        "    kube.wait_for('widget/own', DONE)\n"
        "    assert not kube.get('widget/w', namespace='kube-public').get('status')\n"
        "@pytest.mark.kube(isolation='none')\n"
        "def test_wide(kube, kube_controller):\n"
        "    kube.apply(WIDGET)\n"
        "    kube.wait_for('widget/w', DONE, namespace='kube-public')\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=2)


def test_marker_value_that_does_not_exist_is_a_usage_error(project: Project) -> None:
    """The test, the value, and those that are allowed."""
    project.test("import pytest\npytestmark = pytest.mark.kube(isolation='x')\n" + TWO)

    result = project.run("--kube=envtest")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "ERROR: *::test_one: @pytest.mark.kube(isolation='x'): allowed are "
            "'namespace', 'none'"
        ]
    )


def test_namespace_is_named_after_the_test(project: Project) -> None:
    """Who looks into the cluster knows whose objects these are."""
    project.test(
        "import pytest\n"
        "@pytest.mark.parametrize('size', [3])\n"
        "def test_Über_long_" + "x" * 80 + "(kube, kube_namespace, size):\n"
        "    assert kube.namespace == kube_namespace\n"
        "    assert kube_namespace.startswith('test-ber-long-xxx')\n"
        "    assert len(kube_namespace) <= 63\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


def test_official_client_sees_the_cluster(project: Project) -> None:
    """kube_client is the dynamic client of the kubernetes package."""
    project.test(
        "def test_client(kube, kube_client):\n"
        "    api = kube_client.resources.get(api_version='v1', kind='ConfigMap')\n"
        "    body = {'metadata': {'name': 'a'}, 'data': {'x': '1'}}\n"
        "    api.create(body=body, namespace=kube.namespace)\n"
        "    assert kube.get('cm/a')['data'] == {'x': '1'}\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


def test_default_timeout_of_waits_is_an_option(project: Project) -> None:
    """--kube-timeout is for all waits that do not say otherwise."""
    project.test("def test_wait(kube):\n    kube.wait_for('cm/never', 'create')\n")

    result = project.run("--kube=envtest", "--kube-timeout=0.2")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *never: exists not reached within 0.2 s*"])
