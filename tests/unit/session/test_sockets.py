"""A socket as a stream: what the contract of transports does not ask of it."""

import errno
import sys

import gevent
import pytest
from gevent import socket

from lane.errors import Closed, Reset
from lane.session.sockets import BULK, ROOM, SocketStream
from lane.testing.harness import outcome


@pytest.fixture
def pair():
    """Both ends of a TCP connection."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        near = SocketStream(socket.create_connection(server.getsockname()))
        far = SocketStream(server.accept()[0])
        yield near, far
        near.close()
        far.close()


def test_two_readers_are_an_error_of_the_second(pair):
    near, far = pair
    reading = gevent.spawn(near.recv)
    gevent.idle()
    with pytest.raises(Closed, match="two greenlets"):
        near.recv()
    far.sendall(b"for the first")
    assert reading.get() == b"for the first"
    assert not near.broken


def test_an_end_that_can_not_be_told_is_an_error(pair):
    near, far = pair
    far.reset()
    with pytest.raises(Reset):
        near.recv()
    with pytest.raises(Closed):
        near.finish()


def test_other_errors_have_words(pair):
    near, _ = pair
    sock = near._sock

    class TimedOut:
        def recv(self, limit):
            raise TimeoutError(errno.ETIMEDOUT, "whatever")

    near._sock = TimedOut()
    with pytest.raises(Closed, match="Connection timed out"):
        near.recv()
    assert near.broken
    near._sock = sock


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels make no room for what is waited for")
def test_a_bulk_transfer_has_room_for_what_it_reads_in_its_turn(pair):
    """The kernel's own tuning may leave it with a fifth of what the others have."""
    near, far = pair

    def room(limit):
        far.sendall(b"!")
        assert near.recv(limit) == b"!"
        assert near._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
        return near._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    assert room(BULK - 1) < ROOM <= room(BULK)


def test_a_lost_peer_is_noticed_without_reading(pair):
    near, far = pair
    assert not near.lost()
    far.sendall(b"data")
    assert not near.lost()
    assert near.recv() == b"data"
    far.reset()
    assert near.lost()
    with pytest.raises(Reset):
        near.recv()


def test_a_second_sendall_after_a_deadline_is_refused(pair):
    near, _ = pair
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.1):
        near.sendall(bytes(100 << 20))
    with pytest.raises(Closed, match="not completed"):
        near.sendall(b"more")


def waiting(stream):
    """A greenlet that waits for data."""
    reading = gevent.spawn(outcome, stream.recv)
    gevent.idle()
    return reading


def test_what_was_released_is_not_read_any_more(pair):
    near, far = pair
    reading = waiting(near)
    far.sendall(b"too late")
    near.reset()  # its descriptor closes once the reader is gone
    with pytest.raises(Closed, match="reset here"):
        near.recv()
    assert isinstance(reading.get(), Closed)


def test_a_close_after_a_reset_makes_it_no_clean_end(pair):
    near, far = pair
    reading = waiting(near)
    near.reset()
    near.close()
    with pytest.raises(Reset):
        far.recv()
    assert isinstance(reading.get(), Closed)


def test_bytes_that_come_in_small_pieces_are_all_read(pair):
    near, far = pair
    for piece in (b"one", b"two", bytes(9000), b"three"):
        far.sendall(piece)
        got = b""
        while len(got) < len(piece):
            got += near.recv(7 if len(piece) < 10 else 4096)
        assert got == piece
    far.finish()
    assert near.recv() == b""
