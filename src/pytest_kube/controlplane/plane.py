"""The control plane of one cluster: which processes, in which order, ready when."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import ssl
import time
from dataclasses import dataclass, field
from textwrap import indent
from typing import TYPE_CHECKING

from pytest_kube import kubeconfig
from pytest_kube.binaries.store import cache_folder
from pytest_kube.client import Client
from pytest_kube.cluster import Cluster
from pytest_kube.controlplane import (
    apiserver,
    certs,
    controller_manager,
    etcd,
    kwok,
    scheduler,
)
from pytest_kube.errors import (
    APIError,
    ClusterError,
    ComponentExitedError,
    ComponentNotReadyError,
    hide_frames,
)
from pytest_kube.state.etcd import Etcd
from pytest_kube.state.template import Template
from pytest_kube.system.ports import free_ports
from pytest_kube.system.processes import Guardian, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kube.profiles import Profile

__tracebackhide__ = hide_frames

START_TIMEOUT = 60.0
"""Seconds for each component; on an idle machine all of them need about two."""

TRIES = 3
ADMIN = ("pytest-kube-admin", ("system:masters",))
# These two hooks sleep for a second before they look, and then find everything there.
_WITH_TEMPLATE = (
    "?exclude=poststarthook/rbac/bootstrap-roles"
    "&exclude=poststarthook/scheduling/bootstrap-system-priority-classes"
)
_TELLING = re.compile(
    r"error|unknown|invalid|fail|fatal|panic|denied|not defined|not supported|in use",
    re.IGNORECASE,
)
_PORT_LOST = "address already in use"


@contextlib.contextmanager
def running(
    profile: Profile, version: str, binaries: Mapping[str, Path], *, nodes: bool
) -> Iterator[Cluster]:
    """Run a control plane.

    Args:
        profile: Nodes, feature gates, extra arguments.
        version: The Kubernetes version of the binaries.
        binaries: Program name to path.
        nodes: Whether controller-manager, scheduler and kwok run too.

    Raises:
        ComponentExitedError: A component ended; the text has its last log lines.
        ComponentNotReadyError: A component runs but does not become ready.
    """
    template = _template(profile, version, binaries, nodes=nodes)
    for attempt in range(1, TRIES + 1):
        with contextlib.ExitStack() as stack:
            plane = Plane(stack.enter_context(Guardian()), profile, binaries, template)
            try:
                cluster = plane.start(version, nodes=nodes)
            except (ComponentExitedError, ComponentNotReadyError) as e:
                # Between choosing a port and using it, somebody else took it.
                lost = _PORT_LOST in e.log_tail
                if plane.from_template and not lost:
                    template.discard()
                if (lost or plane.from_template) and attempt < TRIES:
                    continue
                raise
            yield cluster
            return


@dataclass
class Plane:
    """The processes of one control plane, owned by a guardian."""

    guardian: Guardian
    profile: Profile
    binaries: Mapping[str, Path]
    template: Template
    from_template: bool = False
    processes: dict[str, Process] = field(default_factory=dict)

    def start(self, version: str, *, nodes: bool) -> Cluster:
        """Start everything, and return the cluster when it can be used."""
        folder = self.guardian.directory
        self.pki = folder / "pki"
        self.authority = certs.Authority()
        self._write_pki()
        ports = iter(free_ports(6))
        etcd_port, port = next(ports), next(ports)
        self.server = f"https://127.0.0.1:{port}"
        self._run(
            "etcd",
            etcd.flags(
                data=folder / "etcd",
                pki=self.pki,
                port=etcd_port,
                peer_port=next(ports),
            ),
        )
        store = Etcd(f"https://127.0.0.1:{etcd_port}", self._etcd_credentials())
        self._await("etcd", store.check_health)
        self.from_template = self.template.load(store)
        self._run(
            "kube-apiserver",
            {
                **apiserver.flags(
                    pki=self.pki, port=port, etcd_port=etcd_port, service_accounts=nodes
                ),
                **_gates(self.profile.feature_gates),
                **_pairs("runtime-config", self.profile.runtime_config),
            },
        )
        probes = self._start_node_components(ports) if nodes else []
        client = Client.from_kubeconfig(self.identity(*ADMIN))
        ready = "/readyz" + (_WITH_TEMPLATE if self.from_template else "")
        self._await("kube-apiserver", lambda: client.text(ready, timeout=5.0))
        # The API server makes these itself, a moment after it is ready.
        for path in ("", "/services/kubernetes"):
            self._await(
                "kube-apiserver",
                lambda p=path: client.request("GET", "/api/v1/namespaces/default" + p),  # type: ignore[misc]
            )
        if nodes and not self.from_template:
            _create_nodes(client, self.profile, version)
        for name, probe in probes:
            self._await(name, probe)
        if nodes:
            self._await(
                "kube-controller-manager",
                lambda: client.request(
                    "GET", "/api/v1/namespaces/default/serviceaccounts/default"
                ),
            )
        if not self.from_template:
            self.template.save(store)
        return Cluster(
            provider="kwok" if nodes else "envtest",
            version=client.version(),
            client=client,
            guardian=self.guardian,
            capabilities=frozenset({"nodes", "controllers"} if nodes else ()),
            identity=self.identity,
            logs={name: p.log for name, p in self.processes.items()},
        )

    def identity(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Write a kubeconfig for *user* in *groups*, and return its path."""
        path = (
            self.guardian.directory / "kubeconfigs" / f"{user.replace(':', '-')}.json"
        )
        return kubeconfig.write(
            path,
            server=self.server,
            ca=self.authority.certificate,
            user=user,
            pair=self.authority.client(user, groups),
        )

    def _start_node_components(
        self, ports: Iterator[int]
    ) -> list[tuple[str, Callable[[], object]]]:
        masters = ("system:masters",)
        probes: list[tuple[str, Callable[[], object]]] = []
        for name, user, module in (
            (
                "kube-controller-manager",
                "system:kube-controller-manager",
                controller_manager,
            ),
            ("kube-scheduler", "system:kube-scheduler", scheduler),
            ("kwok", "kwok", kwok),
        ):
            port = next(ports)
            # kwok knows no feature gates; the others share the API server's.
            gates = {} if module is kwok else _gates(self.profile.feature_gates)
            config = self.identity(user, masters)
            flags = module.flags(kubeconfig=config, pki=self.pki, port=port)
            self._run(name, {**flags, **gates})
            probe = Client(f"https://127.0.0.1:{port}", self._trust(), {})
            probes.append((name, lambda p=probe: p.text("/healthz", timeout=1.0)))  # type: ignore[misc]
        return probes

    def _run(self, name: str, flags: Mapping[str, str]) -> None:
        merged = {**flags, **self.profile.extra_args.get(name, {})}
        argv = [str(self.binaries[name])]
        argv += [f"--{flag}={value}" for flag, value in merged.items()]
        self.processes[name] = self.guardian.start(name, argv)

    def _await(self, name: str, probe: Callable[[], object]) -> None:
        """Wait until *probe* of the component *name* raises nothing."""
        started = time.monotonic()
        exits = [p.exited for p in self.processes.values()]
        seen: Exception | None = None
        while (elapsed := time.monotonic() - started) < START_TIMEOUT:
            for process in self.processes.values():
                if process.exited.done():
                    raise _exited(process, self.profile)
            try:
                probe()
            except (ClusterError, APIError) as e:
                seen = e
            else:
                return
            concurrent.futures.wait(
                exits, timeout=0.01, return_when=concurrent.futures.FIRST_COMPLETED
            )
        process = self.processes[name]
        log_tail = process.log_tail()
        raise ComponentNotReadyError(
            f"{name} runs (pid {process.pid}) but was not ready within {elapsed:.0f} s"
            f"\n  last answer  {seen}"
            f"\n  log          {process.log}, which ends:\n{indent(log_tail, '    ')}",
            component=name,
            elapsed=elapsed,
            log_tail=log_tail,
        )

    def _write_pki(self) -> None:
        pairs = {
            "etcd": self.authority.server("etcd"),
            "apiserver": self.authority.server("kube-apiserver"),
            "apiserver-etcd-client": self.authority.client(
                "kube-apiserver-etcd-client"
            ),
            "controller-manager": self.authority.server("kube-controller-manager"),
            "scheduler": self.authority.server("kube-scheduler"),
            "kwok": self.authority.server("kwok"),
        }
        tokens = certs.signing_key()
        self.pki.mkdir(mode=0o700)
        (self.pki / "ca.crt").write_bytes(self.authority.certificate)
        (self.pki / "service-accounts.pub").write_bytes(tokens.certificate)
        (self.pki / "service-accounts.key").write_bytes(tokens.key)
        for name, pair in pairs.items():
            (self.pki / f"{name}.crt").write_bytes(pair.certificate)
            (self.pki / f"{name}.key").write_bytes(pair.key)

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.authority.certificate.decode())

    def _etcd_credentials(self) -> ssl.SSLContext:
        context = self._trust()
        name = "apiserver-etcd-client"
        context.load_cert_chain(self.pki / f"{name}.crt", self.pki / f"{name}.key")
        return context


