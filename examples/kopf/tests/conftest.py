import pytest


@pytest.fixture
def nodes(kube_cluster):
    """Skip the test where pods don't run."""
    if "nodes" not in kube_cluster.capabilities:
        pytest.skip("needs pods that run: --kube=kwok or --kube=kind")
