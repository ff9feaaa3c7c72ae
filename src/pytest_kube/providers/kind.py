"""kind: real nodes in containers, made by the kind binary, inspected by docker."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from textwrap import indent
from typing import TYPE_CHECKING, Any

from pytest_kube import kubeconfig
from pytest_kube.binaries.releases import resolve_version
from pytest_kube.binaries.store import Store
from pytest_kube.client import Client
from pytest_kube.cluster import Cluster
from pytest_kube.controlplane import apiserver, certs
from pytest_kube.controlplane.plane import ADMIN, MASTERS
from pytest_kube.errors import (
    ClusterError,
    ComponentNotReadyError,
    SettingsError,
    hide_frames,
)
from pytest_kube.providers import kind_config, kind_nodes
from pytest_kube.state.etcd import Etcd
from pytest_kube.state.rollback import State
from pytest_kube.system.processes import Guardian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_kube.profiles import Profile
    from pytest_kube.settings import Settings
    from pytest_kube.system.processes import Process

__tracebackhide__ = hide_frames

CREATE_TIMEOUT = 600.0
"""Seconds, which include pulling a node image."""

READY_TIMEOUT = 180.0
"""Seconds until nodes are Ready and a pod could start, after the creation."""

DELETE_TIMEOUT = 60.0
CAPABILITIES = frozenset({"nodes", "pods", "controllers", "rollback", "history"})


@contextlib.contextmanager
def create(
    profile: Profile, settings: Settings, report: Callable[[str], None]
) -> Iterator[Cluster]:
    """Create a kind cluster of this run's own, and delete it, also after a crash.

    Raises:
        ClusterError: Docker cannot be had, or kind failed; the text has its last lines.
        ComponentNotReadyError: The cluster exists but does not become usable.
    """
    if settings.reuse or settings.share:
        raise SettingsError(
            "--kube-reuse and --kube-share are for clusters of kwok and envtest; "
            "a kind cluster is made for each run"
        )
    version = resolve_version(settings.version)
    store = Store(
        version, explicit=settings.binaries, offline=settings.offline, report=report
    )
    docker = _docker()
    kind = store.require("kind")["kind"]
    node_image = profile.image or f"kindest/node:v{version}"
    with contextlib.closing(docker), Guardian() as guardian:
        images = [_image(docker, reference) for reference in profile.images]
        name = f"pytest-kube-{os.urandom(4).hex()}"
        path = guardian.directory / "kubeconfig"
        # Told first: from here on the guardian deletes whatever kind may have made.
        argv = [
            str(kind),
            "delete",
            "cluster",
            "--name",
            name,
            "--kubeconfig",
            str(path),
        ]
        guardian.at_end(argv, timeout=DELETE_TIMEOUT)
        pulled = "" if _has(docker, node_image) else ", which has to be pulled first"
        report(f"creating kind cluster {name} with node image {node_image}{pulled}")
        shared = guardian.directory / "node"
        config = kind_config.write(profile, shared)
        argv = [str(kind), "create", "cluster", "--name", name, "--image", node_image]
        argv += ["--config", str(config), "--kubeconfig", str(path)]
        _create(guardian, argv)
        nodes = _nodes(docker, name)
        for reference, image in zip(profile.images, images, strict=True):
            report(f"loading image {reference} into {len(nodes)} node(s)")
            for node in nodes:
                _load(docker, node, reference, image)
        first = Client.from_kubeconfig(path)
        identity = _identities(guardian.directory, nodes[0], first)
        # As on our own planes, what a test does is told from what kubeadm did.
        client = Client.from_kubeconfig(identity(ADMIN, MASTERS))
        report("waiting for the nodes to be ready")
        _await_usable(client)
        etcd = _etcd(guardian.directory / "etcd-pki", nodes[0])
        audit = shared / kind_config.AUDIT_LOG
        yield Cluster(
            provider="kind",
            version=client.version(),
            client=client,
            guardian=guardian,
            capabilities=CAPABILITIES,
            kubectl=lambda: store.require("kubectl")["kubectl"],
            identity=identity,
            logs=kind_nodes.Logs(guardian.directory, nodes),
            state=State(etcd, kind_nodes.Components(nodes, etcd, audit)),
            audit=audit,
            flags=apiserver.served(profile),
            check=lambda: kind_nodes.check(nodes),
        )


def daemon(image: str) -> tuple[dict[str, Any], bool, list[str]]:
    """Return what docker says of itself, whether it has *image*, which nodes run.

    Raises:
        ClusterError: Docker cannot be had; the text says why, and what to do.
    """
    with contextlib.closing(_docker()) as client:
        label = "io.x-k8s.kind.cluster"
        nodes = client.containers.list(all=True, filters={"label": label})
        clusters = sorted({node.labels[label] for node in nodes})
        return client.info(), _has(client, image), clusters


def _docker() -> Any:
    try:
        import docker
    except ImportError as e:
        raise ClusterError(
            "--kube=kind needs the docker package: pip install 'pytest-kube[kind]'. "
            "--kube=kwok and --kube=envtest work without docker"
        ) from e
    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except (docker.errors.DockerException, OSError) as e:
        where = os.environ.get("DOCKER_HOST") or "its default socket"
        if "Permission denied" in str(e):
            raise ClusterError(
                f"--kube=kind needs a docker daemon, and this user may not use {where}:"
                f" {e}\n  Add the user to the group of the socket, usually docker, and "
                "log in again; or point DOCKER_HOST at a daemon of the user's own, "
                "rootless.\n  --kube=kwok and --kube=envtest work without docker"
            ) from e
        raise ClusterError(
            f"--kube=kind needs a docker daemon, and none answers at {where}: {e}\n"
            "  Start it, or point DOCKER_HOST at one; 'docker info' tells the same."
            "\n  --kube=kwok and --kube=envtest work without docker"
        ) from e
    return client


def _create(guardian: Guardian, argv: Sequence[str]) -> None:
    process = guardian.start("kind-create", argv)
    try:
        code = process.exited.result(CREATE_TIMEOUT)
    except FutureTimeoutError:
        raise _failed(process, f"took more than {CREATE_TIMEOUT:.0f} s") from None
    if code != 0:
        raise _failed(process, f"ended with exit code {code}")


def _failed(process: Process, how: str) -> ClusterError:
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", process.log_tail(lines=25))
    text = indent(lines, "    ")
    why = ""
    if "already exist for a cluster with the name" in text:
        why = "A cluster of that name is there already; kind delete cluster removes it"
    elif "failed to pull image" in text or "Unable to find image" in text:
        why = (
            "The node image is not there and could not be pulled: docker load or "
            "docker pull it first, give another one as 'image' in the profile, or "
            "another --kube-version"
        )
    elif "Multi-User System" in text:
        why = (
            "The node did not start: often the limits of inotify are too low; see "
            "sysctl fs.inotify.max_user_instances, which kind wants at 512"
        )
    return ClusterError(
        f"kind create cluster {how}.{why and f' {why}.'}\n"
        f"  {' '.join(process.argv)}\n  Its last lines:\n{text}"
    )


def _has(client: Any, reference: str) -> bool:
    from docker.errors import ImageNotFound

    try:
        client.images.get(reference)
    except ImageNotFound:
        return False
    return True


def _image(client: Any, reference: str) -> Any:
    from docker.errors import ImageNotFound

    try:
        return client.images.get(reference)
    except ImageNotFound as e:
        raise ClusterError(
            f"image {reference} of the profile is not in the local docker daemon; "
            "docker build or docker pull it first"
        ) from e


def _load(client: Any, node: Any, reference: str, image: Any) -> None:
    """Stream an image into a node's containerd, as kind load would by a file."""
    command = ["ctr", "--namespace=k8s.io", "images", "import", "--digests", "-"]
    api = client.api
    run = api.exec_create(node.id, command, stdin=True)
    sock = api.exec_start(run["Id"], socket=True)
    raw = getattr(sock, "_sock", sock)
    with contextlib.closing(sock), contextlib.closing(raw):
        for chunk in image.save(named=reference):
            raw.sendall(chunk)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65536):
            pass
    code = _exit_code(api, run["Id"])
    if code != 0:
        raise ClusterError(f"loading {reference} into {node.name} failed ({code})")


