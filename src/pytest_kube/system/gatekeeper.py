"""The gatekeeper: a small process that connections pass through, and that cuts them.

It is run as a script, with the standard library only, and is given one end of a socket
pair. It ends when the other end is closed, however its user ends. A process of its own,
because a thread would wait for Python's lock each time that something passes.

It speaks JSON, one message per line, and answers each one::

    {"do": "open", "host": "127.0.0.1", "port": 6443}  ->  {"port": 40001}
    {"do": "hold", "port": 40001}                      ->  {"port": 40001}
    {"do": "release", "port": 40001}                   ->  {"port": 40001}
    {"do": "shut", "port": 40001}                      ->  {"port": 40001}
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHUNK = 64 * 1024
FULL = 1024 * 1024
"""Bytes that wait for one end, from which on the other one is not read."""

CONNECT_TIMEOUT = 1.0
"""Seconds; the servers are on this machine, and answer at once or not at all."""


class End:
    """One end of a connection: the client's or the server's."""

    def __init__(self, gate: Gate, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.gate = gate
        self.connection = connection
        self.other = self
        self.waiting = bytearray()
        self.has_ended = False

    def events(self) -> int:
        """Return what to wait for."""
        events = 0
        reads = not (self.gate.is_held or self.has_ended)
        if reads and len(self.other.waiting) < FULL:
            events |= selectors.EVENT_READ
        if self.waiting:
            events |= selectors.EVENT_WRITE
        return events

    def read(self) -> None:
        """Read what is there, and pass it on."""
        data = self.connection.recv(CHUNK)
        self.has_ended = not data
        self.other.waiting += data
        self.other.write()

    def write(self) -> None:
        """Send what waits, as much as goes; pass on the end when all is sent."""
        if self.waiting:
            try:
                del self.waiting[: self.connection.send(self.waiting)]
            except BlockingIOError:
                return
        if self.other.has_ended and not self.waiting:
            self.connection.shutdown(socket.SHUT_WR)


class Gate:
    """A port that leads to another one."""

    def __init__(self, host: str, port: int) -> None:
        self.server = (host, port)
        self.listener = socket.create_server((host, 0))
        self.listener.setblocking(False)
        self.is_held = False
        self.ends: set[End] = set()


class Gatekeeper:
    """All gates of one user."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.buffer = b""
        self.gates: dict[int, Gate] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(control, selectors.EVENT_READ)

    def serve(self) -> None:
        """Let pass, until nobody needs it."""
        while True:
            for key, events in self.selector.select():
                if key.fileobj is self.control:
                    if not self._obey():
                        return
                elif isinstance(key.data, Gate):
                    self._accept(key.data)
                elif key.data in key.data.gate.ends:  # not cut a moment ago
                    self._pass(key.data, events)

    def _obey(self) -> bool:
        data = self.control.recv(CHUNK)
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            answer: dict[str, Any]
            try:
                answer = {"port": self._do(message)}
            except OSError as e:
                answer = {"error": str(e)}
            self.control.sendall(json.dumps(answer).encode() + b"\n")
        return bool(data)

    def _do(self, message: dict[str, Any]) -> int:
        port: int = message["port"]
        if message["do"] == "open":
            gate = Gate(message["host"], port)
            self.selector.register(gate.listener, selectors.EVENT_READ, gate)
            port = gate.listener.getsockname()[1]
            self.gates[port] = gate
        elif message["do"] == "shut":
            self._shut(self.gates.pop(port))
        else:
            gate = self.gates[port]
            gate.is_held = message["do"] == "hold"
            for end in gate.ends:
                self._watch(end)
        return port

    def _shut(self, gate: Gate) -> None:
        self.selector.unregister(gate.listener)
        gate.listener.close()
        for end in list(gate.ends):
            self._drop(end)

    def _accept(self, gate: Gate) -> None:
        try:
            connection, _ = gate.listener.accept()
        except OSError:
            return
        try:
            server = socket.create_connection(gate.server, CONNECT_TIMEOUT)
        except OSError:
            connection.close()
            return
        one, other = End(gate, connection), End(gate, server)
        one.other, other.other = other, one
        for end in (one, other):
            gate.ends.add(end)
            self._watch(end)

    def _pass(self, end: End, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                end.read()
            if events & selectors.EVENT_WRITE:
                end.write()
        except BlockingIOError:
            pass
        except OSError:
            self._drop(end)
            self._drop(end.other)
            return
        is_over = end.has_ended and end.other.has_ended
        if is_over and not (end.waiting or end.other.waiting):
            self._drop(end)
            self._drop(end.other)
            return
        self._watch(end)
        self._watch(end.other)

    def _watch(self, end: End) -> None:
        known = end.connection in self.selector.get_map()
        events = end.events()
        if known and events:
            self.selector.modify(end.connection, events, end)
        elif known:
            self.selector.unregister(end.connection)
        elif events:
            self.selector.register(end.connection, events, end)

    def _drop(self, end: End) -> None:
        end.gate.ends.discard(end)
        if end.connection in self.selector.get_map():
            self.selector.unregister(end.connection)
        end.connection.close()


def main(fd: int) -> None:
    """Serve the user at the other end of *fd*."""
    # Ctrl-C is for its user, who still needs it to stop controllers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir("/")
    Gatekeeper(socket.socket(fileno=fd)).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
