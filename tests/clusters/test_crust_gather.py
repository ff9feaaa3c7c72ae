"""Archives of crust-gather, made of real clusters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_kube.diagnostics import crust_gather
from pytest_kube.history import Selection, read
from pytest_kube.kubectl_yaml import parse
from pytest_kube.state import archive_file
from pytest_kube.state.archive import Stored

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kube.kube import Kube

SCHEMA = {"openAPIV3Schema": {"type": "object"}}
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gathered.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "gathered", "singular": "one", "kind": "Gathered"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": SCHEMA,
                "additionalPrinterColumns": [
                    {"name": "Kind", "type": "string", "jsonPath": ".kind"}
                ],
            }
        ],
    },
}


def document(path: Path) -> Any:
    (found,) = parse(path.read_text("utf-8"), path)
    return found.object


def test_archive_has_what_the_api_serves(handle: Kube, tmp_path: Path) -> None:
    """Also where etcd stores another version, as it does of CRDs."""
    state = handle.cluster.state
    assert state is not None
    mark = handle.cluster.mark()
    baseline = [
        Stored(entry.key, entry.revision, value)
        for entry in state.entries(mark.since)
        if (value := archive_file.value_of(entry.value)) is not None
    ]
    handle.apply(CRD)
    handle.wait_for("crd/gathered.example.com", "condition=Established")
    gone = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gone"}}
    handle.create(gone)
    handle.delete("configmap/gone")
    expected = handle.get("crd/gathered.example.com")

    crust_gather.write(
        tmp_path / "cg",
        handle.cluster.client,
        crust_gather.first(baseline, handle.namespace),
        read(handle.cluster, mark.since, Selection()),
    )

    handle.cluster.release(mark)
    crds = tmp_path / "cg/cluster/apiextensions.k8s.io-v1/customresourcedefinition"
    crd = document(crds / "gathered.example.com.yaml")
    assert crd["spec"] == expected["spec"]
    folder = tmp_path / f"cg/namespaces/{handle.namespace}/v1/configmap"
    assert document(folder / "gone.yaml")["metadata"]["name"] == "gone"
    last = json.loads((folder / "gone.patch").read_text().splitlines()[-1])
    assert "/metadata/annotations/crust-gather.io~1deleted" in [o["path"] for o in last]
    assert (tmp_path / f"cg/cluster/v1/namespace/{handle.namespace}.yaml").exists()
    assert not (tmp_path / "cg/cluster/v1/namespace/default.yaml").exists()
