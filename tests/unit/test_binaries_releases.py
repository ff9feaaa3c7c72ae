"""What exists: versions and release files."""

from __future__ import annotations

import pytest

from pytest_kube.binaries import releases
from pytest_kube.binaries.releases import Platform, resolve_version
from pytest_kube.errors import SettingsError
from pytest_kube.profiles import providers
from pytest_kube.providers import kwok


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.36", "1.36.3"),
        ("v1.36", "1.36.3"),
        (" 1.34 ", "1.34.4"),
        ("1.36.1", "1.36.1"),
        ("v1.36.1", "1.36.1"),
        ("1.52.0", "1.52.0"),
        ("latest", "1.36.3"),
        ("", "1.36.3"),
    ],
)
def test_resolve_version(text: str, version: str) -> None:
    """A minor means its newest patch, a full version itself, nothing the default."""
    assert version == resolve_version(text)


@pytest.mark.parametrize("text", ["1.99", "1", "stable", "1.36.3-rc.1", "1.36,1.35"])
def test_resolve_version_unknown(text: str) -> None:
    """What is no version, or an unknown minor, is refused with the known ones."""
    with pytest.raises(SettingsError) as caught:
        resolve_version(text)

    assert str(caught.value) == (
        f"{text!r} is not a Kubernetes version that pytest-kube knows; give one of "
        "1.33, 1.34, 1.35, 1.36, 1.37, or a full version such as 1.36.3"
    )


def test_program_version() -> None:
    """Kubernetes' own programs have its version, the others one of their own."""
    versions = {
        name: releases.program_version(name, "1.36.1") for name in releases.PROGRAMS
    }

    assert versions == {
        "etcd": "3.6.12",
        "kube-apiserver": "1.36.1",
        "kube-controller-manager": "1.36.1",
        "kube-scheduler": "1.36.1",
        "kubectl": "1.36.1",
        "kwok": "0.8.0",
        "kind": "0.33.0",
    }


def test_programs_of_each_provider_are_known() -> None:
    """What install fetches ahead of time is what the provider asks for."""
    assert releases.PROGRAMS_OF.keys() == providers().keys()
    assert releases.PROGRAMS_OF["kwok"] == kwok.PROGRAMS


def test_matrix_is_the_newest_minor_and_three_before() -> None:
    """All of them known, the oldest first."""
    assert releases.MATRIX == ("1.34", "1.35", "1.36", "1.37")


def test_etcd_follows_the_minor_version() -> None:
    """Kubernetes 1.37 comes with another minor version of etcd."""
    assert releases.program_version("etcd", "1.37.0").startswith("3.7.")


@pytest.mark.parametrize(
    ("machine", "expected"),
    [("x86_64", "amd64"), ("aarch64", "arm64"), ("arm64", "arm64"), ("s390x", "s390x")],
)
def test_this_platform(
    monkeypatch: pytest.MonkeyPatch, machine: str, expected: str
) -> None:
    """A machine is called as Go calls it."""
    monkeypatch.setattr(releases.platform, "machine", lambda: machine)
    monkeypatch.setattr(releases.platform, "system", lambda: "Linux")

    assert releases.this_platform() == Platform("linux", expected)


def test_no_controller_manager_for_macos() -> None:
    """Nobody publishes these for macOS, so they are built."""
    mac = Platform("darwin", "arm64")
    names = ("kube-controller-manager", "kube-scheduler")

    assert [releases.asset(name, "1.36.3", mac) for name in names] == [None, None]


def test_every_program_has_a_release_for_linux() -> None:
    """On Linux all can be downloaded."""
    linux = Platform("linux", "arm64")

    assert all(releases.asset(name, "1.36.3", linux) for name in releases.PROGRAMS)
