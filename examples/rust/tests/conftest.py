import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_kube import Cluster, Controller


@pytest.fixture(scope="session")
def manager() -> None:
    """Build the controller; when nothing has changed, that takes no time."""
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.fail(
            "the controller is built with cargo, which is not on PATH: install Rust "
            "1.89 or newer, or add its folder bin to PATH",
            pytrace=False,
        )
    build = [cargo, "build", "--locked"]
    done = subprocess.run(build, cwd=Path(__file__).parents[1], check=False)
    if done.returncode != 0:
        pytest.fail("cargo build failed; its output says why", pytrace=False)


@pytest.fixture
def kube_controller(manager: None, kube_controller: Controller) -> Controller:
    """The controller of the ini file, built before it starts."""
    return kube_controller


@pytest.fixture
def nodes(kube_cluster: Cluster) -> None:
    """Skip the test where pods don't run."""
    if "nodes" not in kube_cluster.capabilities:
        pytest.skip("needs pods that run: --kube=kwok or --kube=kind")
