"""Our side of the gatekeeper: ways to servers of this machine that can be cut."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pytest_kube.errors import ClusterError, hide_frames

if TYPE_CHECKING:
    from types import TracebackType

__tracebackhide__ = hide_frames

TIMEOUT = 10.0
"""Seconds for an answer of the gatekeeper, and for its end."""


class Gates:
    """Opens gates, all in one process, which is started for the first one.

    Use it as a context manager; leaving it shuts all gates.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self, host: str, port: int) -> Gate:
        """Open a way to a server.

        Raises:
            ClusterError: The gatekeeper cannot be started, or does not answer.
        """
        return Gate(self, self._ask(do="open", host=host, port=port))

    def close(self) -> None:
        """End the gatekeeper. Can be called again."""
        if self._control is None or self._process is None:
            return
        self._control.close()
        try:
            self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None

    def _ask(self, **message: Any) -> int:
        with self._lock:
            if self._control is None:
                self._control = self._start()
            try:
                self._control.sendall(json.dumps(message).encode() + b"\n")
                answer = json.loads(self._control.recv(4096))
            except (OSError, ValueError) as e:
                raise ClusterError(
                    f"the process between controllers and the API server: {e!r}; "
                    "was it killed?"
                ) from e
        if "error" in answer:
            raise ClusterError(f"no way to {message}: {answer['error']}")
        port: int = answer["port"]
        return port

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        script = Path(__file__).with_name("gatekeeper.py")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(script), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        ours.settimeout(TIMEOUT)
        return ours


class Gate:
    """A way to a server; made by :meth:`Gates.open`.

    Attributes:
        port: Where it begins, on the host of the server.
    """

    def __init__(self, gates: Gates, port: int) -> None:
        self.port = port
        self._gates = gates
        self._is_open = True

    def hold(self) -> None:
        """Let nothing through, and lose nothing, until :meth:`release`."""
        self._tell("hold")

    def release(self) -> None:
        """Let everything through again."""
        self._tell("release")

    def shut(self) -> None:
        """Break all connections and accept no more. Can be called again."""
        self._tell("shut")
        self._is_open = False

    def _tell(self, what: str) -> None:
        if self._is_open:
            self._gates._ask(do=what, port=self.port)  # noqa: SLF001  # ours
