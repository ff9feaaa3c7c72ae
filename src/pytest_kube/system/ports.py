"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import contextlib
import socket

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return *count* different ports, chosen by the kernel, that are free now.

    Another process can take one before it is used: whoever starts a server on one
    must be ready to start again with new ports.
    """
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.bind((HOST, 0))
            ports.append(sock.getsockname()[1])
        return ports
