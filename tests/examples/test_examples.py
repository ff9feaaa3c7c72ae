"""The examples, each run as its user would: in a copy of its folder."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("example", "cluster", "outcome"),
    [
        ("kopf", "kwok", "9 passed"),
        ("kopf", "envtest", "7 passed, 2 skipped"),
        ("plain", "kwok", "7 passed"),
        ("plain", "envtest", "7 passed"),
        ("recipes", "kwok", "31 passed"),
        ("recipes", "envtest", "27 passed, 4 skipped"),
        ("dask", "kwok", "5 passed"),
    ],
)
def test_example_passes(
    example: str, cluster: str, outcome: str, tmp_path: Path
) -> None:
    """The tests of an example pass, and none is skipped that could run."""
    if example == "dask":
        pytest.importorskip("dask_kubernetes")
    repository = tmp_path / example
    unwanted = shutil.ignore_patterns(".*", "__pycache__")
    shutil.copytree(EXAMPLES / example, repository, ignore=unwanted)

    run = subprocess.run(
        [sys.executable, "-m", "pytest", f"--kube={cluster}", "-p", "no:cacheprovider"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(rf"^=+ {outcome} in ", run.stdout, re.MULTILINE), run.stdout
    assert f"kube: {cluster} cluster, Kubernetes v" in run.stdout
