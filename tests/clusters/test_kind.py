"""kind: real nodes. Runs where a docker daemon has the node image."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.client import Client
from pytest_kube.errors import ClusterError, ExecError, KubeError
from pytest_kube.kube import Kube
from pytest_kube.profiles import Profile
from pytest_kube.providers import kind, kind_nodes
from pytest_kube.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kube.cluster import Cluster

docker = pytest.importorskip("docker", reason="needs the extra 'kind'")

IMAGE = f"kindest/node:v{DEFAULT_VERSION}"
LABEL = "io.x-k8s.kind.cluster"
PROFILE = Profile("kind", "kind")


def clusters(client: Any) -> set[str]:
    # Not containers.list(): it inspects each, and some may be gone by then.
    found = client.api.containers(all=True, filters={"label": LABEL})
    return {container["Labels"][LABEL] for container in found}


@pytest.mark.timeout(300)
def test_cluster_is_usable_when_it_is_returned(kind_cluster: Cluster) -> None:
    """Nodes are Ready, without taints, and pods can be created."""
    kube = Kube(kind_cluster, "default", timeout=60)

    (node,) = kube.list("nodes")

    assert node["status"]["nodeInfo"]["kubeletVersion"] == f"v{DEFAULT_VERSION}"
    assert "taints" not in node["spec"]
    assert kube.get("serviceaccount/default")


@pytest.mark.timeout(300)
def test_local_images_of_the_profile_are_on_the_node(
    kind_cluster: Cluster, loaded_image: str, archived_image: tuple[str, Path]
) -> None:
    """No registry is asked for them: they come from the daemon, and from a file."""
    kube = Kube(kind_cluster, "default", timeout=60)

    def listed(node: Any) -> bool:
        names = [n for i in node["status"].get("images", ()) for n in i["names"]]
        return {loaded_image, archived_image[0]} <= set(names)

    (node,) = kube.list("nodes")

    kube.wait_for(node, listed)


@pytest.mark.timeout(300)
def test_mounts_and_patches_of_the_profile_reach_the_node(
    kind_cluster: Cluster, docker_client: Any
) -> None:
    """Files of the host, and what kubeadm is told of kubelet."""
    kube = Kube(kind_cluster, "default", timeout=60)

    (node,) = kube.list("nodes")
    container = docker_client.containers.get(node.name)
    read = container.exec_run(["cat", "/here/hello"])
    written = container.exec_run(["touch", "/here/hello"])

    assert read.output == b"from the host\n"
    assert b"Read-only file system" in written.output
    assert node["status"]["capacity"]["pods"] == "77"


@pytest.mark.timeout(300)
def test_node_can_be_paused_and_goes_on(kind_cluster: Cluster) -> None:
    """Nobody gets an answer meanwhile; at the end of a test it runs by itself."""
    kube = Kube(kind_cluster, "default", timeout=60)
    assert kind_cluster.machines

    kube.node().pause()
    with pytest.raises(ClusterError, match="is paused"):
        kind_cluster.check()
    with pytest.raises(KubeError, match="timed out"):
        kind_cluster.client.request("GET", "/api/v1/nodes", timeout=0.5)
    kube.node().resume()

    kind_cluster.check()
    assert kube.list("nodes")
    kube.node().pause()
    kind_cluster.machines.mend()
    kind_cluster.check()
    assert [step.text.partition("')")[2] for step in kube.steps.all()] == [
        ".pause()",
        ".resume()",
        "",
        ".pause()",
    ]


@pytest.mark.timeout(300)
def test_node_can_be_restarted(kind_cluster: Cluster) -> None:
    """What etcd stores is there afterwards, and the cluster can be rolled back."""
    kube = Kube(kind_cluster, "default", timeout=60)
    mark = kind_cluster.mark()
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})
    assert kind_cluster.machines

    kube.node().restart()
    kube.node().kill()
    kind_cluster.machines.mend()

    assert kube.get("configmap/c")
    kind_cluster.roll_back(mark)
    kind_cluster.release(mark)
    assert kube.find("configmap/c") is None


@pytest.mark.timeout(300)
def test_node_that_is_not_there_is_an_error(
    kind_cluster: Cluster, on_kwok: Kube
) -> None:
    """It lists those that are; simulated nodes are no machines."""
    kube = Kube(kind_cluster, "default", timeout=60)
    (node,) = kube.list("nodes")

    with pytest.raises(ClusterError) as unknown:
        kube.node("worker")
    with pytest.raises(ClusterError) as simulated:
        on_kwok.node("node-0")

    assert str(unknown.value) == f"node worker: there are {node.name}"
    assert str(simulated.value) == (
        "node node-0: it is no machine that could be stopped; nodes of kwok clusters "
        "are not, those of --kube=kind are"
    )


@pytest.mark.timeout(300)
def test_daemon_that_goes_away_is_named(kind_cluster: Cluster, tmp_path: Path) -> None:
    """In the middle of a run; the node may run on, but nobody can tell."""
    path = tmp_path / "docker.sock"
    with forwarded(path, Path("/var/run/docker.sock")):
        client = docker.DockerClient(base_url=f"unix://{path}")
        (node,) = Kube(kind_cluster, "default", timeout=60).list("nodes")
        container = client.containers.get(node.name)
        kind_nodes.check([container])

    with pytest.raises(ClusterError) as error:
        kind_nodes.check([container])

    text = str(error.value)
    client.close()
    del error
    with warnings.catch_warnings():  # as below: docker's package leaves a socket open
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    lost = "docker does not answer any more, so nothing is known of node "
    assert text.startswith(f"{lost}{node.name}: ")


@contextlib.contextmanager
def forwarded(path: Path, target: Path) -> Iterator[None]:
    """Let a socket lead to another one, until it is gone with all its connections."""
    ours: list[socket.socket] = []

    class Forwarder(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as other:
                other.connect(str(target))
                ours.extend([self.request, other])
                back = threading.Thread(target=copy, args=(other, self.request))
                back.start()
                copy(self.request, other)
                back.join()

    def copy(source: socket.socket, destination: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                destination.sendall(data)
            destination.shutdown(socket.SHUT_WR)

    with socketserver.ThreadingUnixStreamServer(str(path), Forwarder) as server:
        threading.Thread(target=server.serve_forever).start()
        yield
        server.shutdown()
        path.unlink()
        for each in ours:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.mark.timeout(300)
def test_identity_is_signed_by_the_clusters_own_authority(
    kind_cluster: Cluster,
) -> None:
    """Controllers get users of their own on kind as well."""
    client = Client.from_kubeconfig(kind_cluster.identity("jane", ["system:masters"]))

    review = client.request(
        "POST",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        body={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
    )

    assert review["status"]["userInfo"]["username"] == "jane"


@pytest.mark.timeout(300)
def test_logs_of_the_control_plane_are_fetched_from_the_nodes(
    kind_cluster: Cluster,
) -> None:
    """Diagnostics need them, and the node is gone soon after."""
    logs = {name.partition(".")[2]: path for name, path in kind_cluster.logs.items()}

    assert logs.keys() == {
        "containerd",
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
    }
    assert "Started kubelet" in logs["kubelet"].read_text()
    assert "StartContainer" in logs["containerd"].read_text()
    assert "max-txn-ops" in logs["etcd"].read_text()


@pytest.fixture
def talkative(kind_cluster: Cluster, talkative_image: str | None) -> Iterator[Kube]:
    """A handle beside a pod that runs."""
    if talkative_image is None:
        pytest.skip("there is no Go to build the program that runs in the pod")
    kube = Kube(kind_cluster, "default", timeout=60)
    container = {"name": "c", "image": talkative_image, "imagePullPolicy": "Never"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "talkative"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    kube.create(pod)
    kube.wait_for("pod/talkative", "condition=Ready")
    yield kube
    kube.delete("pod/talkative")


@pytest.mark.timeout(300)
def test_pod_that_runs_has_logs_commands_and_ports(talkative: Kube) -> None:
    """Each through kubectl, as the handle's identity."""
    kube = talkative

    assert kube.eventually(lambda: kube.logs("pod/talkative")) == "serving\n"
    assert kube.logs("pod/talkative", container="c", tail=0) == ""
    told = kube.exec("pod/talkative", "/server", "a b", "$HOME")
    assert told == "told: [a b $HOME]\n"
    with kube.port_forward("pod/talkative", 8080) as port:
        url = f"http://127.0.0.1:{port}/"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.read() == b"hello"
    with pytest.raises(urllib.error.URLError, match="Connection refused"):
        urllib.request.urlopen(url, timeout=10)


