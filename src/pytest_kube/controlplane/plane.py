"""The control plane of one cluster: which processes, in which order, ready when."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kube import kubeconfig
from pytest_kube.binaries.store import cache_folder
from pytest_kube.controlplane import (
    apiserver,
    controller_manager,
    etcd,
    kwok,
    scheduler,
)
from pytest_kube.controlplane.failures import exited, not_ready
from pytest_kube.controlplane.memory import contradicted
from pytest_kube.errors import (
    APIError,
    ClusterError,
    ComponentNotReadyError,
    hide_frames,
)
from pytest_kube.kubeconfig import KeyPair
from pytest_kube.state.template import Content, Template
from pytest_kube.system.ports import free_ports
from pytest_kube.system.processes import Guardian, Process

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kube.client import Client
    from pytest_kube.cluster import Cluster
    from pytest_kube.controlplane.plan import Plan
    from pytest_kube.state.etcd import Change

__tracebackhide__ = hide_frames

TRIES = 3
AUDIT_LOG = "audit.log"
ADMIN = "pytest-kube-admin"
MASTERS = ("system:masters",)
COMPONENTS = {
    "kube-controller-manager": controller_manager,
    "kube-scheduler": scheduler,
    "kwok": kwok,
}
"""What runs beside etcd and the API server where there are nodes."""

LATE, DELAY = "kube-controller-manager", 0.25
"""Asks once a second whether the API server is healthy, which that is 1.2 seconds after
it is ready. Started these seconds after that, it has its answer the second time."""

_LATER = (
    "import os, sys, time; "
    "time.sleep(float(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
)

SERVERS = ("etcd", "kube-apiserver", *COMPONENTS)
USERS = {
    "etcd-client": ("etcd-client", ()),
    "admin": (ADMIN, MASTERS),
    "kube-controller-manager-client": ("system:kube-controller-manager", MASTERS),
    "kube-scheduler-client": ("system:kube-scheduler", MASTERS),
    "kwok-client": ("kwok", MASTERS),
}
SETTLED = 1.0
"""Seconds without a write after which a new state is worth keeping as a template.

