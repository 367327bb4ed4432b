"""What the kernel is asked to do with connections, and what it says about them."""

import socket

import gevent
import pytest
from lane_tls import tcp
from lane_tls.plugin import TLSTransport

from lane.errors import UsageError
from tests.support.tls_peer import CLIENT, IDENTITY, LOOPBACK


@pytest.fixture
def ends():
    transport = TLSTransport()
    listener = transport.listen(LOOPBACK, IDENTITY)
    with gevent.Timeout(30, AssertionError("the test hangs")):
        near = transport.dial(listener.address, CLIENT)
        far = listener.accept()
        yield near, far
        near.close()
        far.close()
    listener.close()


@pytest.mark.parametrize("side", [0, 1], ids=["dialled", "accepted"])
def test_both_ends_have_all_options(ends, side):
    sock = ends[side]._stream.sock
    for level, option, value in tcp._OPTIONS:
        assert sock.getsockopt(level, option) == value, option


def test_auto_is_bbr_where_the_kernel_lets_us():
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")
        except OSError:
            assert tcp.choose("auto") is None
        else:
            assert tcp.choose("auto") == b"bbr"


def test_a_kernel_without_bbr_keeps_what_it_has(monkeypatch):
    monkeypatch.setattr(socket.socket, "setsockopt", refuse)
    assert tcp.choose("auto") is None
    with pytest.raises(UsageError, match=r"bbr cannot be used here \(what can: .*cubic"):
        tcp.choose("bbr")


def refuse(*_):
    raise FileNotFoundError(2, "No such file or directory")


def test_a_name_that_is_none():
    with pytest.raises(UsageError, match="--tcp-congestion: nonsense cannot be used here"):
        tcp.choose("nonsense")
    with pytest.raises(UsageError):
        tcp.choose("x" * 1000)


def test_the_figures_of_the_kernel(ends):
    near, far = ends
    far.accept().sendall(bytes(100_000))
    stream, size = near.open(), 0
    while size < 100_000:
        size += len(stream.recv())
    stats = far.stats()
    assert 0 < stats.rtt < 10
    assert stats.delivered >= 100_000 or stats.in_flight
    assert stats.rate is None or stats.rate > 0
    assert stats.loss is None or 0 <= stats.loss <= 1
