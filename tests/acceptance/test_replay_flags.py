"""What a replay serves: what the cluster of the test served."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store
from pytest_kube.state import archive_file

MAIN = "import sys; from pytest_kube.cli import main; sys.exit(main())"
PROFILE = """\
provider: envtest
featureGates: {ClusterTrustBundle: true}
runtimeConfig: {certificates.k8s.io/v1beta1: "true"}
extraArgs: {kube-apiserver: {max-requests-inflight: "399"}}
"""
TEST = """\
from pytest_kube.controlplane.certs import Authority

def test_fails(kube):
    kube.create({"apiVersion": "certificates.k8s.io/v1beta1",
                 "kind": "ClusterTrustBundle", "metadata": {"name": "ours"},
                 "spec": {"trustBundle": Authority().certificate.decode()}})
    raise LookupError("as expected")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts of a test on a cluster that serves what is off by default."""
    project = tmp_path_factory.mktemp("project")
    (project / "clusters").mkdir()
    (project / "clusters/beta.yaml").write_text(PROFILE)
    (project / "test_bundles.py").write_text(TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--kube=beta"],
        cwd=project,
        env={k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "LookupError: as expected" in done.stdout, done.stdout
    (found,) = (project / ".pytest-kube/artifacts").glob("*/")
    return found


def replay(path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    kubectl = Store(DEFAULT_VERSION).require("kubectl")["kubectl"]
    return subprocess.run(
        [
            sys.executable,
            "-c",
            MAIN,
            "replay",
            str(path),
            "--kube-offline",
            "--",
            *command,
        ],
        env={**os.environ, "PATH": f"{kubectl.parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_replay_serves_what_the_cluster_served(folder: Path) -> None:
    """A group that is off by default; no other flag is in the archive."""
    assert archive_file.read(folder).about.flags == {
        "feature-gates": "ClusterTrustBundle=true",
        "runtime-config": "certificates.k8s.io/v1beta1=true",
    }

    done = replay(folder, "kubectl", "get", "clustertrustbundles", "-o", "name")

    assert done.stdout == "clustertrustbundle.certificates.k8s.io/ours\n", done.stderr


def edited(folder: Path, path: Path, **header: object) -> Path:
    lines = gzip.decompress((folder / archive_file.NAME).read_bytes()).splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), **header}).encode()
    path.write_bytes(gzip.compress(b"\n".join(lines)))
    return path


def test_flags_are_for_the_version_of_the_archive(folder: Path, tmp_path: Path) -> None:
    """Another one need not know them, and starts nevertheless."""
    flags = {"feature-gates": "NobodyKnowsIt=true"}
    path = edited(folder, tmp_path / "old.gz", version="1.20.1", flags=flags)

    done = replay(path, "kubectl", "get", "namespace", "default", "-o", "name")

    assert done.stdout == "namespace/default\n", done.stderr


def test_archive_does_not_choose_files_for_the_server(
    folder: Path, tmp_path: Path
) -> None:
    """Nothing is started, and the flag is named."""
    flags = {"audit-log-path": str(tmp_path / "written")}
    path = edited(folder, tmp_path / "bad.gz", flags=flags)

    done = replay(path, "true")

    assert done.stderr.startswith(
        f"pytest-kube: {path}, line 1: no flag of what is served: 'audit-log-path'="
    )
    assert (done.returncode, (tmp_path / "written").exists()) == (1, False)
