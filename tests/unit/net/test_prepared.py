"""Sockets that a parent opens for its workers, as transports get them."""

import os
import socket

import pytest

from lane.address import Address
from lane.net import listen, prepared
from lane.net.prepared import Prepared, Rehearsal


@pytest.fixture
def rehearsed(monkeypatch):
    """A function that listens as a transport would, and what is wanted then."""
    monkeypatch.setattr(prepared, "rehearsal", Rehearsal())

    def rehearse(*endpoints):
        port, opened = 0, []
        for endpoint in endpoints:
            opened += listen.listen(endpoint._replace(port=port), 16)
            port = opened[0].getsockname()[1]
            opened += listen.bind_udp(endpoint._replace(port=port), quic=True)
        wanted = prepared.rehearsal.wanted
        for sock in opened:
            sock.close()
        assert prepared.rehearsal.wanted == []  # what was closed again is not wanted
        prepared.rehearsal = None
        return wanted, port

    return rehearse


@pytest.fixture
def groups():
    made = []

    def make(wanted, workers):
        found = [(one, listen.open_group(one, workers)) for one in wanted]
        made.extend(sock for _, group in found for socks in group for sock in socks)
        return found

    yield make
    for sock in made:
        sock.close()


def test_a_worker_gets_its_own_sockets_again_and_again(rehearsed, groups, monkeypatch):
    wanted, port = rehearsed(Address("127.0.0.1", 0))
    found = groups(wanted, 2)
    for _ in range(2):  # the second one is a successor
        monkeypatch.setattr(prepared, "mine", Prepared([(one, group[1]) for one, group in found]))
        taken = [*listen.listen(Address("127.0.0.1", port), 16), *listen.bind_udp(Address("127.0.0.1", port))]
        assert [sock.type for sock in taken] == [socket.SOCK_STREAM, socket.SOCK_DGRAM]
        inodes = [socket_of(group[1][0]) for _, group in found]
        assert [socket_of(sock) for sock in taken] == inodes
        (renewed,) = listen.bind_udp(Address("127.0.0.1", port))  # one that failed is replaced
        assert socket_of(renewed) == inodes[1]
        for sock in (*taken, renewed):
            sock.close()


def socket_of(sock):
    return os.fstat(sock.fileno()).st_ino


def test_port_0_is_the_port_that_was_found(rehearsed, groups, monkeypatch):
    wanted, port = rehearsed(Address("127.0.0.1", 0))
    found = groups(wanted, 2)
    monkeypatch.setattr(prepared, "mine", Prepared([(one, group[0]) for one, group in found]))
    (sock,) = listen.listen(Address("127.0.0.1", 0), 16)
    assert sock.getsockname()[1] == port
    sock.close()


def test_other_sockets_of_workers_share_a_port(monkeypatch):
    monkeypatch.setattr(prepared, "mine", Prepared([]))
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = Address(*free.getsockname())
    socks = [
        *listen.bind_udp(where),
        *listen.bind_udp(where),
        *listen.listen(where, 1),
        *listen.listen(where, 1),
    ]
    for sock in socks:
        sock.close()


def test_a_server_that_stops_refuses_connections(rehearsed, groups):
    """Although its parent and others have the socket, too."""
    wanted, port = rehearsed(Address("127.0.0.1", 0))
    found = groups(wanted, 1)
    socket.create_connection(("127.0.0.1", port)).close()
    Prepared([(one, group[0]) for one, group in found]).stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
