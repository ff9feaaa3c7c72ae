"""A program really built by Go."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from pytest_kube.binaries.store import Store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("go") is None, reason="there is no go on PATH")
def test_build(tmp_path: Path) -> None:
    """What cannot be downloaded is built from its Go module, and found from then on."""
    environ = {
        **os.environ,
        "PYTEST_KUBE_CACHE": str(tmp_path / "cache"),
        "PYTEST_KUBE_MIRROR": "http://127.0.0.1:1",
        "XDG_DATA_HOME": str(tmp_path),
    }
    # A kind of the machine would be taken, and there would be nothing to build.
    for variable in ("TEST_ASSET_KIND", "KUBEBUILDER_ASSETS"):
        environ.pop(variable, None)
    (tmp_path / "bin").mkdir()
    for tool in ("go", "git"):
        if program := shutil.which(tool):
            (tmp_path / "bin" / tool).symlink_to(program)
    environ["PATH"] = str(tmp_path / "bin")
    lines: list[str] = []

    path = Store("1.36.3", environ=environ, report=lines.append).require("kind")["kind"]

    version = subprocess.check_output([path, "--version"], text=True)
    assert version == "kind version 0.33.0\n"
    assert lines[0] == (
        "building kind 0.33.0 from its Go module (once per machine, about 1 minute) ..."
    )
    again = Store("1.36.3", offline=True, environ=environ)
    assert again.require("kind") == {"kind": path}
