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


@pytest.mark.parametrize("isolation", [None, "rollback", "namespace"])
@pytest.mark.parametrize("provider", ["envtest", "kwok"])
def test_each_test_has_a_namespace_of_its_own(
    project: Project, provider: str, isolation: str | None
) -> None:
    """One test's objects are not there for the next."""
    project.test(TWO)
    asked = [f"--kube-isolation={isolation}"] if isolation else []

    result = project.run(f"--kube={provider}", *asked)

    result.assert_outcomes(passed=2)


def test_none_shares_the_default_namespace(project: Project) -> None:
    """For those who look after it themselves."""
    project.test(TWO)

    result = project.run("--kube=envtest", "--kube-isolation=none")

    result.assert_outcomes(passed=1, failed=1)


WIDE = """\
import pytest

def cluster_wide(kube):
    # Makes something that a namespace does not hold; says whether it was there.
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "left", "finalizers": ["example.com/never"]}}
    there = kube.find("clusterrole/left") is not None
    own = kube.find("cm/left") is not None
    kube.cluster.client.patch(
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/left", role,
        type_="apply", query={"fieldManager": "a"})
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left"}})
    return there, own, kube.namespace == "default"
"""
LEFT = {
    # is there: what another test left in the cluster, in its own namespace; is shared
    "rollback": (False, False, False),
    "namespace": (True, False, False),
    "none": (True, True, True),
}


@pytest.mark.parametrize("option", [None, "rollback", "namespace", "none"])
def test_marker_overrides_the_option(project: Project, option: str | None) -> None:
    """Test by test, each of them against each."""
    asked = [f"--kube-isolation={option}"] if option else []
    text = WIDE
    for marker, left in LEFT.items():
        text += (
            f"@pytest.mark.kube(isolation={marker!r})\n"
            f"def test_first_{marker}(kube):\n"
            "    cluster_wide(kube)\n"
            f"@pytest.mark.kube(isolation={marker!r})\n"
            f"def test_{marker}(kube):\n"
            f"    assert cluster_wide(kube) == {left}\n"
        )
    shared = LEFT[option or "rollback"][2]
    text += f"def test_unmarked(kube):\n    assert cluster_wide(kube)[2] == {shared}\n"
    project.test(text)

    result = project.run("--kube=envtest", *asked)

    result.assert_outcomes(passed=7)


def test_marker_of_a_module_counts_for_its_tests(project: Project) -> None:
    """As markers do; the closest one wins."""
    project.test(
        "import pytest\npytestmark = pytest.mark.kube(isolation='none')\n" + TWO
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1, failed=1)


def test_operator_watches_what_its_test_has_for_itself(project: Project) -> None:
    """All namespaces, or the test's own: then others are none of its business."""
    project.test(
        "import pytest\n"
        "WIDGET = {'apiVersion': 'example.com/v1', 'kind': 'Widget', 'metadata':\n"
        "          {'name': 'w', 'namespace': 'kube-public'}, 'spec': {'size': 3}}\n"
        "DONE = 'jsonpath={.status.size}=3'\n"
        "@pytest.mark.kube(isolation='namespace')\n"
        "def test_isolated(kube, kube_controller):\n"
        "    kube.apply(WIDGET)\n"
        "    own = {**WIDGET, 'metadata': {'name': 'own'}}\n"
        "    kube.apply(own)\n"
        "    kube.wait_for('widget/own', DONE)\n"
        "    assert not kube.get('widget/w', namespace='kube-public').get('status')\n"
        "@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_rolled_back(kube, kube_controller, number):\n"
        "    assert not kube.find('widget/w', namespace='kube-public')\n"
        "    kube.apply(WIDGET)\n"
        "    kube.wait_for('widget/w', DONE, namespace='kube-public')\n"
        "@pytest.mark.kube(isolation='none')\n"
        "def test_wide(kube, kube_controller):\n"
        "    kube.apply(WIDGET)\n"
        "    kube.wait_for('widget/w', DONE, namespace='kube-public')\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=4)


def test_marker_value_that_does_not_exist_is_a_usage_error(project: Project) -> None:
    """The test, the value, and those that are allowed."""
    project.test("import pytest\npytestmark = pytest.mark.kube(isolation='x')\n" + TWO)

    result = project.run("--kube=envtest")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "ERROR: *::test_one: @pytest.mark.kube(isolation='x'): allowed are "
            "'rollback', 'namespace', 'none'"
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
