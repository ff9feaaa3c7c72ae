"""What a handle does with pods that really run: logs, commands, connections."""

from __future__ import annotations

import contextlib
import re
import secrets
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kube.errors import ClusterError, ExecError, hide_frames
from pytest_kube.steps import step
from pytest_kube.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kube.cluster import Machines, Power
    from pytest_kube.steps import Steps
    from pytest_kube.verbs import Ref

__tracebackhide__ = hide_frames


@dataclass(frozen=True)
class Node:
    """The machine of a node, as `Kube.node` returns it.

    Whatever a test does to it, it runs again at the end of the test.

    Attributes:
        name: What Kubernetes calls the node.
    """

    name: str
    _machines: Machines
    _steps: Steps

    def pause(self) -> None:
        """Freeze it: nothing on it runs, nobody gets an answer from it.

        Kubernetes calls it NotReady after ``--node-monitor-grace-period`` of the
        controller-manager (about 50 seconds; ``extraArgs`` of a profile shortens it).
        """
        self._do("pause")

    def resume(self) -> None:
        """Let it go on as if nothing had happened."""
        self._do("resume")

    def kill(self) -> None:
        """Take its power away: every process on it is killed."""
        self._do("kill")

    def start(self) -> None:
        """Start it after a `kill`; wait for its kubelet, and its control plane."""
        self._do("start")

    def restart(self) -> None:
        """Kill and start it."""
        self._do("restart")

    def _do(self, what: Power) -> None:
        __tracebackhide__ = True
        self._steps.take(
            lambda: self._machines.do(what, self.name),
            lambda: f"kube.node({self.name!r}).{what}()",
        )


_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


@dataclass(repr=False)
class Pods(Waits):
    """What a handle does with pods; see `Kube`."""

    @step
    def logs(
        self,
        ref: Ref,
        *,
        container: str = "",
        previous: bool = False,
        tail: int | None = None,
        namespace: str | None = None,
    ) -> str:
        """Return what a pod has written to its log.

        Args:
            ref: The pod, or what kubectl finds one by: ``"deployment/web"``.
            container: Which one, where there are several.
            previous: That of the container before it was restarted.
            tail: So many of the last lines only.
            namespace: Another namespace than the handle's.

        Raises:
            ClusterError: Pods of this cluster do not run.
            ExecError: There is no such log.
        """
        flags = [f"--previous={str(previous).lower()}"]
        flags += [f"--container={container}"] if container else []
        flags += [f"--tail={tail}"] if tail is not None else []
        return self._kubectl(["logs", *flags], ref, namespace, "has no logs")

    @step
    def exec(
        self,
        ref: Ref,
        *command: str,
        container: str = "",
        timeout: float | None = None,
        namespace: str | None = None,
    ) -> str:
        """Run a command in a pod, and return what it wrote to its standard output.

        Args:
            ref: The pod, or what kubectl finds one by: ``"deployment/web"``.
            command: The program and its arguments; no shell is involved.
            container: Which one, where there are several.
            timeout: Seconds; the handle's default when omitted.
            namespace: Another namespace than the handle's.

        Raises:
            ClusterError: Pods of this cluster do not run.
            ExecError: It failed, or took too long; the text shows its errors.

        Example:
            >>> kube.exec("deployment/web", "cat", "/etc/hostname")
        """
        self._client.refuse_write(f"exec in {ref}")
        flags = [f"--container={container}"] if container else []
        return self._kubectl(
            ["exec", *flags],
            ref,
            namespace,
            "runs no commands",
            command=command,
            timeout=timeout,
        )

    def node(self, name: str = "") -> Node:
        """Return the machine of a node, to pause, kill and restart it.

        Args:
            name: The node; may be omitted where there is one only.

        Raises:
            ClusterError: The nodes of this cluster are no machines of ours, or there
                is none of that name.

        Example:
            >>> kube.node(kube.get("pod/web-0")["spec"]["nodeName"]).restart()
        """
        machines = self.cluster.machines
        if machines is None:
            raise ClusterError(
                f"node {name or 'of the cluster'}: it is no machine that could be "
                f"stopped; nodes of {self.cluster.provider} clusters are not, those of "
                "--kube=kind are"
            )
        names = machines.names()
        if name not in names and (name or len(names) > 1):
            raise ClusterError(
                f"node {name or 'without a name'}: there are {', '.join(names)}"
            )
        return Node(name or names[0], machines, self.steps)

    @contextlib.contextmanager
    def port_forward(
        self, ref: Ref, port: int, *, namespace: str | None = None
    ) -> Iterator[int]:
        """Give a local port that leads to one of a pod, inside of the context.

        Args:
            ref: The pod, or what kubectl finds one by: ``"service/web"``.
            port: The port of the pod or service.
            namespace: Another namespace than the handle's.

        Yields:
            The port on 127.0.0.1.

        Raises:
            ClusterError: Pods of this cluster do not run, or it cannot be reached.

        Example:
            >>> with kube.port_forward("service/web", 80) as port:
            ...     urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz")
        """
        argv, what = self._argv(
            ["port-forward", "--address=127.0.0.1"], ref, namespace, "has no ports"
        )
        guardian = self.cluster.guardian
        # A name of its own, for what an earlier one wrote stays in its log.
        log = f"port-forward-{secrets.token_hex(4)}"
        process = guardian.start(log, [*argv, f":{port}"])
        try:
            deadline = time.monotonic() + self._seconds(None)
            pause = threading.Event()
            while not (found := _FORWARDING.search(process.log_tail())):
                if process.exited.done() or time.monotonic() >= deadline:
                    raise ClusterError(
                        f"port {port} of {what} cannot be reached: "
                        f"{process.log_tail() or 'kubectl port-forward said nothing'}"
                    )
                pause.wait(0.01)
            yield int(found[1])
        finally:
            guardian.stop(process)

    def _kubectl(
        self,
        words: Sequence[str],
        ref: Ref,
        namespace: str | None,
        lack: str,
        *,
        command: Sequence[str] = (),
        timeout: float | None = None,
    ) -> str:
        argv, what = self._argv(words, ref, namespace, lack)
        argv += ["--", *command] if command else []
        seconds = self._seconds(timeout)
        try:
            ended = subprocess.run(
                argv,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise ExecError(
                f"{words[0]} of {what} took more than {seconds:g} s: {list(command)}",
                exit_code=None,
                output=(e.stdout or b"").decode("utf-8", "replace"),
                error=(e.stderr or b"").decode("utf-8", "replace"),
            ) from None
        if ended.returncode:
            raise ExecError(
                f"{words[0]} of {what}: exit code {ended.returncode}"
                f"{f' of {list(command)}' if command else ''}: {ended.stderr.strip()}",
                exit_code=ended.returncode,
                output=ended.stdout,
                error=ended.stderr,
            )
        return ended.stdout

    def _argv(
        self, words: Sequence[str], ref: Ref, namespace: str | None, lack: str
    ) -> tuple[list[str], str]:
        resource, name, where = self._resolve(ref, namespace)
        what = f"{resource.kind} {name}"
        if "pods" not in self.cluster.capabilities:
            raise ClusterError(
                f"{what} {lack}: pods of {self.cluster.provider} clusters do not run; "
                "those of --kube=kind do"
            )
        kubectl = str(self.cluster.kubectl())
        argv = [kubectl, f"--kubeconfig={self.kubeconfig}", f"--namespace={where}"]
        return [*argv, *words, f"{resource.full_name}/{name}"], what
