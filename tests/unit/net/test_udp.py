"""A UDP port goes on whatever the kernel reports, until it is closed: by its owner, or by a mistake."""

import errno
import os

import gevent
import pytest
from gevent import socket

from lane.errors import Closed
from lane.net import udp
from lane.net.udp import UdpSocket
from lane.testing.harness import outcome

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

    def recvfrom_into(self, buffer):
        if self.errors:
            raise self.errors.pop()
        return self._sock.recvfrom_into(buffer)


def test_what_the_kernel_reports_is_no_end(port, monkeypatch):
    monkeypatch.setattr(udp, "BACK_OFF", 0.001)
    port._sock = Failing(port._sock, [OSError(number, os.strerror(number)) for number in REASONS])
    assert port.send(b"to itself", ("127.0.0.1", port.port))
    packet, where = port.recv()
    assert bytes(packet) == b"to itself"
    assert where == ("127.0.0.1", port.port)
    assert not port._sock.errors


@pytest.mark.parametrize("whose", ["its owner's", "nobody's"])
def test_a_socket_that_is_closed_ends_who_receives(port, whose):
    if whose == "its owner's":
        receiving = gevent.spawn(outcome, port.recv)
        gevent.sleep(0)
        port.close()
        assert isinstance(receiving.get(), Closed)
    else:
        port._sock.close()
    assert isinstance(outcome(port.recv), Closed)