def _exit_code(api: Any, run: str) -> int:
    deadline = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < deadline:
        state = api.exec_inspect(run)
        if not state["Running"]:
            return int(state["ExitCode"])
        time.sleep(0.05)
    return -1


def _await_usable(client: Client) -> None:
    """Wait for what kind does not: it exits with 0 when nodes are not ready."""
    started = time.monotonic()
    missing = ""
    while (elapsed := time.monotonic() - started) < READY_TIMEOUT:
        missing = _missing(client)
        if not missing:
            return
        time.sleep(0.1)
    raise ComponentNotReadyError(
        f"the kind cluster was created but not usable in {elapsed:.0f} s: {missing}",
        component="kind",
        elapsed=elapsed,
        log_tail="",
    )


def _missing(client: Client) -> str:
    from pytest_kube.conditions import ready
    from pytest_kube.errors import APIError, NotFoundError

    try:
        nodes = client.request("GET", "/api/v1/nodes")["items"]
        for node in nodes:
            node["kind"], node["apiVersion"] = "Node", "v1"
            if not ready(node):
                return f"node {node['metadata']['name']} is not Ready"
            for taint in node["spec"].get("taints") or ():
                if taint["key"].startswith("node.kubernetes.io/"):
                    return f"node {node['metadata']['name']} has taint {taint['key']}"
        client.request("GET", "/api/v1/namespaces/default/serviceaccounts/default")
    except NotFoundError:
        return "namespace default has no ServiceAccount yet"
    except (APIError, ClusterError) as e:
        return str(e)
    return "" if nodes else "there is no node"


