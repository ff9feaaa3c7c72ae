"""Small projects as users have them, run by pytest in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store

CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: widgets.example.com
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: {size: {type: integer, minimum: 0}}
          status:
            type: object
            x-kubernetes-preserve-unknown-fields: true
"""

OPERATOR = """\
import kopf

@kopf.on.create("widgets")
@kopf.on.update("widgets")
def reconcile(spec, patch, **_):
    patch.status["size"] = spec.get("size")
"""


DECIDING = (
    *("PYTEST_ADDOPTS", "PYTEST_KUBE", "PYTEST_KUBE_ALLOW_WRITES", "KUBECONFIG"),
    *("USE_EXISTING_CLUSTER", "ENVTEST_K8S_VERSION", "ENVTEST_INSTALLED_ONLY"),
    "KUBEBUILDER_CONTROLPLANE_START_TIMEOUT",
)
"""The variables that decide which cluster a run has."""


class Project:
    """A user's repository: an ini file, a CRD, an operator, tests."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = Path(pytester.path)
        self.write("crds/widgets.yaml", CRD)
        self.write("src/widget_operator.py", OPERATOR)
        self.ini(
            'kube_crds = ["crds"]', 'kube_controller = "kopf:src/widget_operator.py"'
        )

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def ini(self, *lines: str) -> None:
        self.write(
            "pyproject.toml", "\n".join(["[tool.pytest.ini_options]", *lines, ""])
        )

    def test(self, text: str) -> None:
        self.write("test_widgets.py", text)

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_subprocess(
            "-p", "no:cacheprovider", *arguments, timeout=100
        )


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose runs do not know that they run inside of another pytest."""
    for name in DECIDING:
        monkeypatch.delenv(name, raising=False)
    return Project(pytester)


@pytest.fixture(scope="session")
def kubernetes_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with etcd and kube-apiserver, as KUBEBUILDER_ASSETS points at."""
    folder = tmp_path_factory.mktemp("assets")
    found = Store(DEFAULT_VERSION).require("etcd", "kube-apiserver", "kubectl")
    for name, path in found.items():
        (folder / name).symlink_to(path)
    return str(folder)