Controllers look once a second for some of what they write at first."""

SETTLE_TIMEOUT = 20.0
_CAPABILITIES = frozenset({"rollback", "history"})
_NODES = frozenset({"nodes", "controllers"})
# These two hooks sleep for a second before they look, and then find everything there.
_WITH_TEMPLATE = (
    "?exclude=poststarthook/rbac/bootstrap-roles"
    "&exclude=poststarthook/scheduling/bootstrap-system-priority-classes"
)
_PORT_LOST = "address already in use"


@contextlib.contextmanager
def running(plan: Plan) -> Iterator[Cluster]:
    """Run a control plane of this process's own.

    Raises:
        ComponentExitedError: A component ended; the text has its last log lines.
        ComponentNotReadyError: A component runs but does not become ready.
    """
    with contextlib.ExitStack() as stack:
        yield _start(plan, stack)


def _start(plan: Plan, stack: contextlib.ExitStack) -> Cluster:
    folder = cache_folder(os.environ) / "templates"
    base = Template.of(folder, plan.described)
    whole = Template.of(folder, plan.described, plan.content) if plan.content else base
    for attempt in range(1, TRIES + 1):
        with contextlib.ExitStack() as attempted:
            used = whole
            content = whole.read()
            if content is None and whole is not base:
                used, content = base, base.read()
            plane = Plane(attempted.enter_context(Guardian()), plan)
            try:
                cluster = plane.start(content)
            except ClusterError as e:
                lost = _is_lost(e)
                if content and not lost:
                    used.discard()
                if (lost or content) and attempt < TRIES:
                    continue
                raise
            if content is None:
                plane.keep_as(base)
            if content is None or used is not whole:
                cluster.install(plan.crds, plan.manifests)
                if whole is not base:
                    plane.keep_as(whole)
            else:
                cluster.loaded(plan.crds, plan.manifests)
            stack.enter_context(attempted.pop_all())
            return cluster
    raise AssertionError  # the last attempt returns or raises


@contextlib.contextmanager
def holding(plan: Plan, state: Mapping[str, bytes]) -> Iterator[Cluster]:
    """Run a control plane of this process's own on a state that is there already.

    The API server asks a kubelet; what that needs is in the folder ``pki``.

    Args:
        plan: Which control plane.
        state: What etcd stores at first, by key.
    """
    from pytest_kube.controlplane import certs

    pki = _new_pki() | certs.kubelet()
    with contextlib.ExitStack() as stack:
        yield _held(plan, Content(pki, state), stack)


def _held(plan: Plan, content: Content, stack: contextlib.ExitStack) -> Cluster:
    for attempt in range(1, TRIES + 1):
        with contextlib.ExitStack() as attempted:
            plane = Plane(attempted.enter_context(Guardian()), plan)
            try:
                cluster = plane.start(content)
            except ClusterError as e:
                if _is_lost(e) and attempt < TRIES:
                    continue
                raise
            stack.enter_context(attempted.pop_all())
            return cluster
    raise AssertionError  # the last attempt returns or raises


def _is_lost(error: ClusterError) -> bool:
    """Tell whether a start failed by chance, and another one may not."""
    # Between choosing a port and using it, somebody else took it.
    log_tail = getattr(error, "log_tail", "")
    return _PORT_LOST in log_tail or isinstance(error, _TooLateError)


def attach(guardian: Guardian, plan: Plan) -> Cluster:
    """Return the cluster of a control plane that *guardian* keeps.

    Raises:
        ClusterError: A component does not run any more, or does not answer.
    """
    return Plane(guardian, plan).attach()


class _TooLateError(ComponentNotReadyError):
    """The API server was the first to write; what it wrote must not be mixed up."""


@dataclass
class Plane:
    """The processes of one control plane, owned by a guardian."""

    guardian: Guardian
    plan: Plan
    pki: Mapping[str, bytes] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)

    def start(self, content: Content | None) -> Cluster:
        """Start everything, and return the cluster when it can be used.

        Args:
            content: What the state is at first; nothing when omitted.
        """
        self.pki = content.pki if content else _new_pki()
        self._write_pki()
        ports = iter(free_ports(6))
        etcd_port, port = next(ports), next(ports)
        self.server = f"https://127.0.0.1:{port}"
        self.etcd_url = f"https://127.0.0.1:{etcd_port}"
        self._start_etcd(etcd_port, next(ports))
        # It needs longer to its first look at etcd than etcd to its start.
        self._start_apiserver(port, etcd_port)
        early = [n for n in COMPONENTS if n != LATE] if self.plan.nodes else []
        probes = [self._start_component(name, next(ports)) for name in early]
        self._open()
        self._await("etcd", self.etcd.check_health)
        state = self._first_state(content)
        if state and not self.etcd.fill(state, "/registry/"):
            raise _TooLateError(
                "kube-apiserver wrote to etcd before its first state was there",
                component="kube-apiserver",
                elapsed=0.0,
                log_tail="",
            )
        client = self.client
        ready = "/readyz" + (_WITH_TEMPLATE if content else "")
        self._await("kube-apiserver", lambda: client.text(ready, timeout=5.0))
        if self.plan.nodes:
            late = self._start_component(LATE, next(ports))
            # With a template, these programs and flags have been seen to work.
            probes += [] if content else [late]
        # The API server makes these itself, a moment after it is ready.
        for path in ("", "/services/kubernetes"):
            self._await(
                "kube-apiserver",
                lambda p=path: client.request("GET", "/api/v1/namespaces/default" + p),  # type: ignore[misc]
            )
        for name, probe in probes:
            self._await(name, probe)
        if self.plan.nodes:
            self._await(
                LATE,
                lambda: client.request(
                    "GET", "/api/v1/namespaces/default/serviceaccounts/default"
                ),
            )
        return self._cluster()

    def attach(self) -> Cluster:
        """Return the cluster that runs already, if it is well."""
        names = {"etcd", "kube-apiserver", *(COMPONENTS if self.plan.nodes else ())}
        self.processes = {
            p.name: p for p in self.guardian.processes() if p.name in names
        }
        if missing := sorted(names - self.processes.keys()):
            raise ClusterError(f"{', '.join(missing)} does not run any more")
        pki = self.guardian.directory / "pki"
        self.pki = {file.name: file.read_bytes() for file in pki.iterdir()}
        self.etcd_url = _flag(self.processes["etcd"], "listen-client-urls")
        port = _flag(self.processes["kube-apiserver"], "secure-port")
        self.server = f"https://127.0.0.1:{port}"
        self._open()
        self.etcd.check_health()
        self.client.text("/readyz" + _WITH_TEMPLATE, timeout=5.0)
        return self._cluster()

    def keep_as(self, template: Template) -> None:
        """Keep the state as a template, once the components have written all of it."""
        quiet = SETTLED if self.plan.nodes else SETTLED / 10
        self.state.settle(quiet, SETTLE_TIMEOUT)
        template.save(Content.of(self.pki, self.etcd.entries("/registry/")))

    def identity(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Write a kubeconfig for *user* in *groups*, and return its path."""
        from pytest_kube.controlplane import certs

        authority = certs.Authority(self._pair("ca"))
        return self._kubeconfig(user, authority.client(user, groups))

    # --- starting -----------------------------------------------------------

    def _open(self) -> None:
        """Make the clients of what was started. Their imports take a while."""
        from pytest_kube.client import Client
        from pytest_kube.state.etcd import Etcd
        from pytest_kube.state.rollback import State

        trust = self._trust()
        pki = self.guardian.directory / "pki"
        trust.load_cert_chain(pki / "etcd-client.crt", pki / "etcd-client.key")
        self.etcd = Etcd(self.etcd_url, trust)
        self.state = State(self.etcd, self if self.plan.nodes else None)
        admin = self._kubeconfig(ADMIN, self._pair("admin"))
        self.client = Client.from_kubeconfig(admin)

    def _cluster(self) -> Cluster:
        from pytest_kube.cluster import Cluster

        return Cluster(
            provider="kwok" if self.plan.nodes else "envtest",
            version=self.client.version(),
            client=self.client,
            guardian=self.guardian,
            capabilities=_CAPABILITIES | (_NODES if self.plan.nodes else frozenset()),
            identity=self.identity,
            logs={name: p.log for name, p in self.processes.items()},
            state=self.state,
            audit=self.guardian.directory / AUDIT_LOG,
            flags=apiserver.served(self.plan.profile),
            check=self._check,
        )

    def _first_state(self, content: Content | None) -> dict[str, bytes]:
        if content:
            return dict(content.values)
        if not self.plan.nodes:
            return {}
        nodes = kwok.nodes(self.plan.profile.nodes, self.plan.version)
        return {
            f"/registry/minions/{node['metadata']['name']}": json.dumps(node).encode()
            for node in nodes
        }

    def _start_etcd(self, port: int, peer_port: int) -> None:
        folder = self.guardian.directory
        data, pki = folder / "etcd", folder / "pki"
        flags = etcd.flags(data=data, pki=pki, port=port, peer_port=peer_port)
        self._run("etcd", flags)

    def _start_apiserver(self, port: int, etcd_port: int) -> None:
        pki = self.guardian.directory / "pki"
        asks = apiserver.kubelet_flags(pki) if "kubelet-ca.crt" in self.pki else {}
        flags = apiserver.flags(
            pki=pki,
            audit=self.guardian.directory / AUDIT_LOG,
            port=port,
            etcd_port=etcd_port,
            service_accounts=self.plan.nodes,
        )
        served = apiserver.served(self.plan.profile)
        self._run("kube-apiserver", {**flags, **asks, **served})

    def _start_component(
        self, name: str, port: int
    ) -> tuple[str, Callable[[], object]]:
        """Start a component that works through the API; return how it is probed."""
        module = COMPONENTS[name]
        # kwok knows no feature gates; the others share the API server's.
        known = {} if module is kwok else self.plan.profile.feature_gates
        user, _ = USERS[f"{name}-client"]
        config = self._kubeconfig(user, self._pair(f"{name}-client"))
        pki = self.guardian.directory / "pki"
        flags = module.flags(kubeconfig=config, pki=pki, port=port)
        self._run(name, {**flags, **apiserver.gates(known)})
        return name, self._healthz(port)

    def _healthz(self, port: int) -> Callable[[], object]:
        clients: list[Client] = []

        def probe() -> object:
            from pytest_kube.client import Client

            if not clients:
                clients.append(Client(f"https://127.0.0.1:{port}", self._trust(), {}))
            return clients[0].text("/healthz", timeout=1.0)

        return probe

    def _run(self, name: str, flags: Mapping[str, str]) -> None:
        merged = {**flags, **self.plan.profile.extra_args.get(name, {})}
        argv = [str(self.plan.binaries[name])]
        argv += [f"--{flag}={value}" for flag, value in merged.items()]
        if name == LATE:
            argv = [sys.executable, "-I", "-S", "-c", _LATER, str(DELAY), *argv]
        self.processes[name] = self.guardian.start(name, argv, env=_environment(name))

    def _check(self) -> None:
        for process in self.processes.values():
            if process.exited.done():
                raise exited(process, self.plan.profile, "while it was needed")

    def _await(self, name: str, probe: Callable[[], object]) -> None:
        """Wait until *probe* of the component *name* raises nothing."""
        started = time.monotonic()
        exits = [p.exited for p in self.processes.values()]
        seen: Exception | None = None
        while (elapsed := time.monotonic() - started) < self.plan.start_timeout:
            for process in self.processes.values():
                if process.exited.done():
                    raise exited(process, self.plan.profile)
            try:
                probe()
            except (ClusterError, APIError, ConnectionError) as e:
                seen = e
            else:
                return
            concurrent.futures.wait(
                exits, timeout=0.005, return_when=concurrent.futures.FIRST_COMPLETED
            )
        raise not_ready(self.processes[name], elapsed, seen)

    # --- certificates -------------------------------------------------------

    def _write_pki(self) -> None:
        folder = self.guardian.directory / "pki"
        folder.mkdir(mode=0o700)
        for name, content in self.pki.items():
            (folder / name).write_bytes(content)

    def _pair(self, name: str) -> KeyPair:
        return KeyPair(self.pki[f"{name}.crt"], self.pki[f"{name}.key"])

    def _kubeconfig(self, user: str, pair: KeyPair) -> Path:
        folder = self.guardian.directory / "kubeconfigs"
        return kubeconfig.write(
            folder / f"{user.replace(':', '-')}.json",
            server=self.server,
            ca=self.pki["ca.crt"],
            user=user,
            pair=pair,
        )

    def _trust(self) -> ssl.SSLContext:
        import ssl

        return ssl.create_default_context(cadata=self.pki["ca.crt"].decode())

    # --- after a rollback ---------------------------------------------------

    def author(self, change: Change) -> str | None:
        """Return the user who made a change, as the audit log knows it."""
        from pytest_kube.audit import AuditLog

        log = AuditLog(self.guardian.directory / AUDIT_LOG, change.revision)
        before, after = (v and json.loads(v) for v in (change.before, change.after))
        write = log.write_of(change.revision, before or None, after or None)
        return write.user if write else None

    @contextlib.contextmanager
    def refreshed(self, restored: Sequence[Change]) -> Iterator[None]:
        """Start components again that remember what is not so any more.

        They stand still while the state is written, or they would act on it before.
        """
        names = contradicted(restored, self.etcd.entries)
        for name in names:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.processes[name].pid, signal.SIGSTOP)
        yield
        for name in names:
            self.processes[name] = self.guardian.restart(self.processes[name])
        for name in names:
            port = _flag(self.processes[name], "secure-port")
            self._await(name, self._healthz(int(port)))

    def follow(self, written: Mapping[str, bytes | None]) -> None:
        """Wait for nothing: simulated pods are what etcd says."""


def _flag(process: Process, name: str) -> str:
    prefix = f"--{name}="
    return next(a for a in process.argv if a.startswith(prefix)).removeprefix(prefix)


def _environment(name: str) -> dict[str, str] | None:
    """Let the API server collect garbage less often: it starts in 0.2 s less."""
    return {**os.environ, "GOGC": "400"} if name == "kube-apiserver" else None


def _new_pki() -> dict[str, bytes]:
    from pytest_kube.controlplane import certs

    return certs.files(SERVERS, USERS)
