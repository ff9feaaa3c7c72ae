"""The examples, each run as its user would: in a copy of its folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

# Go keeps what it has built in a cache of its user's, and cargo in the folder target of
# the package. All copies share one of those, outside of the repository, so that a new
# clone finds it, too.
RUST_TARGET = Path.home() / ".cache" / "pytest-kube-examples" / "rust-target"

LANGUAGES = ("kopf", "go", "rust")
"""The examples that are the same operator."""

BUILDERS = {"go": "go", "rust": "cargo"}
"""What the examples that are built need for that."""

TIMEOUT = 600
"""Seconds for an example; building one anew takes most of them."""


def copy(example: str, folder: Path) -> Path:
    """Copy an example, without what it builds; return where it is."""
    repository = folder / example
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "bin", "target")
    # As new files: cargo goes by their times, and may have built others meanwhile.
    shutil.copytree(
        EXAMPLES / example, repository, ignore=unwanted, copy_function=shutil.copy
    )
    if example == "rust":
        RUST_TARGET.mkdir(parents=True, exist_ok=True)
        (repository / "target").symlink_to(RUST_TARGET)
    return repository


def run(
    repository: Path, *arguments: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run pytest there."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command,
        cwd=repository,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=TIMEOUT - 20,
        check=False,
    )


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize(
    ("example", "cluster", "outcome"),
    [
        ("kopf", "kwok", "12 passed"),
        ("kopf", "envtest", "9 passed, 3 skipped"),
        ("go", "kwok", "14 passed"),
        ("go", "envtest", "11 passed, 3 skipped"),
        ("rust", "kwok", "12 passed"),
        ("rust", "envtest", "9 passed, 3 skipped"),
        ("plain", "kwok", "7 passed"),
        ("plain", "envtest", "7 passed"),
        ("recipes", "kwok", "31 passed"),
        ("recipes", "envtest", "27 passed, 4 skipped"),
        pytest.param(
            # Its operator now and then asks for a cluster that is deleted already.
            "dask",
            "kwok",
            "5 passed(, 1 warning)?",
            id="dask-kwok",
        ),
    ],
)
def test_example_passes(
    example: str, cluster: str, outcome: str, tmp_path: Path
) -> None:
    """The tests of an example pass, and none is skipped that could run."""
    if example == "dask":
        pytest.importorskip("dask_kubernetes")
    if example in BUILDERS and shutil.which(BUILDERS[example]) is None:
        pytest.skip(f"{BUILDERS[example]} is not on PATH, which builds this example")

    done = run(copy(example, tmp_path), f"--kube={cluster}")

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^=+ {outcome} in ", done.stdout, re.MULTILINE), done.stdout
    assert f"kube: {cluster} cluster, Kubernetes v" in done.stdout


METRICS = """\
def test_reconciles(kube, kube_controller):
    kube.apply("config/samples/memcached.yaml")
    kube.eventually(lambda: kube_controller.reconciles()["success"])
    assert kube_controller.outcomes == []
"""


@pytest.mark.timeout(TIMEOUT)
def test_reconciles_are_counted_by_controller_runtime(tmp_path: Path) -> None:
    """Its metric is read from the port that the program was given."""
    if shutil.which("go") is None:
        pytest.skip("go is not on PATH, which builds this example")
    repository = copy("go", tmp_path)
    (repository / "tests" / "test_metrics.py").write_text(METRICS)
    manager = (
        "exec:./bin/manager --health-probe-bind-address=0 "
        "--metrics-bind-address=127.0.0.1:{port:metrics}"
    )

    done = run(
        repository,
        "--kube=envtest",
        f"--override-ini=kube_controller={manager}",
        "tests/test_metrics.py",
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "path",
    [
        "tests/test_memcached.py",
        "config/crd/cache.example.com_memcacheds.yaml",
        "config/samples/memcached.yaml",
    ],
)
def test_one_suite_tests_the_same_in_three_languages(path: str) -> None:
    """To the byte: nothing in it knows what the operator is written in."""
    suite, *others = [(EXAMPLES / each / path).read_bytes() for each in LANGUAGES]

    assert [other == suite for other in others] == [True, True]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (
            "go",
            "the controller is built with go, which is not on PATH: install Go 1.26 "
            "or newer, or add its folder bin to PATH",
        ),
        (
            "rust",
            "the controller is built with cargo, which is not on PATH: install Rust "
            "1.89 or newer, or add its folder bin to PATH",
        ),
    ],
)
def test_example_says_how_to_get_its_compiler(
    example: str, message: str, tmp_path: Path
) -> None:
    """Once per test, without a traceback; what needs no controller passes."""
    repository = copy(example, tmp_path)
    selected = ("-k", "owns_its_deployment or has_defaults")

    done = run(repository, "--kube=envtest", *selected, PATH=str(tmp_path))

    assert re.search("^=+ 1 passed, .*1 error in ", done.stdout, re.MULTILINE)
    assert message in done.stdout
