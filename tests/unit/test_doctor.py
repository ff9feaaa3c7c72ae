"""What doctor says of a machine that a test cannot have: little memory, a full disk."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_kube import doctor
from pytest_kube.profiles import Profile
from pytest_kube.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def told(tmp_path: Path) -> dict[str, str]:
    """An environment without anything."""
    return {
        "PYTEST_KUBE_CACHE": str(tmp_path),
        "HOME": str(tmp_path),
        "PATH": str(tmp_path),
    }


def examine(environ: dict[str, str]) -> str:
    profile = Profile("envtest", "envtest")
    lines: list[str] = []
    doctor.examine(Settings(profile, offline=True), environ, lines.append)
    return "\n".join(lines)


def test_little_memory_is_told(
    told: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what a cluster takes, not as something that is missing."""
    monkeypatch.setattr(doctor, "_available", lambda: 399)
    little = examine(told)
    monkeypatch.setattr(doctor, "_available", lambda: 400)
    enough = examine(told)
    monkeypatch.setattr(doctor, "_available", lambda: None)
    unknown = examine(told)

    text = "  note     memory: 399 MiB available, and a cluster takes about 400"
    assert text in little.splitlines()
    assert " memory: " not in enough + unknown


def test_full_disk_is_told(
    told: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room is told in any case, and is a note where there is little."""
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: SimpleNamespace(free=999 * 1024 * 1024)
    )

    assert f"  note     cache: {tmp_path}, 999 MiB free" in examine(told).splitlines()


def test_available_memory_is_read_where_linux_tells_it() -> None:
    """It is some, and not more than any machine has."""
    available = doctor._available()

    assert available is None or 0 < available < 100_000_000