@pytest.mark.timeout(300)
def test_command_that_fails_says_how(talkative: Kube) -> None:
    """Its exit code and its errors; a log or a port that is not there, too."""
    kube = talkative

    with pytest.raises(ExecError) as error:
        kube.exec("pod/talkative", "/server", "fail")
    assert str(error.value).startswith(
        "exec of Pod talkative: exit code 3 of ['/server', 'fail']: it was told to"
    )
    assert (error.value.exit_code, error.value.output) == (3, "told: [fail]\n")
    with pytest.raises(
        ExecError, match=r"Pod talkative took more than 1 s: \['/server'"
    ):
        kube.exec("pod/talkative", "/server", "sleep", timeout=1)
    with pytest.raises(ExecError, match='logs of Pod never: .*pods "never" not found'):
        kube.logs("pod/never")
    with (
        pytest.raises(ClusterError, match='port 1 of Pod never .* "never" not found'),
        kube.port_forward("pod/never", 1),
    ):
        pass


@pytest.mark.timeout(300)
def test_users_kubeconfig_is_left_alone(
    docker_client: Any, kind_cluster: Cluster, tmp_path: Path
) -> None:
    """The cluster is in a file of its own."""
    assert kind_cluster.kubeconfig.is_relative_to(kind_cluster.guardian.directory)


