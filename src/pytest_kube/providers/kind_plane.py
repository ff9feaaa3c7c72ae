"""The control plane and the nodes of a kind cluster: created, found again, swept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

from pytest_kube import kubeconfig
from pytest_kube.binaries.releases import NODE_IMAGES
from pytest_kube.client import Client
from pytest_kube.cluster import Cluster
from pytest_kube.controlplane import apiserver, certs
from pytest_kube.controlplane.plan import Plan
from pytest_kube.controlplane.plane import ADMIN, MASTERS, TRIES
from pytest_kube.errors import ClusterError, ComponentNotReadyError, hide_frames
from pytest_kube.providers import kind_config, kind_nodes
from pytest_kube.state.etcd import Etcd
from pytest_kube.state.rollback import State
from pytest_kube.system.kept import is_guarded
from pytest_kube.system.ports import free_ports
from pytest_kube.system.processes import Guardian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_kube.system.processes import Process

__tracebackhide__ = hide_frames

CREATE_TIMEOUT = 600.0
"""Seconds, which include pulling a node image."""

READY_TIMEOUT = 180.0
"""Seconds until nodes are Ready and a pod could start, after the creation."""

DELETE_TIMEOUT = 60.0
CAPABILITIES = frozenset({"nodes", "pods", "controllers", "rollback", "history"})

_NAME = "kind-cluster"
"""The file with a cluster's name, in the folder of its guardian."""

_KNOWN = {
    "already exist for a cluster with the name": (
        "A cluster of that name is there already; kind delete cluster removes it"
    ),
    "failed to pull image|Unable to find image": (
        "The node image is not there and could not be pulled: docker load or docker "
        "pull it first, give another one as 'image' in the profile, or another "
        f"--kube-version; kind made {', '.join(NODE_IMAGES)}"
    ),
    "Multi-User System": (
        "The node did not start: often the limits of inotify are too low; see sysctl "
        "fs.inotify.max_user_instances, which kind wants at 512"
    ),
    "requires cgroup v2": (
        "A rootless daemon needs a machine with cgroup v2, which 'docker info' tells; "
        "one of root's does without"
    ),
    "Delegate=yes": (
        "The rootless daemon may limit neither memory nor processors: set Delegate=yes "
        "for user@.service, as kind's page on rootless describes"
    ),
    "kubelet is not healthy|kubelet isn't running": (
        "kubelet does not start in the node: often for the machine's cgroups, of which "
        "'docker info' tells the version, for the limits of inotify, or for want of "
        "memory; --kube-version with an older one tells whether it is the version"
    ),
}
"""What kind says when it fails, and what can be done."""

_PORT_LOST = ("port is already allocated", "address already in use")
_CLUSTER = "io.x-k8s.kind.cluster"
_ROLE = "io.x-k8s.kind.role"
_PKI = {
    # Where kubeadm puts what we need, and what we call it.
    "ca.crt": "ca.crt",
    "ca.key": "ca.key",
    "etcd/ca.crt": "etcd-ca.crt",
    "etcd/healthcheck-client.crt": "etcd-client.crt",
    "etcd/healthcheck-client.key": "etcd-client.key",
}


@dataclass(frozen=True, kw_only=True)
class KindPlan(Plan):
    """Which kind cluster to run.

    Attributes:
        docker: The client of the daemon.
        image: The node image.
        images: What the nodes get: reference to image, or to the file that it is in.
        kubectl: Finds the kubectl program.
        report: Takes a line on what is being done, for people who wait.
    """

    docker: Any
    image: str
    images: Mapping[str, Any]
    kubectl: Callable[[], Path]
    report: Callable[[str], None]

    @property
    def described(self) -> tuple[object, ...]:
        """What clusters have to have in common to be alike."""
        images = [_identity(image) for image in self.images.values()]
        config = kind_config.config(self.profile, Path("/"), port=0)
        patches = kind_config.patches(self.profile)
        return (
            self.image,
            images,
            json.dumps((config, patches), sort_keys=True),
            *super().described,
        )


def _identity(image: Any) -> object:
    if isinstance(image, Path):
        known = image.stat()
        return str(image), known.st_size, known.st_mtime
    return image.id


# --- one cluster --------------------------------------------------------------


