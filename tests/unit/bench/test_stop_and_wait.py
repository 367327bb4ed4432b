"""The proxy with 8 KB that lane's story begins with: it must wait, and lose nothing."""

import socket
import struct
import threading
from contextlib import ExitStack, suppress

import pytest
import stop_and_wait
from stop_and_wait import ANSWER, BUFFER, DATA
from tcp import read_exactly


@pytest.fixture
def carried():
    """The far ends of a connection that is carried, and of its tunnel; and the thread that carries it."""
    with ExitStack() as stack:
        pairs = [map(stack.enter_context, socket.socketpair()) for _ in range(2)]
        (near, application), (tunnel, peer) = pairs
        for sock in (application, peer):
            sock.settimeout(10)

        def run():
            with suppress(OSError):  # the test ends before the connection
                stop_and_wait.carry(near, tunnel)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield application, peer, thread
        with suppress(OSError):
            tunnel.shutdown(socket.SHUT_RDWR)
            near.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def frame(peer):
    assert read_exactly(peer, 1) == DATA
    return read_exactly(peer, *struct.unpack("!H", read_exactly(peer, 2)))


def test_it_sends_a_buffer_and_then_nothing_until_the_answer(carried):
    application, peer, _ = carried
    application.sendall(bytes(3 * BUFFER))
    assert len(frame(peer)) == BUFFER
    peer.sendall(DATA + b"\0\1x")  # what it gets meanwhile is passed on, and answered
    assert application.recv(1) == b"x"
    assert read_exactly(peer, 1) == ANSWER
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)
    peer.settimeout(10)
    peer.sendall(ANSWER)
    assert len(frame(peer)) == BUFFER


def test_both_ends_of_data_are_passed_on(carried):
    application, peer, thread = carried
    application.shutdown(socket.SHUT_WR)
    assert frame(peer) == b""
    peer.sendall(DATA + b"\0\0")
    assert application.recv(1) == b""
    assert read_exactly(peer, 1) == ANSWER
    peer.sendall(ANSWER)
    thread.join(10)
    assert not thread.is_alive()
