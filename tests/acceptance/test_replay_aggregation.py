"""Aggregated APIs in a replay: who served them is gone, or is a stranger's choice."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store
from pytest_kube.state import archive_file
from pytest_kube.state.archive import About, Stored

MAIN = "import sys; from pytest_kube.cli import main; sys.exit(main())"
ABOUT = About(
    version=DEFAULT_VERSION,
    provider="kwok",
    namespace="default",
    test="test_a.py::test_a",
    made=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    first=7,
    last=9,
)
NAME = "v1beta1.metrics.k8s.io"


def stored(revision: int, key: str, obj: dict[str, Any], **metadata: str) -> Stored:
    """Return an object as it is stored."""
    times = {"creationTimestamp": "2026-01-02T03:04:00Z", "uid": metadata["name"]}
    return Stored(f"/registry/{key}", revision, {**obj, "metadata": metadata | times})


def aggregated(revision: int, port: int) -> Stored:
    """Return an API that a Service serves."""
    spec = {
        "group": "metrics.k8s.io",
        "version": "v1beta1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,
        "service": {"namespace": "default", "name": "metrics", "port": port},
    }
    obj = {"kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1"}
    available = {"type": "Available", "status": "True", "reason": "Passed"}
    obj |= {"spec": spec, "status": {"conditions": [available]}}
    key = f"apiregistration.k8s.io/apiservices/{NAME}"
    return stored(revision, key, obj, name=NAME)


@pytest.mark.parametrize("at", ["7", "9"])
def test_aggregated_api_is_left_out(tmp_path: Path, at: str) -> None:
    """Nobody is asked, kubectl has nothing to complain about, the Service is there."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.setblocking(False)
        port = stranger.getsockname()[1]
        spec = {
            "type": "ExternalName",
            "externalName": "127.0.0.1",
            "sessionAffinity": "None",
            "ports": [{"port": port, "protocol": "TCP", "targetPort": port}],
        }
        service = stored(
            3,
            "services/specs/default/metrics",
            {"kind": "Service", "apiVersion": "v1", "spec": spec},
            name="metrics",
            namespace="default",
        )
        api = aggregated(8, port)
        changes = [api, api._replace(revision=9, user="jane")]
        baseline = [service, api._replace(revision=4)]
        archive_file.write(tmp_path / archive_file.NAME, ABOUT, baseline, changes)
        script = """
        exec 2>&1
        kubectl get service metrics -o name
        kubectl get apiservices -o name | grep metrics || true
        kubectl get nodemetrics || true
        kubectl api-resources --api-group=metrics.k8s.io -o name
        """

        kubectl = Store(DEFAULT_VERSION).require("kubectl")["kubectl"]
        words = [sys.executable, "-c", MAIN, "replay", str(tmp_path)]
        done = subprocess.run(
            [*words, "--at=7", f"--until={at}", "--", "sh", "-ec", script],
            env={**os.environ, "PATH": f"{kubectl.parent}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert done.stdout.splitlines() == [
            "service/metrics",
            'error: the server doesn\'t have a resource type "nodemetrics"',
        ], done.stderr
        with pytest.raises(BlockingIOError):
            stranger.accept()
