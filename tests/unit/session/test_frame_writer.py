"""What goes over a stream, and what does not any more."""

import pytest

from lane.budget import Budget
from lane.errors import ProtocolError
from lane.proto.frames import Ack, Data, End, Fin, FrameReader, Ping, Pong, Received, ResetFrame, Stats
from lane.session.frame_writer import END_DUE, PIECE, PING_DUE, PONG_DUE, RESET_DUE, STATS_DUE, FrameWriter
from lane.session.liveness import Liveness
from lane.session.receive_window import ReceiveWindow
from lane.session.send_buffer import SendBuffer
from lane.stream import LinkStats

SIZE = 1 << 20
NOW = 100.0


class Ends:
    """A writer, and what it writes."""

    def __init__(self, sent=b""):
        budget = Budget(64 * SIZE)
        self.window, self.buffer = ReceiveWindow(SIZE, budget), SendBuffer(SIZE, budget, SIZE)
        self.liveness = Liveness(NOW)
        self.writer = FrameWriter(self.window, self.buffer, self.liveness)
        self.writer.attach(b"", resumed=False, announce=False)
        if sent:
            self.buffer.send(sent)
        self.chunks = []

    def write(self, **how):
        """All that is to be written: the frames."""
        reader, found = FrameReader(), []
        while chunk := self.writer.next(NOW, **how):
            self.chunks.append(chunk)
            for part in chunk:
                found += reader.feed(bytes(part))
        return found


def data_of(frames):
    return [(frame.offset, bytes(frame.data)) for frame in frames if isinstance(frame, Data)]


def resumed(arrived):
    """A writer of 100 bytes that were sent, of which the peer has the first ones, on a new stream."""
    ends = Ends(bytes(range(100)))
    ends.writer.attach(b"", resumed=True, announce=False)
    ends.writer.resume(arrived)
    return ends


def test_a_stream_gets_what_the_peer_has_not():
    assert data_of(resumed(arrived=40).write()) == [(40, bytes(range(40, 100)))]


def test_a_session_that_ends_meanwhile_sends_nothing_again():
    """It was reset between RECEIVED and the turn of who writes: there is nothing to write any more."""
    ends = resumed(arrived=40)
    ends.buffer.release()
    assert data_of(ends.write()) == []


def test_no_data_go_before_the_peer_has_said_from_where():
    ends = Ends(b"data")
    ends.writer.attach(b"", resumed=True, announce=True)
    assert ends.write() == [Received(0), Ack(0, ends.window.window)]
    ends.writer.resume(0)
    assert data_of(ends.write()) == [(0, b"data")]
    with pytest.raises(ProtocolError, match="not due"):
        ends.writer.resume(0)


def test_control_frames_go_in_front_of_data_and_an_ack_with_them_if_it_tells_anything():
    ends = Ends(b"data")
    ends.writer.pong = 7
    ends.writer.due |= PONG_DUE | PING_DUE | STATS_DUE
    ends.liveness.measured(LinkStats(rtt=0.05, sent=10, lost=1), NOW)
    ends.writer.send_blocked_seconds = 2.0
    frames = ends.write()
    assert frames == [Pong(7), Ping(int(NOW * 1e6)), Stats(50_000, 10, 1, 2_000_000), Data(0, b"data")]
    assert len(ends.chunks) == 1, "one write for all of them"
    ends.window.hold(ends.window.receive(0, b"abc", NOW, 0.1))
    ends.window.take(3)
    ends.window.consume()
    assert ends.write() == [], "an ACK is not due"
    ends.buffer.send(b"more")
    assert ends.write() == [Ack(3, ends.window.window), Data(4, b"more")]


def test_nothing_but_control_frames_where_only_they_are_wanted():
    ends = Ends(b"data")
    ends.writer.pong = 7
    ends.writer.due |= PONG_DUE
    assert ends.write(control_only=True) == [Pong(7)]
    assert data_of(ends.write()) == [(0, b"data")]


def test_data_go_in_pieces_and_their_end_behind_them():
    ends = Ends(bytes(PIECE + 5))
    ends.buffer.finish()
    frames = ends.write()
    assert [len(frame.data) for frame in frames[:-1] if isinstance(frame, Data)] == [PIECE, 5]
    assert frames[-1] == Fin(PIECE + 5)
    assert ends.write() == [], "once"


@pytest.mark.parametrize(("code", "frame"), [(7, ResetFrame(7)), (None, End())])
def test_nothing_follows_the_last_words(code, frame):
    ends = Ends()
    ends.buffer.finish()
    ends.write()
    ends.buffer.acknowledge(1, SIZE)
    ends.writer.reset_code = code or 0
    ends.writer.due |= END_DUE if code is None else RESET_DUE
    assert ends.write()[-1] == frame
    ends.writer.pong = 7
    ends.writer.due |= PONG_DUE
    assert ends.write() == []


def test_what_begins_a_stream_goes_before_all_frames_even_before_a_reset():
    ends = Ends()
    ends.writer.attach(b"REPLY", resumed=False, announce=False)
    ends.writer.reset_code = 7
    ends.writer.due |= RESET_DUE
    assert bytes(ends.writer.next(NOW)[0]).startswith(b"REPLY")


@pytest.mark.parametrize(
    "wrong", [LinkStats(rtt=float("nan")), LinkStats(sent=None), LinkStats(rtt=float("inf"))]
)
def test_what_a_foreign_transport_counts_wrong_is_told_as_nothing(wrong):
    ends = Ends()
    ends.writer.due |= STATS_DUE
    ends.liveness.measured(wrong, NOW)
    assert ends.write() == [Stats(0, 0, 0, 0)]
