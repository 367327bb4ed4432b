"""What the tests of the QUIC driver stand on: a relay that harms datagrams, first flights, and a fence."""

import os

import gevent
from aioquic.buffer import Buffer
from aioquic.quic.packet import pull_quic_header
from gevent import socket
from lane_quic.configuration import client_configuration
from lane_quic.engine import Engine

from lane.testing.harness import pattern, read_all, send_all

ODD_VERSION = b"\x1a\x2a\x3a\x4a"


def udp(address="127.0.0.1"):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    return sock


class Relay:
    """Stands between a client and a server. `harm(datagram, up)` gives what is passed on of a datagram."""

    def __init__(self, target):
        self.target = tuple(target)
        self.harm = lambda datagram, up: [datagram]
        self._front, self._client = udp(), None
        self.port = self._front.getsockname()[1]
        self._jobs, self._backs = [gevent.spawn(self._up)], []
        self.rebind()

    def rebind(self):
        """Have the server see the client at another port from now on."""
        self._backs.append(udp())
        self._jobs.append(gevent.spawn(self._down, self._backs[-1]))

    def _up(self):
        while True:
            data, self._client = self._front.recvfrom(65536)
            for passed in self.harm(data, True):
                self._backs[-1].sendto(passed, self.target)

    def _down(self, back):
        while True:
            data = back.recv(65536)
            if back is self._backs[-1]:
                for passed in self.harm(data, False):
                    self._front.sendto(passed, self._client)

    def close(self):
        gevent.killall(self._jobs)
        for sock in (self._front, *self._backs):
            sock.close()


def first_flight(size=1200):
    """The first datagram of a new client. A `size` under 1200 is what no client may send."""
    engine = Engine(client_configuration("server.test"))
    engine._max_datagram_size = size
    engine.connect("server", now=0.0)
    return engine.datagrams_to_send(now=0.0)[0][0]


def odd_version(size=1200):
    """The first datagram of a client of another version: the answer is immediate and without state."""
    start = b"\xc0" + ODD_VERSION + b"\x08clientID" + b"\x04from"
    return start + b"\x00\x44\x00" + bytes(size - len(start) - 3)


def answers(sock, target):
    """What `target` sent back to `sock` so far: all that comes before the answer to one more question."""
    sock.sendto(odd_version(), tuple(target))
    found = []
    while not _is_negotiation(data := sock.recv(65536)):
        found.append(data)
    return found


def _is_negotiation(data):
    return data[0] & 0x80 and pull_quic_header(Buffer(data=data), host_cid_length=8).supported_versions


def exchange(near, far, size=100_000):
    """Carry `size` bytes there, and others back, over a new stream."""
    up, down = pattern(size, 1), pattern(size, 2)
    stream = near.open()
    sending = gevent.spawn(send_all, stream, up)
    other = far.accept()
    assert read_all(other) == up
    back = gevent.spawn(send_all, other, down)
    assert read_all(stream) == down
    gevent.joinall([sending, back], raise_error=True)


def descriptors():
    return len(os.listdir("/proc/self/fd"))
