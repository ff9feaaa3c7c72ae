"""The operator of the dask-kubernetes wheel as published, with its own manifests."""

from importlib.resources import files

import pytest

from pytest_kube import field, phase

OPERATOR = files("dask_kubernetes.operator")
CRDS = OPERATOR / "deployment/helm/dask-kubernetes-operator/crds"
EXAMPLES = OPERATOR / "controller/tests/resources"

pytestmark = [
    pytest.mark.kube(crds=[CRDS]),
    pytest.mark.usefixtures("kube_controller"),
]


def test_runs_a_cluster(kube):
    kube.apply(EXAMPLES / "simplecluster.yaml")
    kube.wait_for("daskcluster/simple", phase("Running"))
    import time; time.sleep(2)
    for k in ("deployments","pods","services","daskworkergroups"): print(k, [(o.name, o.get("status")) for o in kube.list(k)])

def test_scale(kube, kube_controller):
    import time
    kube.apply(EXAMPLES / "simplecluster.yaml")
    kube.wait_for("daskcluster/simple", phase("Running"))
    t=time.monotonic()
    try:
        kube.wait_for("daskworkergroup/simple-default", field("spec.worker.replicas", 2))
        kube.scale("daskcluster/simple", 1) if hasattr(kube, "scale") else kube.patch("daskcluster/simple", {"spec":{"worker":{"replicas":1}}})
        kube.wait_for("daskworkergroup/simple-default", field("spec.worker.replicas", 1))
        while time.monotonic() - t < 40 and len(kube.list("deployments")) > 2: time.sleep(1)
    finally:
        print("took", time.monotonic()-t, len(kube.list("deployments")))
        print(kube_controller.errors); print(kube_controller.output)
