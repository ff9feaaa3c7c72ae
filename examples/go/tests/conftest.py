import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_kube import Cluster, Controller


@pytest.fixture(scope="session")
def manager() -> None:
    """Build the controller; when nothing has changed, that takes no time."""
    go = shutil.which("go")
    if go is None:
        pytest.fail(
            "the controller is built with go, which is not on PATH: install Go 1.26 "
            "or newer, or add its folder bin to PATH",
            pytrace=False,
        )
    build = [go, "build", "-o", "bin/manager", "./cmd"]
    done = subprocess.run(build, cwd=Path(__file__).parents[1], check=False)
    if done.returncode != 0:
        pytest.fail("go build failed; its output says why", pytrace=False)


@pytest.fixture
def kube_controller(manager: None, kube_controller: Controller) -> Controller:
    """The controller of the ini file, built before it starts."""
    return kube_controller


@pytest.fixture
def nodes(kube_cluster: Cluster) -> None:
    """Skip the test where pods don't run."""
    if "nodes" not in kube_cluster.capabilities:
        pytest.skip("needs pods that run: --kube=kwok or --kube=kind")
