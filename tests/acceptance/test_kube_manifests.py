"""The ini value kube_manifests: what is applied once per cluster, or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Project

USE = """\
def test_there(kube):
    assert kube.get("configmap/settings", namespace="default")["data"]["mode"] == "fast"
"""
GOOD = (
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {mode: fast}\n"
)


def test_manifests_are_there_before_the_first_test(project: Project) -> None:
    """Applied once, to the namespace they name or to default."""
    project.ini('kube_manifests = ["config"]')
    project.write("config/settings.yaml", GOOD)
    project.test(USE)

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


def test_namespace_is_made_before_what_is_in_it(project: Project) -> None:
    """The order of files does not matter."""
    project.ini('kube_manifests = ["config"]')
    inside = GOOD.replace("name: settings", "name: settings, namespace: zoo")
    project.write("config/a.yaml", inside)
    project.write(
        "config/b.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: zoo}\n"
    )
    project.test(USE.replace("default", "zoo"))

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(
            GOOD.replace("\ndata:", "\ndatum:"),
            "E *applying ConfigMap settings from *settings.yaml: unknown field .datum: *"
            "*",
            id="typo",
        ),
        pytest.param(
            GOOD.replace("kind: ConfigMap\n", ""),
            "E *ManifestError: *settings.yaml:1: *kind*",
            id="without-kind",
        ),
        pytest.param(
            GOOD + "data: {}\n",
            "E *ManifestError: *settings.yaml:5: *data*",
            id="duplicate-key",
        ),
        pytest.param(
            GOOD.replace("ConfigMap", "ConfigMop"),
            "E *serves no kind 'ConfigMop' in v1; near it: ConfigMap (v1)*",
            id="unknown-kind",
        ),
        pytest.param(
            GOOD.replace("{mode:", "{["),
            "E *ManifestError: *settings.yaml:*",
            id="not-yaml",
        ),
    ],
)
def test_what_kubectl_would_refuse_is_refused(
    project: Project, text: str, error: str
) -> None:
    """File, line where there is one, and what is wrong."""
    project.ini('kube_manifests = ["config/settings.yaml"]')
    project.write("config/settings.yaml", text)
    project.test(USE)

    result = project.run("--kube=envtest")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([error])