def _nodes(docker: Any, cluster: str) -> list[Any]:
    """Return the containers of the nodes, that of the control plane first."""
    label = "io.x-k8s.kind."
    nodes = docker.containers.list(filters={"label": f"{label}cluster={cluster}"})
    role = f"{label}role"
    roles = {"control-plane", "worker"}  # a load balancer is no node
    found = [node for node in nodes if node.labels.get(role) in roles]
    return sorted(found, key=lambda node: (node.labels[role], node.name))


def _etcd(folder: Path, node: Any) -> Etcd:
    """Open the node's etcd, which is published on the loopback interface."""
    pki = "/etc/kubernetes/pki/etcd"
    folder.mkdir(mode=0o700)
    for name in ("healthcheck-client.crt", "healthcheck-client.key"):
        (folder / name).write_bytes(kind_nodes.run(node, "cat", f"{pki}/{name}"))
    authority = kind_nodes.run(node, "cat", f"{pki}/ca.crt").decode()
    tls = ssl.create_default_context(cadata=authority)
    pair = folder / "healthcheck-client.crt"
    tls.load_cert_chain(pair, pair.with_suffix(".key"))
    (published,) = node.ports[f"{kind_config.ETCD_PORT}/tcp"]
    etcd = Etcd(f"https://127.0.0.1:{published['HostPort']}", tls)
    etcd.check_health(timeout=READY_TIMEOUT)
    return etcd


def _identities(
    folder: Path, node: Any, client: Client
) -> Callable[[str, Sequence[str]], Path]:
    """Sign identities with the cluster's own authority, which the node keeps."""
    pki = "/etc/kubernetes/pki/ca"
    certificate, key = (
        kind_nodes.run(node, "cat", f"{pki}.{end}") for end in ("crt", "key")
    )
    authority = certs.Authority(kubeconfig.KeyPair(certificate, key))

    def identity(user: str, groups: Sequence[str] = ()) -> Path:
        return kubeconfig.write(
            folder / "kubeconfigs" / f"{user.replace(':', '-')}.json",
            server=client.server,
            ca=authority.certificate,
            user=user,
            pair=authority.client(user, groups),
        )

    return identity
