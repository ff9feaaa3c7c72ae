"""The options --kube-binaries and --kube-offline, and the command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kube.binaries.releases import PROGRAMS

if TYPE_CHECKING:
    from .conftest import Project

TEST = "def test_it(kube): pass\n"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from pytest_kube.cli import main; exit(main())",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_folder_is_used(project: Project, kubernetes_folder: str) -> None:
    """Programs in the folder go before all others."""
    project.test(TEST)

    result = project.run("--kube=envtest", f"--kube-binaries={kubernetes_folder}")

    result.assert_outcomes(passed=1)


def test_folder_that_does_not_exist_is_a_usage_error(project: Project) -> None:
    """The option, the folder, and what should be in it."""
    project.test(TEST)

    result = project.run("--kube=envtest", "--kube-binaries=nowhere")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "ERROR: --kube-binaries=nowhere: no such folder (*/nowhere); give the "
            "folder that holds kube-apiserver, etcd and the others, or auto"
        ]
    )


def test_no_binaries_no_network_no_go_lists_every_place_and_three_remedies(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Somebody who has nothing learns what to get, and where it was looked for."""
    project.test(TEST)
    monkeypatch.setenv("PYTEST_KUBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("PYTEST_KUBE_MIRROR", "http://127.0.0.1:1")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)

    result = project.run("--kube=envtest")

    result.assert_outcomes(errors=1)
    text = result.stdout.str()
    assert "KUBEBUILDER_ASSETS" in text
    assert str(tmp_path / "cache") in text
    assert str(tmp_path / "data") in text
    assert "PATH" in text
    assert "--kube-binaries" in text
    assert "Go" in text
    assert "PYTEST_KUBE_MIRROR" in text


def test_offline_fetches_nothing_and_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The switch is named by who obeys it."""
    project.test(TEST)
    monkeypatch.setenv("PYTEST_KUBE_CACHE", str(tmp_path / "cache"))

    result = project.run("--kube=envtest", "--kube-offline")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*offline*"])


def test_list_shows_every_program() -> None:
    """Name, version, place."""
    done = command("binaries", "list")

    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(PROGRAMS)


def test_path_prints_one_path_for_scripts() -> None:
    """Nothing but the path, so that $(…) works."""
    done = command("binaries", "path", "kubectl")

    assert done.returncode == 0
    assert Path(done.stdout.strip()).name == "kubectl"


@pytest.mark.parametrize("action", ["install", "key"])
def test_unknown_program_lists_the_known(action: str) -> None:
    """Wrong usage, exit code 2."""
    done = command("binaries", action, "kubelet")

    assert done.returncode == 2
    assert done.stderr == (
        f"pytest-kube: no such program: kubelet; there are: {', '.join(PROGRAMS)}\n"
    )


def test_install_prints_where_everything_is() -> None:
    """What is there already is not fetched again."""
    done = command("binaries", "install", "etcd", "kubectl")

    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["etcd", "kubectl"]


def test_install_for_a_profile_takes_its_programs_and_its_version(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that pytest would not use."""
    project.write("clusters/mine.yaml", 'provider: envtest\nversion: "1.36"\n')
    monkeypatch.chdir(project.path)

    done = command("binaries", "install", "--kube=mine", "--kube-offline")

    assert done.returncode == 0
    programs = [Path(line.split()[1]) for line in done.stdout.splitlines()]
    assert [p.name for p in programs] == ["etcd", "kube-apiserver"]


def test_install_of_several_versions_names_each_program_once() -> None:
    """Both have the same etcd."""
    done = command("binaries", "install", "--kube-version=1.35,1.36", "etcd", "kwok")

    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["etcd", "kwok"]


def test_key_is_one_line_and_the_same_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever the cache has: nothing is looked for, nothing is made."""
    words = ["binaries", "key", "--kube=kwok", "--kube-version=1.34,1.36"]
    with_programs = command(*words)
    monkeypatch.setenv("PYTEST_KUBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")

    done = command(*words)

    assert done.returncode == 0
    assert done.stdout == with_programs.stdout
    assert re.fullmatch(
        r"pytest-kube-\w+-\w+-1\.34\.4-1\.36\.3-[0-9a-f]{12}\n", done.stdout
    )
    assert not (tmp_path / "cache").exists()


def test_version_that_is_missing_between_commas_is_named() -> None:
    """The same as that of pytest's option."""
    done = command("binaries", "key", "--kube-version=1.36,")

    assert done.returncode == 1
    assert done.stderr == (
        "pytest-kube: --kube-version=1.36,: there is a version missing between commas\n"
    )


def test_folder_is_where_install_puts_programs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For a CI cache to name; it need not exist."""
    monkeypatch.setenv("PYTEST_KUBE_CACHE", str(tmp_path))

    done = command("binaries", "folder")

    assert done.returncode == 0
    assert Path(done.stdout.strip()).parent == tmp_path / "bin"
