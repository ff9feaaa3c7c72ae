"""Controllers on each client library: they find the test's cluster, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Project

OTHER = """\
apiVersion: v1
kind: Config
current-context: other
contexts: [{name: other, context: {cluster: other, user: me}}]
clusters: [{name: other, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: me, user: {}}]
"""
BODY = """\
BODY = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made"}}
"""
CONTROLLERS = {
    "kubernetes": """
from kubernetes import client, config

def controller(namespace, stop):
    config.load_kube_config()
    client.CoreV1Api().create_namespaced_config_map(namespace, BODY)
    stop.wait()
""",
    "kubernetes.aio": """
import asyncio
from kubernetes.aio import client, config

async def controller(namespace):
    await config.load_kube_config()
    async with client.ApiClient() as api:
        await client.CoreV1Api(api).create_namespaced_config_map(namespace, BODY)
        await asyncio.Event().wait()
""",
    "kubernetes_asyncio": """
import asyncio
from kubernetes_asyncio import client, config

async def controller(namespace):
    await config.load_kube_config()
    async with client.ApiClient() as api:
        await client.CoreV1Api(api).create_namespaced_config_map(namespace, BODY)
        await asyncio.Event().wait()
""",
    "kr8s": """
import kr8s
from kr8s.objects import ConfigMap

def controller(namespace, stop):
    metadata = {**BODY["metadata"], "namespace": namespace}
    ConfigMap({**BODY, "metadata": metadata}, api=kr8s.api()).create()
    stop.wait()
""",
    "lightkube": """
from lightkube import Client
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap

def controller(namespace, stop):
    made = ConfigMap(metadata=ObjectMeta(name="made", namespace=namespace))
    Client().create(made)
    stop.wait()
""",
}
CONFIGURED = """
from kubernetes import config
config.load_kube_config()
"""
TESTS = """
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_made(kube, run_controller, number):
    run_controller("mine:controller")
    kube.wait_for("cm/made", "create")
"""


@pytest.mark.parametrize("library", sorted(CONTROLLERS))
def test_controller_finds_the_clusters_api(
    project: Project, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the environment says, and whatever was configured before."""
    pytest.importorskip(library)
    other = project.write("other.yaml", OTHER)
    monkeypatch.setenv("KUBECONFIG", str(other))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    project.ini('pythonpath = ["."]')
    project.write("mine.py", BODY + CONTROLLERS[library])
    project.write("conftest.py", CONFIGURED)
    project.test(TESTS)

    result = project.run("--kube=envtest", "--kube-timeout=5")

    result.assert_outcomes(passed=2)


def test_client_that_was_configured_for_another_cluster_does_not_reach_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A controller that configures nothing finds no cluster, not the wrong one."""
    other = project.write("other.yaml", OTHER)
    monkeypatch.setenv("KUBECONFIG", str(other))
    project.ini('pythonpath = ["."]')
    project.write("conftest.py", CONFIGURED)
    project.test(
        "from kubernetes import client\n"
        "def test_it(run_controller):\n"
        "    hosts = []\n"
        "    def controller(stop):\n"
        "        hosts.append(client.CoreV1Api().api_client.configuration.host)\n"
        "        stop.wait()\n"
        "    run_controller(controller).stop()\n"
        "    assert hosts[0] in ('', 'http://localhost')\n"
        "def test_afterwards():\n"
        "    now = client.CoreV1Api().api_client.configuration.host\n"
        "    assert now == 'http://127.0.0.1:1'\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=2)
