"""A UDP port goes on whatever the kernel reports, until it is closed: by its owner, or by a mistake."""

import errno
import os

import gevent
import pytest
from gevent import socket

from lane.fair import pass_turn
from lane.net import udp
from lane.net.udp import UdpSocket
from lane.testing.harness import until

REASONS = [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENOBUFS, errno.ENOMEM]


@pytest.fixture(autouse=True)
def _watchdog():
    with gevent.Timeout(30, AssertionError("the test hangs")):
        yield


@pytest.fixture
def port():
    port = UdpSocket.open(socket.AF_INET, "127.0.0.1")
    yield port
    port.close()


class Failing:
    """A socket that fails to receive with `errors`, one after the other."""

    def __init__(self, sock, errors):
        self._sock, self.errors = sock, errors

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def recvfrom(self, size):
        if self.errors:
            raise self.errors.pop()
        return self._sock.recvfrom(size)


def test_what_the_kernel_reports_is_no_end(port, monkeypatch):
    monkeypatch.setattr(udp, "BACK_OFF", 0.001)
    port._sock = Failing(port._sock, [OSError(number, os.strerror(number)) for number in REASONS])
    got = []
    port.receive("a port", lambda *packet: got.append(packet))
    assert port.send(b"to itself", ("127.0.0.1", port.port))
    until(lambda: got == [(b"to itself", ("127.0.0.1", port.port))])
    assert not port._sock.errors


@pytest.mark.parametrize("how", ["paused", "closed in the middle"])
def test_who_wants_no_more_gets_no_more(port, how):
    got = []

    def take(packet, where):
        got.append(packet)
        port.pause() if how == "paused" else port.close()

    for number in range(3):
        port.send(b"%d" % number, ("127.0.0.1", port.port))
    port.receive("a port", take)
    until(lambda: got)
    gevent.idle()
    assert got == [b"0"]
    if how == "paused":
        port.receive("a port", lambda packet, where: got.append(packet))
        until(lambda: got == [b"0", b"1", b"2"])


def test_a_socket_that_was_closed_by_mistake_is_left_alone(port):
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    port.receive("a port", lambda packet, where: None)
    port._sock.close()
    port._failed(OSError(errno.EBADF, "closed"))
    assert not port._readable.active
    other.close()


def test_a_flood_leaves_others_their_turn(port, monkeypatch):
    """It is handed on a few packets at a time, but not one by one, however long the turns are."""
    monkeypatch.setattr(udp, "BRISK", -1.0)
    taken, turns = [], []
    port.receive("a port", lambda packet, where: taken.append(packet))
    for _ in range(100):
        port.send(b"x", ("127.0.0.1", port.port))
    while len(taken) < 100:
        before = len(taken)
        gevent.sleep(0)
        pass_turn()
        turns.append(len(taken) - before)
    assert max(turns) <= 2 * udp.TURN
    assert len(turns) <= 100 / udp.TURN + udp.ALONE + 1
