"""What goes over a stream, and what does not any more."""

import pytest

from lane.budget import Budget
from lane.proto.frames import Data, FrameReader
from lane.session import writer as writer_module
from lane.session.liveness import Liveness
from lane.session.window import Inbox, Outbox
from lane.session.writer import Writer

SIZE = 1 << 20


class Kept:
    """A stream that keeps what is sent."""

    def __init__(self):
        self.data = b""

    def sendall(self, data):
        self.data += bytes(data)

    def frames(self):
        return list(FrameReader().feed(self.data))


@pytest.fixture
def tasks(monkeypatch):
    """What was begun beside the caller, for a test to run when it likes."""
    begun = []
    monkeypatch.setattr(writer_module, "start", begun.append)
    return begun


def resumed(arrived):
    """A writer of 100 bytes that were sent, of which the peer has the first ones, on a new stream."""
    budget = Budget(64 * SIZE)
    outbox = Outbox(SIZE, budget, SIZE)
    writer = Writer(Inbox(SIZE, budget), outbox, Liveness(), lambda stream, error: None)
    outbox.send(bytes(range(100)))
    stream = Kept()
    writer.attach(stream, b"", resumed=True, announce=False)
    writer.resume(arrived)
    return outbox, stream


def test_a_stream_gets_what_the_peer_has_not(tasks):
    _, stream = resumed(arrived=40)
    for task in tasks:
        task()
    assert [(frame.offset, bytes(frame.data)) for frame in stream.frames() if isinstance(frame, Data)] == [
        (40, bytes(range(40, 100)))
    ]


def test_a_session_that_ends_meanwhile_sends_nothing_again(tasks):
    """It was reset between RECEIVED and the turn of who writes: there is nothing to write any more."""
    outbox, stream = resumed(arrived=40)
    outbox.release()
    for task in tasks:
        task()
    assert not [frame for frame in stream.frames() if isinstance(frame, Data)]