def _template(
    profile: Profile, version: str, binaries: Mapping[str, Path], *, nodes: bool
) -> Template:
    """Return the template for clusters like this one: same programs, same flags."""
    programs = sorted(
        (n, p.stat().st_size, p.stat().st_mtime) for n, p in binaries.items()
    )
    described = (
        profile.nodes if nodes else (),
        profile.feature_gates,
        profile.runtime_config,
        profile.extra_args,
    )
    folder = cache_folder(os.environ) / "templates"
    return Template.of(folder, version, programs, described)


def _create_nodes(client: Client, profile: Profile, version: str) -> None:
    """Create the nodes of the profile, ready for pods.

    Admission taints each new node as not ready, until a controller finds out; they
    are ready, so the taint goes at once.
    """
    for node in kwok.nodes(profile.nodes, version):
        client.request("POST", "/api/v1/nodes", body=node)
        path = f"/api/v1/nodes/{node['metadata']['name']}"
        client.patch(path, {"spec": {"taints": node["spec"]["taints"]}}, type_="merge")


def _exited(process: Process, profile: Profile) -> ComponentExitedError:
    code = process.exited.result()
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    text = f"{process.name} ended with {how} before it was ready."
    if extra := profile.extra_args.get(process.name):
        given = " ".join(f"--{k}={v}" for k, v in extra.items())
        text += (
            f"\n  The profile {profile.name!r} gives it extra arguments: {given}"
            f"\n  Does this version know them? {process.argv[0]} --help lists all."
        )
    log_tail = process.log_tail(lines=300)
    return ComponentExitedError(
        f"{text}\n  From its log:\n{indent(_telling(log_tail), '    ')}",
        component=process.name,
        exit_code=code,
        log_tail=log_tail,
    )


def _telling(log_tail: str) -> str:
    """Pick the lines that say what went wrong from a log that may end in usage text."""
    lines = [line.rstrip() for line in log_tail.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line) and line[:2] != "--"]
    return "\n".join(line[:400] for line in (telling or lines)[-8:])


def _gates(gates: Mapping[str, bool]) -> dict[str, str]:
    return _pairs("feature-gates", {k: str(v).lower() for k, v in gates.items()})


def _pairs(flag: str, values: Mapping[str, str]) -> dict[str, str]:
    return {flag: ",".join(f"{k}={v}" for k, v in values.items())} if values else {}
