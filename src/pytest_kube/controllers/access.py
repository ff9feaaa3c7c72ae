"""How a controller in this process reaches the API server, and is cut off from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kube import kubeconfig

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kube.system.gates import Gate, Gates

_HERE = {"127.0.0.1", "::1", "localhost"}


class Access:
    """A kubeconfig with a gate before the server.

    A thread cannot be killed, nor made to stand still. But whatever it does matters to
    nobody when nothing of it reaches the API server.

    Args:
        identity: The kubeconfig of whom the controller runs as.
        target: Where to write the one that the controller is given.
        gates: Opens the gate.

    Attributes:
        kubeconfig: The one that the controller is given.
    """

    def __init__(self, identity: Path, target: Path, gates: Gates) -> None:
        self.kubeconfig = target
        self._gates = gates
        self._identity = identity
        self._server = kubeconfig.server_of(identity)
        self._has_proxy = "proxy-url" in kubeconfig.current(identity)[0]
        self._gate: Gate | None = None

    @property
    def is_gated(self) -> bool:
        """Whether it can be shut: the server is one of this machine.

        A server elsewhere is reached directly: its certificate is not for a gate here,
        and what a proxy takes for this machine is another one.
        """
        return self._server.hostname in _HERE and not self._has_proxy

    def open(self) -> None:
        """Let through who reads the kubeconfig from now on, and nobody from before."""
        self.shut()
        server = self._server
        if self.is_gated:
            host = server.hostname or ""
            self._gate = self._gates.open(host, server.port or 443)
            netloc = f"[{host}]" if ":" in host else host
            server = server._replace(netloc=f"{netloc}:{self._gate.port}")
        kubeconfig.through(self._identity, server.geturl(), self.kubeconfig)

    def shut(self) -> None:
        """Let nothing through any more. Can be called again."""
        if self._gate is not None:
            self._gate.shut()

    def hold(self) -> None:
        """Let nothing through, and lose nothing, until :meth:`release`."""
        if self._gate is not None:
            self._gate.hold()

    def release(self) -> None:
        """Let everything through again."""
        if self._gate is not None:
            self._gate.release()
