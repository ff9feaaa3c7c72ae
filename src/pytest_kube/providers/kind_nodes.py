"""The nodes of a kind cluster: containers, in which commands run, and what they run.

This is what rollback needs to know beyond etcd: pods that are gone have containers
that are not, and components remember what is not so any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pytest_kube.audit import AuditLog
from pytest_kube.controlplane.memory import contradicted
from pytest_kube.errors import ClusterError, hide_frames
from pytest_kube.providers.kind_config import RESTARTED
from pytest_kube.state import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kube.cluster import Power
    from pytest_kube.state.etcd import Change, Etcd

__tracebackhide__ = hide_frames

RUN_TIMEOUT = 60.0
GONE_TIMEOUT = 30.0
"""Seconds until the containers of pods that were rolled back are gone; they are killed
first, and without them kubelet takes about one."""

RESTART_TIMEOUT = 60.0
LOG_LINES = 5000
"""Of each log of a node, the last ones."""

_PODS = f"{keys.PREFIX}pods/"
_PAUSE = 0.05
_PKI = "/etc/kubernetes/pki/apiserver-kubelet-client"
_COMM = 15
"""Characters of a process's name that Linux keeps."""


def engine() -> str:
    """Return what runs the nodes: docker, or podman where kind is told so."""
    asked = os.environ.get("KIND_EXPERIMENTAL_PROVIDER")
    return "podman" if asked == "podman" else "docker"


def run(node: Any, *argv: str) -> bytes:
    """Run a command in a node, and return its output.

    By the program that kind uses itself: the docker package may lose the first bytes
    of an output, for it reads them from two buffers.

    Raises:
        ClusterError: It failed, or the node does not run.
    """
    command = [engine(), "exec", node.name, *argv]
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=RUN_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise ClusterError(f"{node.name}: {argv[0]} could not be run: {e}") from e
    if done.returncode != 0:
        text = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise ClusterError(
            f"{node.name}: {' '.join(argv)}: exit code {done.returncode}: {text}"
        )
    return done.stdout


def check(nodes: Sequence[Any]) -> None:
    """Raise ClusterError when a node does not run any more."""
    import docker

    for node in nodes:
        try:
            node.reload()
        except docker.errors.NotFound:
            raise ClusterError(
                f"node {node.name} is gone: somebody removed its container"
            ) from None
        except (docker.errors.DockerException, OSError) as e:
            raise ClusterError(
                f"docker does not answer any more, so nothing is known of node "
                f"{node.name}: {e}"
            ) from e
        if node.status != "running":
            state = node.attrs["State"]
            raise ClusterError(
                f"node {node.name} does not run any more: its container is "
                f"{node.status}, exit code {state['ExitCode']}"
            )


class Machines:
    """The containers of the nodes, paused, killed and started again.

    Args:
        nodes: Those.
        await_well: Waits until the cluster is usable.
    """

    def __init__(self, nodes: Sequence[Any], await_well: Callable[[], None]) -> None:
        self._nodes = nodes
        self._await_well = await_well

    def names(self) -> list[str]:
        """Return what the nodes are called."""
        return [node.name for node in self._nodes]

    def do(self, what: Power, name: str) -> None:
        """Do something to one of them, and return when it is done.

        Raises:
            ClusterError: Docker refused, or kubelet does not start.
        """
        (node,) = (node for node in self._nodes if node.name == name)
        if engine() == "podman" and what in {"kill", "restart"} and self._leads(node):
            raise ClusterError(
                f"node {name}: no {what} on podman, which gives a container another "
                "address when it starts again; the control plane would not find "
                "itself. pause and resume work, and workers can be killed"
            )
        acts: Mapping[str, Sequence[Callable[[], object]]] = {
            "pause": (node.pause,),
            "resume": (node.unpause,),
            "kill": (node.kill,),
            "start": (node.start,),
            "restart": (node.kill, node.start),
        }
        import docker

        try:
            for act in acts[what]:
                act()
        except (docker.errors.DockerException, OSError) as e:
            raise ClusterError(f"node {name}: {what} failed: {e}") from e
        if what in {"start", "restart"}:
            _await_kubelet(node)
            if self._leads(node):
                self._await_well()

    def _leads(self, node: Any) -> bool:
        return bool(node == self._nodes[0])

    def mend(self) -> None:
        """Bring back all that do not run, and wait until the cluster is well again.

        Raises:
            ClusterError: It does not become well.
        """
        stopped = [node for node in self._nodes if _status(node) != "running"]
        for node in stopped:
            self.do("resume" if node.status == "paused" else "start", node.name)
        if stopped:
            self._await_well()


def _status(node: Any) -> str:
    import docker

    try:
        node.reload()
    except (docker.errors.DockerException, OSError) as e:
        raise ClusterError(f"node {node.name}: its state is not known: {e}") from e
    return str(node.status)


def _await_kubelet(node: Any) -> None:
    words = ("--server=http://127.0.0.1:10248",)
    _await_healthy(node, words, f"node {node.name} was started, and its kubelet is")


def _await_healthy(node: Any, words: Sequence[str], what: str) -> None:
    """Ask in a node for the health of something, until that is well."""
    deadline = time.monotonic() + RESTART_TIMEOUT
    while True:
        try:
            run(node, "kubectl", "get", "--raw=/healthz", *words)
        except ClusterError as e:
            if time.monotonic() > deadline:
                text = f"{what} not healthy after {RESTART_TIMEOUT:.0f} s: {e}"
                raise ClusterError(text) from e
        else:
            return
        time.sleep(_PAUSE)


