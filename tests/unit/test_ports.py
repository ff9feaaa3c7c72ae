"""Ports for servers on the loopback interface."""

from __future__ import annotations

import socket

from pytest_kube.system.ports import HOST, free_ports


def test_ports_differ_and_can_be_bound() -> None:
    """All of them can be used, at the same time."""
    ports = free_ports(20)

    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as sock:
            sock.bind((HOST, port))


def test_ports_in_use_are_not_given() -> None:
    """A port that somebody listens on is not free."""
    with socket.create_server((HOST, 0)) as server:
        taken = server.getsockname()[1]

        assert taken not in free_ports(50)


def test_no_port_is_asked_for() -> None:
    """Nothing asked, nothing given."""
    assert free_ports(0) == []
