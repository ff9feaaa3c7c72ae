import pytest

from pytest_kube import Cluster


@pytest.fixture
def nodes(kube_cluster: Cluster) -> None:
    """Skip the test where pods don't run."""
    if "nodes" not in kube_cluster.capabilities:
        pytest.skip("needs pods that run: --kube=kwok or --kube=kind")
