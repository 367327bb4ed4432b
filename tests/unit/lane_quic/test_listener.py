"""Packets that the kernel gave to the wrong worker of a server."""

import socket

import pytest
from lane_quic import listener
from lane_quic.listener import QuicListener

from lane import state
from lane.address import Address
from lane.net.siblings import Siblings, pair
from lane.testing.harness import until

OTHERS, OWN, UNKNOWN = b"\x01bcdefgh", b"\x02bcdefgh", b"\x03bcdefgh"
"""Connection IDs of the second worker, of the first one, and one of the second that nobody knows."""


class Carrier:
    """Notes what it is given."""

    def __init__(self):
        self.received = []
        self.acted = 0

    def receive(self, datagrams, path, now):
        self.received += [(datagram, path) for datagram in datagrams]

    def act(self):
        self.acted += 1


@pytest.fixture
def two(monkeypatch, tmp_path):
    """The listeners of two workers, on two ports here."""
    identity = state.keep(tmp_path / "state").identity
    inboxes = [pair(), pair()]
    siblings = [Siblings(number, 2, inboxes) for number in range(2)]
    made = []
    for one in siblings:
        monkeypatch.setattr(listener, "here", lambda one=one: one)
        made.append(QuicListener(Address("127.0.0.1", 0), identity))
    siblings[1].receive(made[0]._topic, made[1]._receive_stray)
    monkeypatch.setattr(listener, "here", lambda: siblings[0])
    yield made
    for one in made:
        one.close()
    for one in siblings:
        one._reading.kill()
    for end in (*inboxes[0], *inboxes[1]):
        end.close()


def packet(cid):
    return b"\x40" + cid + bytes(100)


def test_a_packet_of_another_worker_is_handed_over(two):
    first, second = two
    mine, other = Carrier(), Carrier()
    first._by_cid[OWN], second._by_cid[OTHERS] = mine, other
    path = (("127.0.0.1", 9), ((0, 8, b"\0\1\xff"),))
    send = first._addresses[0].send
    assert first._receive(send, [packet(OTHERS), packet(OWN)], path, 0.0) == [mine]  # the kernel joined them
    until(lambda: other.acted)
    assert other.received == [(packet(OTHERS), path)]
    assert mine.received == [(packet(OWN), path)]


def test_the_owner_tells_the_peer_that_there_is_no_such_connection(two):
    first, _ = two
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)
        path = (peer.getsockname(), ())
        send = first._addresses[0].send
        assert first._receive(send, [packet(UNKNOWN)], path, 0.0) == []

        def answer():
            try:
                return peer.recv(100)
            except BlockingIOError:
                return b""

        said = until(answer)
        assert said[-16:] == first._stateless.reset(packet(UNKNOWN))[-16:]  # they have one key
