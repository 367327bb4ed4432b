"""The server's answers to the PINGs of a probe."""

import gevent
import pytest

from lane.errors import ProtocolError
from lane.proto.frames import Ping, Pong, pack
from lane.server.probe import answer_pings
from lane.testing.harness import until


class Stream:
    """Brings `pings` in one piece, and takes all that is said."""

    def __init__(self, *pings):
        self.come = [b"".join(map(pack, pings)), b""]
        self.said = []
        self.closed = False

    def recv(self):
        return self.come.pop(0)

    def sendall(self, data):
        self.said.append(data)

    def close(self):
        self.closed = True


def test_each_ping_is_answered_until_the_end():
    stream = Stream(Ping(1), Ping(2))
    answer_pings(stream, pack(Ping(0)))
    assert stream.said == [pack(Pong(value)) for value in range(3)]
    assert stream.closed


def test_a_flood_of_pings_keeps_nobody_waiting():
    stream = Stream(*map(Ping, range(50_000)))
    answering = gevent.spawn(answer_pings, stream, b"")
    until(lambda: stream.said)
    assert len(stream.said) < 50_000
    answering.get()
    assert len(stream.said) == 50_000


def test_nothing_else_is_answered():
    with pytest.raises(ProtocolError):
        answer_pings(Stream(), pack(Pong(1)))
