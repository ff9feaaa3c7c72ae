"""--kube=existing: a cluster of somebody else's, played by one of ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_kube.profiles import Profile
from pytest_kube.providers import envtest
from pytest_kube.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kube.cluster import Cluster

    from .conftest import Project

TEST = """\
def test_reconciled(kube, kube_controller):
    kube.apply({"apiVersion": "example.com/v1", "kind": "Widget",
                "metadata": {"name": "w"}, "spec": {"size": 3}})
    kube.wait_for("widget/w", "jsonpath={.status.size}=3")
"""


@pytest.fixture(scope="module")
def theirs() -> Iterator[Cluster]:
    profile = Profile("envtest", "envtest")
    with envtest.create(profile, Settings(profile), print) as cluster:
        yield cluster


@pytest.fixture
def kubeconfig(theirs: Cluster, tmp_path: Path) -> Path:
    """A kubeconfig whose current context is another, unreachable cluster."""
    config = json.loads(theirs.kubeconfig.read_text())
    (cluster,), (user,) = config["clusters"], config["users"]
    production = {"name": "production", "cluster": {"server": "https://127.0.0.1:1"}}
    config["clusters"] = [production, {**cluster, "name": "staging"}]
    config["contexts"] = [
        {"name": name, "context": {"cluster": name, "user": user["name"]}}
        for name in ("production", "staging")
    ]
    config["current-context"] = "production"
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def test_named_context_is_used_and_nothing_else(
    project: Project, kubeconfig: Path
) -> None:
    """Neither our handle nor the controller goes to the current context."""
    project.test(TEST)

    result = project.run(
        "--kube=existing", f"--kube-config={kubeconfig}", "--kube-context=staging"
    )

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["kube: using the existing cluster staging at https://127.0.0.1:*"]
    )


def test_without_a_context_it_is_refused(project: Project, kubeconfig: Path) -> None:
    """The current context is never assumed."""
    project.test(TEST)

    result = project.run("--kube=existing", f"--kube-config={kubeconfig}")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *--kube=existing needs --kube-context=NAME: *"])


def test_unknown_context_lists_the_known(project: Project, kubeconfig: Path) -> None:
    """A misspelt context is answered with those of the file."""
    project.test(TEST)

    result = project.run(
        "--kube=existing", f"--kube-config={kubeconfig}", "--kube-context=stagin"
    )

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["E *no context 'stagin'; there are: production, staging"]
    )


def test_cluster_that_does_not_answer_is_named(
    project: Project, kubeconfig: Path
) -> None:
    """The URL and what the network said."""
    project.test(TEST)

    result = project.run(
        "--kube=existing", f"--kube-config={kubeconfig}", "--kube-context=production"
    )

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["E *GET https://127.0.0.1:1/version: no answer from the API server: *"]
    )


@pytest.mark.parametrize("how", ["option", "marker"])
def test_rollback_of_somebody_elses_cluster_is_refused(
    project: Project, kubeconfig: Path, how: str
) -> None:
    """Its etcd is out of reach; what can be done instead is told."""
    marker = "import pytest\n\n@pytest.mark.kube(isolation='rollback')\n"
    project.test(f"{marker * (how == 'marker')}{TEST}")
    option = ["--kube-isolation=rollback"] if how == "option" else []

    result = project.run(
        "--kube=existing",
        f"--kube-config={kubeconfig}",
        "--kube-context=staging",
        *option,
    )

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *SettingsError: isolation by rollback: the existing cluster, Kubernetes "
            "v* cannot, for its etcd is out of reach; take namespace, or a cluster of "
            "kwok, envtest or kind"
        ]
    )


def test_namespace_is_the_default_isolation(project: Project, kubeconfig: Path) -> None:
    """Each test has a namespace of its own, which goes; wider handles, too."""
    project.test(
        "import pytest\n"
        "THING = {'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'a'}}\n"
        "@pytest.fixture(scope='module')\n"
        "def wide(kube_module):\n"
        "    kube_module.apply(THING)\n"
        "    return kube_module\n"
        "@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_own(kube, wide, number):\n"
        "    assert wide.get('cm/a') and kube.find('cm/a') is None\n"
        "    kube.apply(THING)\n"
    )

    result = project.run(
        "--kube=existing", f"--kube-config={kubeconfig}", "--kube-context=staging"
    )

    result.assert_outcomes(passed=2)
