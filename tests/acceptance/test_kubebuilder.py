"""A repository that was made for envtest: its Makefile and variables, unchanged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_kube import kubeconfig
from pytest_kube.binaries.releases import DEFAULT_VERSION, this_platform
from pytest_kube.profiles import Profile
from pytest_kube.providers import envtest
from pytest_kube.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kube.cluster import Cluster

    from .conftest import Project

MAKEFILE = """\
LOCALBIN ?= $(shell pwd)/bin
PYTHON ?= python3
ENVTEST ?= $(LOCALBIN)/setup-envtest
ENVTEST_K8S_VERSION ?= 1.36

.PHONY: test
test:
\tKUBEBUILDER_ASSETS="$(shell $(ENVTEST) use $(ENVTEST_K8S_VERSION) \
--bin-dir $(LOCALBIN) -p path)" $(PYTHON) -m pytest -p no:cacheprovider --kube=envtest
"""
READS = "def test_reads(kube):\n    assert kube.list('namespaces')\n"
WRITES = """\
THING = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}

def test_writes(kube):
    kube.apply(THING)
    print("written in", kube.namespace)
"""


@pytest.fixture(autouse=True)
def _without_programs_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)


@pytest.fixture
def assets(project: Project, kubernetes_folder: str) -> Path:
    """The programs, where setup-envtest would have put them."""
    on = this_platform()
    folder = project.path / f"bin/k8s/{DEFAULT_VERSION}-{on.os}-{on.arch}"
    shutil.copytree(kubernetes_folder, folder, symlinks=True)
    return folder


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_makefile_of_kubebuilder_needs_no_change(
    project: Project, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It prints where the programs are, and sets a variable; nothing is fetched."""
    project.ini('kube_crds = ["crds"]')
    project.test("def test_crd(kube):\n    assert kube.list('widgets') == []\n")
    project.write("Makefile", MAKEFILE)
    setup_envtest = project.write(
        "bin/setup-envtest", f'#!/bin/sh\nprintf "%s" "{assets}"\n'
    )
    setup_envtest.chmod(0o755)
    monkeypatch.setenv("ENVTEST_INSTALLED_ONLY", "true")
    monkeypatch.setenv("PYTEST_KUBE_CACHE", str(project.path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    done = subprocess.run(
        ["make", "test", f"PYTHON={sys.executable}"],
        cwd=project.path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"kube: envtest, Kubernetes {DEFAULT_VERSION}\n" in done.stdout
    assert "1 passed" in done.stdout
    assert not (project.path / "cache" / "bin").exists()


def test_version_of_the_makefile_is_the_default(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below option and ini value, and for envtest only."""
    project.test("def test_version(kube_version): pass\n")
    monkeypatch.setenv("ENVTEST_K8S_VERSION", "1.35")

    header = "kube: {}, Kubernetes {}"
    for arguments, expected in {
        ("--kube=envtest",): header.format("envtest", "1.35.4"),
        ("--kube=envtest", "--kube-version=1.34"): header.format("envtest", "1.34.4"),
        ("--kube=kwok",): header.format("kwok", DEFAULT_VERSION),
    }.items():
        result = project.run("--collect-only", *arguments)
        result.stdout.fnmatch_lines([expected])


def test_version_that_is_not_known_is_told_by_the_name_of_the_variable(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody gave an option that the error could be about."""
    monkeypatch.setenv("ENVTEST_K8S_VERSION", "1.20")

    result = project.run("--kube=envtest")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "ERROR: ENVTEST_K8S_VERSION=1.20: '1.20' is not a Kubernetes version that "
            "pytest-kube knows; give one of *"
        ]
    )


def test_programs_of_another_version_than_their_folder_says_are_refused(
    project: Project, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that was renamed is no other version."""
    other = assets.with_name(assets.name.replace(DEFAULT_VERSION, "1.30.0"))
    assets.rename(other)
    project.ini()
    project.test(READS)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(other))

    result = project.run("--kube=envtest")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            f"*KUBEBUILDER_ASSETS={other}, but the programs that were found are "
            f"Kubernetes {DEFAULT_VERSION}; see pytest-kube binaries list"
        ]
    )


def test_installed_only_is_offline(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What setup-envtest would not download is not downloaded, nor built."""
    project.ini()
    project.test(READS)
    monkeypatch.setenv("ENVTEST_INSTALLED_ONLY", "true")
    monkeypatch.setenv("PYTEST_KUBE_CACHE", str(project.path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    result = project.run("--kube=envtest")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*download*the offline switch (--kube-offline or ENVTEST_INSTALLED_ONLY)*"]
    )


def test_start_timeout_ends_the_wait_for_a_component(
    project: Project, kubernetes_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server cannot be ready in a millisecond."""
    project.ini()
    project.test(READS)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", kubernetes_folder)
    monkeypatch.setenv("KUBEBUILDER_CONTROLPLANE_START_TIMEOUT", "1ms")

    result = project.run("--kube=envtest")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*runs (pid *) but was not ready within * s*"])


def test_wrong_start_timeout_is_a_usage_error(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is started."""
    monkeypatch.setenv("KUBEBUILDER_CONTROLPLANE_START_TIMEOUT", "60")

    result = project.run("--kube=envtest")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "ERROR: KUBEBUILDER_CONTROLPLANE_START_TIMEOUT=60: no duration as Go writes "
            "it; give numbers with units, such as 60s, 1m30s or 500ms"
        ]
    )


# --- USE_EXISTING_CLUSTER -----------------------------------------------------


@pytest.fixture(scope="module")
def theirs() -> Iterator[Cluster]:
    """Somebody's cluster."""
    profile = Profile("envtest", "envtest")
    with envtest.create(profile, Settings(profile), print) as cluster:
        yield cluster


@pytest.fixture
def file(theirs: Cluster, project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Their kubeconfig, whose current context is staging; the variables are set."""
    cluster, user = kubeconfig.current(theirs.kubeconfig)
    content = {
        "current-context": "staging",
        "clusters": [{"name": "staging", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [
            {"name": name, "context": {"cluster": "staging", "user": "admin"}}
            for name in ("staging", "other", "production")
        ],
    }
    project.ini()
    path = project.write("kubeconfig", json.dumps(content))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("USE_EXISTING_CLUSTER", "true")
    return path


def test_existing_cluster_is_that_of_the_current_context_and_is_named(
    project: Project, file: Path
) -> None:
    """The variable asks for it; which server it is, nobody has to guess."""
    project.test(READS)

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "kube: existing (USE_EXISTING_CLUSTER=true), context staging: "
            "https://127.0.0.1:* as admin; only read, see --kube-allow-writes"
        ]
    )


def test_existing_cluster_is_only_read_until_writes_are_allowed(
    project: Project, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Makefile that has no options of ours can allow them by another variable."""
    project.test(WRITES)

    refused = project.run("--kube=envtest")
    monkeypatch.setenv("PYTEST_KUBE_ALLOW_WRITES", "true")
    allowed = project.run("--kube=envtest", "-s")

    refused.assert_outcomes(failed=1)
    refused.stdout.fnmatch_lines(
        [
            "E *SettingsError: PATCH *: the cluster of context staging * is only read, "
            "until writes are allowed: by --kube-allow-writes, "
            "PYTEST_KUBE_ALLOW_WRITES=true, *"
        ]
    )
    allowed.assert_outcomes(passed=1)
    allowed.stdout.fnmatch_lines(["*written in test-writes-*"])


def test_context_that_is_named_goes_before_the_current_one(
    project: Project, file: Path
) -> None:
    """By the option of ours, which envtest does not have."""
    project.test(READS)

    result = project.run("--kube=envtest", "--kube-context=other")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["kube: existing (USE_EXISTING_CLUSTER=true), context other: *"]
    )


def test_current_context_that_is_production_is_refused(
    project: Project, file: Path
) -> None:
    """The variable asks for a cluster, not for that one."""
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "current-context": "production"}))

    result = project.run("--kube=envtest")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "ERROR: USE_EXISTING_CLUSTER=true, context production: tests keep away from "
            "it, for 'production' of kube_refuse matches the name of its context, "
            "production"
        ]
    )


def test_kubeconfig_without_a_current_context_is_told(
    project: Project, file: Path
) -> None:
    """With both ways to name one."""
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "current-context": ""}))

    result = project.run("--kube=envtest")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            f"ERROR: USE_EXISTING_CLUSTER=true: kubeconfig {file} has no current "
            "context; kubectl config use-context NAME sets one, --kube-context=NAME "
            "names one for this run"
        ]
    )


def test_other_providers_are_what_they_are(project: Project, file: Path) -> None:
    """The variable is envtest's; who asks for kwok by name gets kwok."""
    project.test(READS)

    result = project.run("--kube=kwok")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"kube: kwok, Kubernetes {DEFAULT_VERSION}"])
