"""The option --kube-version."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from .conftest import Project

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


def test_several_versions_are_refused_for_now(project: Project) -> None:
    """One version per run; the error says how to test several."""
    project.test(TEST)

    result = project.run("--kube=envtest", "--kube-version=1.35,1.36")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: --kube-version=1.35,1.36: one version per run for now; *"]
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
