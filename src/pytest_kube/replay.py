"""Bring an archived state to life: an API server on it, as it was at any moment.

There is etcd and the API server and nobody else, so that the state stays as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kube import kubeconfig
from pytest_kube.binaries.releases import DEFAULT_VERSION, minor_version
from pytest_kube.binaries.store import Store
from pytest_kube.controlplane import plane
from pytest_kube.controlplane.apiserver import NODE_ADDRESS
from pytest_kube.controlplane.plan import Plan
from pytest_kube.errors import hide_frames
from pytest_kube.kubelet import Kubelet
from pytest_kube.profiles import Profile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_kube.cluster import Cluster
    from pytest_kube.state.archive import Archive

__tracebackhide__ = hide_frames

PROGRAMS = ("etcd", "kube-apiserver")
NOT_FOUND = 127
"""The exit code for a command that does not exist, the one that shells have for it."""

_CRDS = "/registry/apiextensions.k8s.io/customresourcedefinitions/"
_NODES = "/registry/minions/"
_APIS = "/registry/apiregistration.k8s.io/apiservices/"
_FLAGS = {
    # Who answered the webhooks is gone, and they may point anywhere. Without a
    # controller-manager nobody makes the ServiceAccounts that pods need.
    "disable-admission-plugins": (
        "MutatingAdmissionWebhook,ServiceAccount,ValidatingAdmissionWebhook"
    )
}
_SCHEMAS_TIMEOUT = 5.0


@contextlib.contextmanager
def running(
    archive: Archive,
    moment: int,
    version: str,
    binaries: Mapping[str, Path],
    folder: Path,
) -> Iterator[Replay]:
    """Run an API server on the state of a moment.

    Args:
        archive: What is replayed.
        moment: How many of its changes have happened.
        version: The Kubernetes version of the programs.
        binaries: Their paths, by name.
        folder: Where logs of pods are, if there are any.

    Raises:
        ClusterError: The API server does not start.
    """
    about = archive.about
    # Another version may not know them, and would not start.
    known = minor_version(version) == minor_version(about.version)
    flags = {**_FLAGS, **(about.flags if known else {})}
    profile = Profile("replay", "envtest", extra_args={"kube-apiserver": flags})
    plan = Plan(profile, version, binaries, nodes=False)
    with contextlib.ExitStack() as stack:
        kubelet = stack.enter_context(Kubelet(folder, about.made))
        port = kubelet.server_port
        now = {key: s.value for key, s in archive.state(moment).items()}
        state = {k: v for k, v in _stored(now, port).items() if v is not None}
        cluster = stack.enter_context(plane.holding(plan, state))
        private = cluster.guardian.directory
        stack.enter_context(kubelet.serving(private / "pki"))
        config = kubeconfig.in_namespace(
            cluster.kubeconfig, about.namespace, private / "kubeconfig.json"
        )
        replay = Replay(archive, cluster, config, moment, port)
        replay.await_crds()
        yield replay


@dataclass
class Replay:
    """A running API server, and the moment whose state it has.

    What others write to it stays, until a step writes the same object.

    Attributes:
        archive: What is replayed.
        cluster: The API server.
        kubeconfig: Its kubeconfig, in the namespace of the test.
        moment: How many of the changes have happened.
        kubelet: The port of what stands in for the kubelet of every node.
    """

    archive: Archive
    cluster: Cluster
    kubeconfig: Path
    moment: int
    kubelet: int

    @property
    def kubectl(self) -> str:
        """How kubectl is called: by its name if it is on the path, or as ours."""
        if shutil.which("kubectl"):
            return "kubectl"
        found = Store(DEFAULT_VERSION).find("kubectl")
        return str(found.path) if found else "kubectl"

    def step(self, count: int) -> None:
        """Make changes one after the other; take them back if *count* is negative."""
        for _ in range(abs(count)):
            index = self.moment if count > 0 else self.moment - 1
            if not 0 <= index < len(self.archive.changes):
                return
            change = self.archive.changes[index]
            value = change.value if count > 0 else self.archive.before[index]
            self.moment += 1 if count > 0 else -1
            self._write({change.key: value})

    def jump(self, moment: int) -> None:
        """Go to a moment in one step."""
        here, there = (self.archive.state(m) for m in (self.moment, moment))
        values = {
            key: there[key].value if key in there else None
            for key in {**here, **there}
            if here.get(key) != there.get(key)
        }
        self.moment = moment
        self._write(values)

    def play(self, until: int, speed: float | None, end: threading.Event) -> None:
        """Make all changes up to a moment, at their old pace times *speed*."""
        times = self.archive.times
        while self.moment < until:
            if speed and self.moment:
                gap = times[self.moment] - times[self.moment - 1]
                end.wait(gap.total_seconds() / speed)
            if end.is_set():
                return
            self.step(1)

    def command(self, argv: Sequence[str]) -> int:
        """Run a program that finds the API server; return its exit code."""
        path = os.environ.get("PATH", os.defpath)
        if "/" in self.kubectl:  # ours, for the path has none
            path += f"{os.pathsep}{Path(self.kubectl).parent}"
        env = {
            **os.environ,
            "PATH": path,
            "KUBECONFIG": str(self.kubeconfig),
            # Else it may find what it knew of another server on the same port.
            "KUBECACHEDIR": str(self.cluster.guardian.directory / "kubectl"),
        }
        program = shutil.which(argv[0], path=path)
        if program is None:
            sys.stderr.write(f"pytest-kube: {argv[0]}: no such program\n")
            return NOT_FOUND
        if any("explain" in word for word in argv):
            self._await_schemas()
        code = subprocess.run([program, *argv[1:]], env=env, check=False).returncode
        return code if code >= 0 else 128 - code

    def _write(self, values: dict[str, Any]) -> None:
        assert self.cluster.state is not None  # noqa: S101  # for the type checker
        self.cluster.state.write(_stored(values, self.kubelet))
        kinds = {key: v for key, v in values.items() if key.startswith(_CRDS)}
        if kinds:
            from pytest_kube import crds

            self._await_crds(kinds.values())
            gone = [k.removeprefix(_CRDS) for k, v in kinds.items() if v is None]
            if gone:
                missing = dict.fromkeys(gone, False)
                crds.await_discovery(self.cluster.client, missing)

    def await_crds(self) -> None:
        """Wait until all kinds of custom resources are served."""
        self._await_crds(self._crds())

    def _await_crds(self, found: Iterable[dict[str, Any] | None]) -> None:
        from pytest_kube import crds

        log = self.cluster.logs.get("kube-apiserver")
        served = [crd for crd in found if crd and _is_served(crd)]
        # Not as the only API server: that would change them.
        crds.await_served(self.cluster.client, served, single=False, log=log)

    def _await_schemas(self) -> None:
        """Wait for what kubectl explain reads, which comes up to a second later."""
        wanted = {
            f"apis/{crd['spec']['group']}/{version['name']}"
            for crd in filter(_is_served, self._crds())
            for version in crd["spec"]["versions"]
            if version.get("served")
        }
        pause, deadline = threading.Event(), time.monotonic() + _SCHEMAS_TIMEOUT
        while wanted and time.monotonic() < deadline:
            wanted -= self.cluster.client.request("GET", "/openapi/v3")["paths"].keys()
            pause.wait(0.02 if wanted else 0)

    def _crds(self) -> list[dict[str, Any]]:
        stored = self.archive.state(self.moment)
        found = (s.value for key, s in stored.items() if key.startswith(_CRDS))
        return [crd for crd in found if crd]


def _is_served(crd: dict[str, Any]) -> bool:
    """Tell whether a CRD was established, and not about to be deleted."""
    established = {"type": "Established", "status": "True"}.items()
    try:
        spec, deleted = crd["spec"], crd["metadata"].get("deletionTimestamp")
        complete = spec["group"] and spec["names"]["plural"] and crd["metadata"]["name"]
        versions = all(version["name"] for version in spec["versions"])
        conditions = crd["status"]["conditions"] or ()
        held = any(established <= condition.items() for condition in conditions)
    except (KeyError, TypeError, AttributeError):  # new, or none of an API server's
        return False
    return bool(complete and versions and held and not deleted)


def _stored(values: Mapping[str, Any], kubelet: int) -> dict[str, bytes | None]:
    """Return what etcd gets: all as it was, but for what leads to what is gone.

    There are no APIs that Services have served; CRDs are without conversion webhooks;
    nodes have an address more, where the kubelet is that stands in for theirs.
    """
    usable = {key: _usable(key, v, kubelet) for key, v in values.items()}
    return {k: None if v is None else json.dumps(v).encode() for k, v in usable.items()}


def _usable(key: str, value: Any, kubelet: int) -> Any:
    if value is None:
        return None
    if key.startswith(_APIS):
        spec = value.get("spec")
        return None if isinstance(spec, dict) and spec.get("service") else value
    if key.startswith(_CRDS):
        spec = value.get("spec")
        if isinstance(spec, dict) and "conversion" in spec:
            return {**value, "spec": {**spec, "conversion": {"strategy": "None"}}}
    if key.startswith(_NODES):
        return {**value, "status": _status(value.get("status"), kubelet)}
    return value


def _status(status: Any, kubelet: int) -> dict[str, Any]:
    status = status if isinstance(status, dict) else {}
    known = status.get("addresses")
    ours = {"type": NODE_ADDRESS, "address": "127.0.0.1"}
    others = [
        address
        for address in (known if isinstance(known, list) else ())
        if isinstance(address, dict) and address.get("type") != NODE_ADDRESS
    ]
    return {
        **status,
        "addresses": [*others, ours],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet}},
    }