@contextlib.contextmanager
def running(plan: KindPlan) -> Iterator[Cluster]:
    """Create a kind cluster, and delete it at the end unless its guardian keeps it.

    Raises:
        ClusterError: kind failed; the text has its last lines.
        ComponentNotReadyError: The cluster exists but does not become usable.
    """
    with Guardian() as guardian:
        name = _new_name(guardian)
        path = guardian.directory / "kubeconfig"
        # Told first: from here on the guardian deletes whatever kind may have made.
        guardian.at_end(_deletion(plan, name, path), timeout=DELETE_TIMEOUT)
        pulled = (
            "" if _has(plan.docker, plan.image) else ", which has to be pulled first"
        )
        plan.report(
            f"creating kind cluster {name} with node image {plan.image}{pulled}"
        )
        argv = [str(plan.binaries["kind"]), "create", "cluster", "--name", name]
        argv += ["--image", plan.image, "--kubeconfig", str(path)]
        _create(guardian, plan, argv)
        nodes = _nodes(plan.docker, name)
        for reference, image in plan.images.items():
            plan.report(f"loading image {reference} into {len(nodes)} node(s)")
            for node in nodes:
                _load(plan.docker, node, reference, image)
        _keep_pki(guardian.directory / "pki", nodes[0])
        plan.report("waiting for the nodes to be ready")
        cluster = _cluster(guardian, plan, nodes)
        _await_usable(cluster.client)
        cluster.install(plan.crds, plan.manifests)
        yield cluster


def attach(guardian: Guardian, plan: KindPlan) -> Cluster:
    """Return the cluster that a guardian keeps.

    Raises:
        ClusterError: A node is gone or does not run, or nothing answers.
    """
    name = (guardian.directory / _NAME).read_text("utf-8")
    nodes = _nodes(plan.docker, name)
    if not nodes:
        raise ClusterError(f"the nodes of kind cluster {name} are gone")
    kind_nodes.check(nodes)
    return _cluster(guardian, plan, nodes)


def _cluster(guardian: Guardian, plan: KindPlan, nodes: Sequence[Any]) -> Cluster:
    first = Client.from_kubeconfig(guardian.directory / "kubeconfig")
    identity = _identities(guardian.directory, first.server)
    # As on our own planes, what a test does is told from what kubeadm did.
    client = Client.from_kubeconfig(identity(ADMIN, MASTERS))
    etcd = _etcd(guardian.directory / "pki", nodes[0])
    audit = guardian.directory / "node" / kind_config.AUDIT_LOG
    return Cluster(
        provider="kind",
        version=client.version(),
        client=client,
        guardian=guardian,
        capabilities=CAPABILITIES,
        kubectl=plan.kubectl,
        identity=identity,
        logs=kind_nodes.Logs(guardian.directory, nodes),
        state=State(etcd, kind_nodes.Components(nodes, etcd, audit)),
        audit=audit,
        flags=apiserver.served(plan.profile),
        machines=kind_nodes.Machines(nodes, lambda: _await_usable(client)),
        check=lambda: kind_nodes.check(nodes),
    )


# --- names, and what dead runs have left --------------------------------------


def _prefix() -> str:
    """Return what the names of all clusters begin with that this machine makes."""
    machine = hashlib.sha256(socket.gethostname().encode()).hexdigest()
    return f"pytest-kube-{machine[:6]}-"


def _new_name(guardian: Guardian) -> str:
    """Name a guardian's cluster: by the machine, the guardian, the worker of xdist."""
    name = _prefix() + guardian.directory.name.rpartition("-")[2]
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        name += f"-{worker}"
    (guardian.directory / _NAME).write_text(name, "utf-8")
    return name


def sweep(plan: KindPlan) -> None:
    """Delete clusters whose guardian was killed itself, or whose machine went down."""
    prefix = _prefix()
    # Not containers.list(): it inspects each, and some may be gone by then.
    filters = {"label": _CLUSTER}
    found = plan.docker.api.containers(all=True, filters=filters)
    folders: dict[str, Path] = {}
    for container in found:
        name = container["Labels"][_CLUSTER]
        for mount in container["Mounts"] if name.startswith(prefix) else ():
            if mount["Destination"] == str(kind_config.SHARED):
                folders[name] = Path(mount["Source"]).parent
    for name, folder in folders.items():
        if not _is_used(folder):
            plan.report(f"deleting kind cluster {name}: its run has died")
            with contextlib.suppress(subprocess.SubprocessError, OSError):
                subprocess.run(
                    _deletion(plan, name, Path(os.devnull)),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    check=False,
                    timeout=DELETE_TIMEOUT,
                )