@pytest.mark.timeout(300)
def test_sigkill_of_the_run_deletes_the_cluster(
    docker_client: Any, tmp_path: Path
) -> None:
    """The guardian deletes what kind has made so far, also half of a cluster."""
    before = clusters(docker_client)
    code = (
        "from pytest_kube.providers import kind\n"
        "from pytest_kube.profiles import Profile\n"
        "from pytest_kube.settings import Settings\n"
        "p = Profile('kind', 'kind')\n"
        "with kind.create(p, Settings(p), print): print('created', flush=True)\n"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=env)
    pause, deadline = threading.Event(), time.monotonic() + 60
    try:
        while clusters(docker_client) == before and time.monotonic() < deadline:
            pause.wait(0.1)
        made = clusters(docker_client) - before
    finally:
        process.kill()
        process.wait(10)

    # The guardian's folder is the last thing that goes.
    deadline = time.monotonic() + 60
    while list(tmp_path.glob("pytest-kube-*")) and time.monotonic() < deadline:
        pause.wait(0.1)

    assert len(made) == 1
    assert clusters(docker_client) == before


SERVER = """\
package main

import "net"

func main() {
	listener, err := net.Listen("tcp", ":11211")
	if err != nil {
		panic(err)
	}
	for {
		if connection, err := listener.Accept(); err == nil {
			connection.Close()
		}
	}
}
"""


@pytest.fixture(scope="module")
def memcached_image(
    docker_client: Any, build_image: Callable[[str, str], None]
) -> Iterator[str]:
    """The image of the example, or where nothing can be pulled a server in its place."""
    name = "memcached:1.6-alpine"
    with contextlib.suppress(docker.errors.ImageNotFound):
        docker_client.images.get(name)
        yield name
        return
    if not shutil.which("go"):
        pytest.skip(f"docker has no {name}, and there is no Go to build a stand-in")
    build_image(name, SERVER)
    yield name
    docker_client.images.remove(name)


@pytest.mark.timeout(400)
def test_example_passes_on_kind_unchanged(memcached_image: str, tmp_path: Path) -> None:
    """The same tests as on kwok, with pods that really run."""
    repository = tmp_path / "kopf"
    example = Path(__file__).parents[2] / "examples" / "kopf"
    shutil.copytree(example, repository, ignore=shutil.ignore_patterns(".*"))
    profile = f"provider: kind\nimages: ['{memcached_image}']\n"
    (repository / "clusters").mkdir()
    (repository / "clusters" / "kind.yaml").write_text(profile)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]

    run = subprocess.run(
        [*command, "--kube=kind", "--kube-timeout=60"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "12 passed" in run.stdout


@pytest.mark.timeout(120)
def test_image_that_is_not_there_is_named(docker_client: Any) -> None:
    """kind's own words, and what to change."""
    profile = Profile("kind", "kind", image="pytest-kube.invalid/no-such-node:1")

    with (
        pytest.raises(ClusterError) as error,
        kind.create(profile, Settings(profile), print),
    ):
        pass

    assert str(error.value).startswith("kind create cluster ended with exit code 1. ")
    assert "pytest-kube.invalid/no-such-node:1" in str(error.value)


@pytest.mark.timeout(120)
def test_local_image_that_is_not_there_is_named(docker_client: Any) -> None:
    """Before a cluster is made that would be of no use."""
    profile = Profile("kind", "kind", images=("no-such-image:1",))

    with (
        pytest.raises(
            ClusterError, match="image no-such-image:1 of the profile is not"
        ),
        kind.create(profile, Settings(profile), print),
    ):
        pass


def test_without_docker_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it was looked for, how to have it, and that others do without."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")

    with (
        pytest.raises(ClusterError) as error,
        kind.create(PROFILE, Settings(PROFILE), print),
    ):
        pass

    text = str(error.value)
    # The docker package leaves the socket open with which it could not connect. It is
    # to be collected here, not in the midst of some later test.
    del error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    first = "--kube=kind needs a docker daemon, and none answers at "
    assert text.startswith(f"{first}unix:///nowhere/docker.sock: ")
    assert "DOCKER_HOST" in text
    assert text.endswith("--kube=kwok and --kube=envtest work without docker")
