"""The option --kube-version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_kube.binaries.releases import resolve_version
from pytest_kube.binaries.store import Store
from pytest_kube.errors import BinaryError

if TYPE_CHECKING:
    from .conftest import Project

OLDEST = "1.34"
TEST = "def test_version(kube_cluster):\n    print(kube_cluster.version)\n"


def test_minor_version_means_its_newest_patch(project: Project) -> None:
    """1.36 is 1.36.3."""
    project.test(TEST)

    result = project.run("--kube=envtest", "--kube-version=1.36", "-s")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["kube: envtest, Kubernetes 1.36.3", "*1.36.3*"])


def test_unknown_minor_version_is_a_usage_error(project: Project) -> None:
    """What was asked for, and what there is."""
    project.test(TEST)

    result = project.run("--kube=envtest", "--kube-version=1.99")

    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *1.99*1.36*"])


def test_version_that_does_not_exist_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full version may be newer than we know, so it is looked for, and not found."""
    project.test(TEST)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # without Go, nothing is built

    result = project.run("--kube=envtest", "--kube-version=1.36.99")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*kube-apiserver*1.36.99*"])


def test_broken_version_is_named_and_the_others_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each test once per version, as ids and the summary say."""
    project.test(TEST + "def test_other(): pass\n")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # without Go, nothing is built

    result = project.run("--kube=envtest", "--kube-version=1.36,1.36.99", "-v", "-s")

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "kube: envtest, Kubernetes 1.36.3, 1.36.99",
            "*::test_version?1.36? *1.36.3",
            "*::test_version?1.36.99? ERROR*",
            "kube: envtest cluster, Kubernetes v1.36.3, ready in *; 0 tests",
            "kube: no cluster of Kubernetes 1.36.99: *kube-apiserver*1.36.99*",
        ]
    )
    result.stdout.fnmatch_lines(["*::test_other PASSED*"])


def test_each_version_has_a_cluster_of_its_own(project: Project) -> None:
    """One after the other; what a session's fixture made is made for each of them."""
    if missing := _missing(OLDEST):
        pytest.skip(missing)
    project.ini(f'kube_versions = ["{OLDEST}", "1.36"]')
    project.test(
        """\
import pytest

@pytest.fixture(scope="session")
def wide(kube_session):
    kube_session.create({"apiVersion": "v1", "kind": "ConfigMap",
                         "metadata": {"name": "wide"}})
    return kube_session

def test_first(kube, kube_version, wide):
    assert kube.cluster.version.startswith(kube_version)
    kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})
    assert wide.get("configmap/wide")

def test_second(kube, wide):
    assert wide.get("configmap/wide")

@pytest.mark.kube(version=">=1.36")
def test_new(kube):
    pass
"""
    )

    result = project.run("--kube=envtest", "-v", "--junitxml=junit.xml", "-rs")

    result.assert_outcomes(passed=5, skipped=1)
    result.stdout.fnmatch_lines(
        [
            f"*test_first?{OLDEST}? PASSED*",
            f"*test_second?{OLDEST}? PASSED*",
            "*test_first?1.36? PASSED*",
            "*test_second?1.36? PASSED*",
            "*test_new?1.36? PASSED*",
            f"SKIPPED *needs Kubernetes >=1.36; this is {OLDEST}*",
            f"kube: envtest cluster, Kubernetes v{OLDEST}.*; 2 tests",
            "kube: envtest cluster, Kubernetes v1.36.3, *; 3 tests",
        ]
    )
    report = (project.path / "junit.xml").read_text("utf-8")
    assert report.count(f'value="envtest cluster, Kubernetes v{OLDEST}.') == 2


def _missing(version: str) -> str:
    try:
        store = Store(resolve_version(version), offline=True)
        store.require("kube-apiserver", "etcd")
    except BinaryError as e:
        return f"{e}\n pytest-kube binaries install --kube-version={version}"
    return ""


def test_test_for_other_versions_is_skipped(project: Project) -> None:
    """Before a cluster is started for it."""
    project.test(
        "import pytest\n@pytest.mark.kube(version='<1.36')\ndef test_old(kube): pass\n"
    )

    result = project.run("--kube=envtest", "-rs")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED *needs Kubernetes <1.36; this is 1.36.3"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--kube=envtest", "--kube-version=1.36,,1.35"],
            "ERROR: --kube-version=1.36,,1.35: there is a version missing between comm",
        ),
        (
            ["--kube=envtest", "--kube-version=1.36,1.99"],
            "ERROR: --kube-version: '1.99' is not a Kubernetes version that pytest-kub",
        ),
        (
            ["--kube=existing", "--kube-context=x", "--kube-version=1.36,1.35"],
            "ERROR: --kube-version=1.36,1.35: an existing cluster has one version; sev",
        ),
    ],
)
def test_wrong_lists_of_versions_are_usage_errors(
    project: Project, arguments: list[str], text: str
) -> None:
    """Before anything is started."""
    project.test(TEST)

    result = project.run(*arguments)

    assert result.ret == 4
    result.stderr.fnmatch_lines([f"{text}*"])


def test_marker_with_a_wrong_version_is_a_usage_error(project: Project) -> None:
    """It says what is expected, and where it stands."""
    project.test(
        "import pytest\n@pytest.mark.kube(version='new')\ndef test_old(kube): pass\n"
    )

    result = project.run("--kube=envtest")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: *::test_old: @pytest.mark.kube(version='new'): expected versions as *"]
    )


def test_binaries_of_another_version_are_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, kubernetes_folder: str
) -> None:
    """A folder that was pointed at is believed, until the API server says otherwise."""
    project.test(TEST)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", kubernetes_folder)

    result = project.run("--kube=envtest", "--kube-version=1.35")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *--kube-version=1.35, but the programs that were found are Kubernetes "
            "1.36.3; see pytest-kube binaries list"
        ]
    )