def _is_used(folder: Path) -> bool:
    try:
        return is_guarded(folder)
    except FileNotFoundError:
        return False
    except OSError:  # another user's
        return True


def _deletion(plan: KindPlan, name: str, path: Path) -> list[str]:
    argv = [str(plan.binaries["kind"]), "delete", "cluster", "--name", name]
    return [*argv, "--kubeconfig", str(path)]


# --- creation -----------------------------------------------------------------


def _create(guardian: Guardian, plan: KindPlan, argv: Sequence[str]) -> None:
    folder = guardian.directory / "node"
    for attempt in range(1, TRIES + 1):
        (port,) = free_ports(1)
        config = kind_config.write(plan.profile, folder, port)
        process = guardian.start("kind-create", [*argv, "--config", str(config)])
        try:
            code = process.exited.result(CREATE_TIMEOUT)
        except FutureTimeoutError:
            raise _failed(process, f"took more than {CREATE_TIMEOUT:.0f} s") from None
        if code == 0:
            return
        lost = any(words in process.log_tail(lines=25) for words in _PORT_LOST)
        if not lost or attempt == TRIES:
            raise _failed(process, f"ended with exit code {code}")
        shutil.rmtree(folder)


def _failed(process: Process, how: str) -> ClusterError:
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", process.log_tail(lines=25))
    text = indent(lines, "    ")
    why = next((why for words, why in _KNOWN.items() if re.search(words, text)), "")
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


def _load(client: Any, node: Any, reference: str, image: Any) -> None:
    """Stream an image, or the file that it is in, into a node's containerd."""
    command = ["ctr", "--namespace=k8s.io", "images", "import", "--digests", "-"]
    api = client.api
    run = api.exec_create(node.id, command, stdin=True)
    sock = api.exec_start(run["Id"], socket=True)
    raw = getattr(sock, "_sock", sock)
    with contextlib.closing(sock), contextlib.closing(raw):
        for chunk in _chunks(reference, image):
            raw.sendall(chunk)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65536):
            pass
    code = _exit_code(api, run["Id"])
    if code != 0:
        raise ClusterError(f"loading {reference} into {node.name} failed ({code})")


def _chunks(reference: str, image: Any) -> Iterator[bytes]:
    if isinstance(image, Path):
        with image.open("rb") as file:
            yield from iter(partial(file.read, 1 << 20), b"")
    else:
        yield from image.save(named=reference)


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
    filters = {"label": f"{_CLUSTER}={cluster}"}
    nodes = docker.containers.list(all=True, filters=filters)
    roles = {"control-plane", "worker"}  # a load balancer is no node
    found = [node for node in nodes if node.labels.get(_ROLE) in roles]
    return sorted(found, key=lambda node: (node.labels[_ROLE], node.name))


def _keep_pki(folder: Path, node: Any) -> None:
    """Copy what we sign and log in with; to ask a node takes a tenth of a second."""
    folder.mkdir(mode=0o700)
    for path, name in _PKI.items():
        content = kind_nodes.run(node, "cat", f"/etc/kubernetes/pki/{path}")
        (folder / name).write_bytes(content)


def _etcd(pki: Path, node: Any) -> Etcd:
    """Open the node's etcd, which is published on the loopback interface."""
    tls = ssl.create_default_context(cafile=pki / "etcd-ca.crt")
    tls.load_cert_chain(pki / "etcd-client.crt", pki / "etcd-client.key")
    (published,) = node.ports[f"{kind_config.ETCD_PORT}/tcp"]
    etcd = Etcd(f"https://127.0.0.1:{published['HostPort']}", tls)
    etcd.check_health(timeout=READY_TIMEOUT)
    return etcd


def _identities(folder: Path, server: str) -> Callable[[str, Sequence[str]], Path]:
    """Sign identities with the cluster's own authority."""
    certificate, key = (
        (folder / "pki" / name).read_bytes() for name in ("ca.crt", "ca.key")
    )
    authority = certs.Authority(kubeconfig.KeyPair(certificate, key))

    def identity(user: str, groups: Sequence[str] = ()) -> Path:
        return kubeconfig.write(
            folder / "kubeconfigs" / f"{user.replace(':', '-')}.json",
            server=server,
            ca=authority.certificate,
            user=user,
            pair=authority.client(user, groups),
        )

    return identity
