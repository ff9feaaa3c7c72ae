"""Gates: all passes, nothing passes, nothing ever passes again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_kube.errors import ClusterError
from pytest_kube.system.gates import Gates

from .waiting import is_running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"


@pytest.fixture
def gates() -> Iterator[Gates]:
    """Gates of one test."""
    with Gates() as opened:
        yield opened


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets, until it gets no more."""
    listener = socket.create_server((HOST, 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                pass

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def connect(port: int) -> socket.socket:
    """Connect, and wait for nothing longer than a few seconds."""
    return socket.create_connection((HOST, port), timeout=5)


def received(connection: socket.socket) -> bytes:
    """Return all that comes until the end."""
    parts = []
    while data := connection.recv(65536):
        parts.append(data)
    return b"".join(parts)


def test_everything_passes(gates: Gates, echo: int) -> None:
    """More than fits anywhere, in both directions, and the end of it."""
    sent = os.urandom(8 * 1024 * 1024)
    with connect(gates.open(HOST, echo).port) as connection:
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(received(connection)))
        reader.start()
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        reader.join(10)

    assert got == [sent]


def test_held_gate_keeps_what_it_is_given(gates: Gates, echo: int) -> None:
    """Of connections that were there, and of new ones."""
    gate = gates.open(HOST, echo)
    with connect(gate.port) as before:
        gate.hold()
        with connect(gate.port) as after:
            for connection in (before, after):
                connection.sendall(b"hello")
                connection.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    connection.recv(10)
            gate.release()
            for connection in (before, after):
                connection.settimeout(5)
                assert connection.recv(10) == b"hello"


def test_shut_gate_lets_nothing_through(gates: Gates, echo: int) -> None:
    """What is connected is broken, and nobody can connect; others are not shut."""
    gate, other = gates.open(HOST, echo), gates.open(HOST, echo)
    with connect(gate.port) as broken, connect(other.port) as whole:
        for connection in (broken, whole):
            connection.sendall(b"hello")
            assert connection.recv(10) == b"hello"
        gate.shut()
        gate.shut()
        try:
            broken.sendall(b"more")
            assert broken.recv(10) == b""
        except ConnectionError:
            pass
        with pytest.raises(ConnectionRefusedError):
            connect(gate.port)
        whole.sendall(b"more")
        assert whole.recv(10) == b"more"


def test_server_that_is_gone_is_not_there_either(gates: Gates) -> None:
    """A client sees its connection end."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    with (
        connect(gates.open(HOST, port).port) as connection,
        contextlib.suppress(ConnectionError),
    ):
        assert connection.recv(10) == b""


def test_gatekeeper_that_was_killed_is_told(gates: Gates, echo: int) -> None:
    """Not waited for."""
    gate = gates.open(HOST, echo)
    process = gates._process
    assert process is not None
    process.send_signal(signal.SIGKILL)
    process.wait(5)

    with pytest.raises(
        ClusterError,
        match="the process between controllers and the API server: .*was it killed",
    ):
        gate.hold()


def test_gatekeeper_ends_with_its_user() -> None:
    """However that ends; Ctrl-C is not for the gatekeeper."""
    code = (
        "import os, signal\n"
        "from pytest_kube.system.gates import Gates\n"
        "gates = Gates()\n"
        "gates.open('127.0.0.1', 1)\n"
        "os.kill(gates._process.pid, signal.SIGINT)\n"
        "gates.open('127.0.0.1', 1)\n"
        "print(gates._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert result.returncode == -signal.SIGKILL
    pid = int(result.stdout)
    until(lambda: not is_running(pid))