class Components:
    """The components of a kind cluster, as rollback sees them.

    Args:
        nodes: The containers of the nodes, that of the control plane first.
        etcd: Its etcd.
        audit: The API server's audit log.
    """

    def __init__(self, nodes: Sequence[Any], etcd: Etcd, audit: Path) -> None:
        self._nodes = nodes
        self._etcd = etcd
        self._audit = audit

    def author(self, change: Change) -> str | None:
        """Return the user who made a change, as the audit log knows it."""
        log = AuditLog(self._audit, change.revision)
        before, after = (v and json.loads(v) for v in (change.before, change.after))
        write = log.write_of(change.revision, before or None, after or None)
        return write.user if write else None

    @contextlib.contextmanager
    def refreshed(self, restored: Sequence[Change]) -> Iterator[None]:
        """Start components again that remember what is not so any more.

        They stand still while the state is written, or they would act on it before.
        """
        names = sorted(contradicted(restored, self._etcd.entries))
        for name in names:
            run(self._nodes[0], "pkill", "-STOP", "-x", name[:_COMM])
        yield
        for name in names:
            self._restart(name)
        for name in names:
            words = (
                f"--server=https://127.0.0.1:{RESTARTED[name]}",
                "--insecure-skip-tls-verify",
                "--kubeconfig=/dev/null",
                f"--client-certificate={_PKI}.crt",
                f"--client-key={_PKI}.key",
            )
            what = f"{name} was started again for a rollback, and is"
            _await_healthy(self._nodes[0], words, what)

    def follow(self, written: Mapping[str, bytes | None]) -> None:
        """Wait until no container runs of a pod that was rolled back.

        They are killed: a rollback asks no finalizer and grants no grace period.
        """
        gone = (k for k, v in written.items() if v is None and k.startswith(_PODS))
        if not any(gone):
            return
        deadline = time.monotonic() + GONE_TIMEOUT
        known = {json.loads(e.value)["metadata"]["uid"] for e in self._pods()}
        while left := [pod for node in self._nodes for pod in _left(node, known)]:
            if time.monotonic() > deadline:
                raise ClusterError(
                    "the cluster cannot be rolled back: after "
                    f"{GONE_TIMEOUT:.0f} s containers still run of pods that are gone: "
                    + ", ".join(sorted(left))
                )
            time.sleep(_PAUSE)

    def _pods(self) -> Any:
        return self._etcd.entries(_PODS)

    def _restart(self, name: str) -> None:
        """Let kubelet start a static pod anew, and end the process that stands still.

        By another name: after an exit, and for a pod of the same name, it waits for
        ten seconds, and longer each time.
        """
        node = self._nodes[0]
        manifest = f"/etc/kubernetes/manifests/{name}.yaml"
        changed = f"/etc/kubernetes/{name}.yaml"
        renamed = f"s/^  name: {name}.*/  name: {name}-{time.time_ns()}/"
        pids = run(node, "pgrep", "-x", name[:_COMM]).decode().split()
        run(node, "cp", manifest, changed)
        run(node, "sed", "--in-place", renamed, changed)
        # The old one first: while kubelet knows it, its ports are taken.
        run(node, "rm", manifest)
        run(node, "kill", "-KILL", *pids)
        run(node, "mv", changed, manifest)


def _left(node: Any, known: set[str]) -> list[str]:
    """Kill the containers of pods that are not known; return the names of the pods."""
    left = {
        pod["id"]: f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in json.loads(run(node, "crictl", "pods", "--state=ready", "-o=json"))[
            "items"
        ]
        if (pod.get("annotations") or {}).get("kubernetes.io/config.source") == "api"
        and pod["metadata"]["uid"] not in known
    }
    if left:
        running = json.loads(run(node, "crictl", "ps", "-o=json"))["containers"]
        doomed = [c["id"] for c in running if c["podSandboxId"] in left]
        # kubelet may have been quicker.
        with contextlib.suppress(ClusterError):
            if doomed:
                run(node, "crictl", "stop", "--timeout=0", *doomed)
    return list(left.values())


class Logs(dict[str, "Path"]):
    """Log files of the nodes, fetched when they are asked for.

    Of each node that is what kubelet and containerd say, and its static pods.
    """

    def __init__(self, folder: Path, nodes: Sequence[Any]) -> None:
        super().__init__()
        self._folder = folder / "node-logs"
        self._nodes = nodes

    def items(self) -> Any:
        """Return the name and the file of each log, as it is now."""
        self._folder.mkdir(exist_ok=True)
        for node in self._nodes:
            for unit in ("kubelet", "containerd"):
                argv = ("--output=short-iso-precise", "--no-pager", f"--unit={unit}")
                self._fetch(node, unit, "journalctl", f"--lines={LOG_LINES}", *argv)
            for name, paths in sorted(_static_logs(node).items()):
                self._fetch(node, name, "tail", f"--lines={LOG_LINES}", *paths)
        return super().items()

    def _fetch(self, node: Any, name: str, *argv: str) -> None:
        path = self._folder / f"{node.name}.{name}.log"
        try:
            path.write_bytes(run(node, *argv))
        except ClusterError as e:  # what there is of the others is worth having
            path.write_text(f"{e}\n", "utf-8")
        self[path.stem] = path


def _static_logs(node: Any) -> dict[str, list[str]]:
    """Return the log files of each component in a static pod, oldest first."""
    found: dict[str, list[str]] = defaultdict(list)
    with contextlib.suppress(ClusterError):
        files = run(node, "find", "/var/log/pods", "-name", "*.log").decode()
        for file in sorted(files.split()):
            namespace, pod, *_ = file.split("/")[4].split("_")
            if namespace == "kube-system" and pod.endswith(f"-{node.name}"):
                found[file.split("/")[5]].append(file)
    return found
