"""A stream's sender against a model of the path: its frames are lost, come twice and late, and are told
lost and acknowledged in any order and again and again, while ends are repeated. Whatever happens, the
receiver gets the bytes that were written, nothing it is known to have goes again, and the sender ends."""

from types import SimpleNamespace

import pytest
from aioquic.buffer import size_uint_var
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import QuicStreamReceiver
from hypothesis import given
from hypothesis import strategies as st
from lane_quic.engine.sender import Sender

ACKED, LOST = QuicDeliveryState.ACKED, QuicDeliveryState.LOST
ALL = 10**6
BYTES = bytes(n % 251 for n in range(3000))


class Path:
    """A sender, a receiver, and every frame that was ever between them."""

    def __init__(self):
        self.end_known = False
        self.sender = Sender(0, lambda: None)
        self.receiver = QuicStreamReceiver(stream_id=0, readable=True)
        self.frames, self.known = [], set()  # bytes that the sender knows to have arrived
        self.written, self.finished, self.got, self.ends = 0, False, b"", 0

    def write(self, size, end=False):
        if not self.finished:
            self.sender.write(BYTES[self.written : self.written + size], end)
            self.written += size
            self.finished = end

    def send(self, most=ALL):
        """Like aioquic: the sender is asked only if it says that it has something. A frame, or None."""
        frame = None if self.sender.buffer_is_empty else self.sender.get_frame(most)
        if frame is None:
            return None
        start, stop = frame.offset, frame.offset + len(frame.data)
        assert frame.data == BYTES[start:stop]
        assert stop <= self.written
        assert not self.known & set(range(start, stop)), "the peer was known to have that"
        assert frame.fin == (self.finished and stop == self.written)
        assert stop > start or not self.end_known, "the peer was known to have the end"
        self.frames.append(SimpleNamespace(frame=frame, start=start, stop=stop, fin=frame.fin, losses=0))
        return self.frames[-1]

    def arrive(self, sent):
        event = self.receiver.handle_frame(frame=type(sent.frame)(**vars(sent.frame)))
        if event is not None:
            self.got += event.data
            self.ends += event.end_stream

    def acked(self, sent):
        self.arrive(sent)
        self.known |= set(range(sent.start, sent.stop))
        self.end_known |= sent.fin
        self.sender.on_data_delivery(ACKED, sent.start, sent.stop, sent.fin)

    def lost(self, sent):
        sent.losses += 1
        self.sender.on_data_delivery(LOST, sent.start, sent.stop, sent.fin)

    def pending(self):
        return {n for r in self.sender._pending for n in r}


@pytest.fixture
def path():
    return Path()


STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 120)),
    st.tuples(st.just("send"), st.integers(-1, 90)),
    st.tuples(st.just("send"), st.just(ALL)),
    st.tuples(st.sampled_from(["arrive", "acked", "lost", "acked", "lost"]), st.integers(0, 11)),
    st.tuples(st.just("repeat"), st.integers(1, 150)),
    st.tuples(st.just("end"), st.integers(0, 20)),
)


def take(path, kind, number):
    match kind:
        case "write":
            path.write(number)
        case "end":
            path.write(number, end=True)
        case "send":
            path.send(number)
        case "repeat":
            before = path.pending()
            size = path.sender.repeat(number)
            new = path.pending() - before
            assert len(new) <= size <= number, "some of it may have waited already"
            return new
        case _ if path.frames:  # one of the latest
            getattr(path, kind)(path.frames[-1 - number % len(path.frames)])
    return set()


def audit(path):
    sender, sent = path.sender, max((frame.stop for frame in path.frames), default=0)
    assert sender.unsent == path.written - sent
    assert not path.pending() & path.known
    assert path.got == BYTES[: len(path.got)]
    assert sender.drained == (not path.finished or sender.is_finished)


@given(st.lists(STEP, min_size=15, max_size=80))
def test_the_receiver_gets_what_was_written_whatever_is_told_of_the_frames(steps):
    path, repeated = Path(), set()
    for kind, number in steps:
        again = take(path, kind, number)
        assert not again & repeated, "repeated twice"
        repeated |= again
        audit(path)
    for offset in range(path.written):  # no byte travels without a reason
        carried = [frame for frame in path.frames if frame.start <= offset < frame.stop]
        assert len(carried) <= 1 + sum(frame.losses for frame in carried) + (offset in repeated)
    path.write(7, end=True)
    open_frames = list(path.frames)
    while frame := path.send():
        open_frames.append(frame)
    for frame in open_frames:  # every packet is lost or acknowledged in the end
        path.lost(frame) if frame.start % 2 else path.acked(frame)
    for _ in range(len(path.frames) + 3):
        if frame := path.send():
            path.acked(frame)
    audit(path)
    assert path.got == BYTES[: path.written]
    assert (path.ends, path.receiver.is_finished) == (1, True)
    assert (path.sender.is_finished, path.sender.drained, path.sender.unsent) == (True, True, 0)
    assert (path.sender._buffer, path.pending(), path.send()) == (b"", set(), None)
    for frame in path.frames:
        path.lost(frame)
        path.acked(frame)
    assert (path.send(), path.sender.is_finished) == (None, True)


@given(st.lists(STEP, min_size=5, max_size=40), st.lists(STEP, max_size=20))
def test_a_reset_ends_it_when_it_is_acknowledged_and_nothing_else_goes(before, after):
    path = Path()
    path.write(200)
    for kind, number in before:
        take(path, kind, number)
    if path.sender.is_finished:
        return
    path.sender.reset(7)
    sender, count = path.sender, len(path.frames)
    path.finished = True  # nothing more can be written
    for kind, number in after:
        assert take(path, kind, number) == set()
        assert (sender.unsent, sender.has_fresh_tail, sender.is_finished) == (0, False, False)
        assert (sender.reset_pending, sender.buffer_is_empty, len(path.frames)) == (True, True, count)
    reset = sender.get_reset_frame()
    assert (reset.error_code, reset.final_size) == (7, max((frame.stop for frame in path.frames), default=0))
    sender.on_reset_delivery(LOST)
    assert sender.reset_pending
    sender.on_reset_delivery(ACKED)
    assert (sender.is_finished, sender.drained) == (True, True)
    sender.on_reset_delivery(LOST)
    assert sender.is_finished


def test_what_came_although_it_was_called_lost_does_not_go_again(path):
    path.write(300)
    first, second, third = (path.send(100) for _ in range(3))
    path.lost(first)
    path.lost(second)
    path.acked(third)
    path.acked(first)
    again = path.send()
    assert (again.start, again.stop) == (100, 200)
    path.lost(again)
    path.acked(second)
    assert path.send() is None
    assert path.got == BYTES[:300]


def test_of_what_is_lost_only_what_the_peer_lacks_goes_again(path):
    path.write(100)
    whole = path.send()
    path.lost(whole)
    pieces = [path.send(20) for _ in range(5)]
    path.acked(pieces[1])
    path.acked(pieces[3])
    path.lost(whole)
    again = [path.send() for _ in range(3)]
    assert [(frame.start, frame.stop) for frame in again] == [(0, 20), (40, 60), (80, 100)]
    assert path.send() is None


def test_a_tail_is_fresh_once_all_was_sent_and_until_it_was_repeated(path):
    sender = path.sender
    assert not sender.has_fresh_tail
    path.write(100)
    path.send(60)
    assert not sender.has_fresh_tail, "more is to be sent"
    path.send()
    assert path.send() is None
    assert sender.has_fresh_tail
    path.lost(path.frames[0])
    assert not sender.has_fresh_tail, "it goes again anyway"
    assert (path.send().start, path.send()) == (0, None)
    assert sender.repeat(30) == 30
    assert not sender.has_fresh_tail
    copy = path.send()
    assert (copy.start, copy.stop) == (70, 100)
    assert not sender.has_fresh_tail, "once is enough"
    assert (sender.repeat(30), path.send()) == (0, None)
    path.write(50, end=True)
    path.send()
    assert sender.has_fresh_tail, "another one"
    assert sender.repeat(ALL) == 50, "and no part of the former"
    assert path.send().fin


def test_a_tail_that_was_acknowledged_is_not_repeated(path):
    path.write(100, end=True)
    first, second = path.send(60), path.send()
    path.acked(first)
    assert path.sender.has_fresh_tail
    path.acked(second)
    assert not path.sender.has_fresh_tail
    assert (path.sender.repeat(ALL), path.send()) == (0, None)


def test_the_end_goes_again_with_the_tail_and_counts_once(path):
    path.write(100, end=True)
    first = path.send()
    path.sender.repeat(ALL)
    copy = path.send()
    assert (copy.start, copy.stop, copy.fin) == (0, 100, True)
    path.lost(first)
    path.acked(copy)
    assert (path.send(), path.ends, path.sender.is_finished) == (None, 1, True)


def test_an_end_without_data_goes_again_until_it_is_known(path):
    path.write(0, end=True)
    first = path.send()
    path.lost(first)
    second = path.send()
    assert (second.start, second.stop, second.fin) == (0, 0, True)
    path.acked(first)
    path.lost(second)
    assert (path.send(), path.sender.is_finished) == (None, True)


def test_only_what_goes_again_counts_as_repeated(path):
    path.write(100)
    path.send(40)
    path.acked(path.send())
    assert path.sender.repeat(ALL) == len(path.pending()) == 40


@given(
    st.sampled_from([1, 0x40, 0x4000, 0x4000_0000]),
    st.integers(0, 1500),
    st.integers(1, 9000) | st.sampled_from([-1, -2, -5]),
    st.booleans(),
    st.integers(20, 1200),
    st.integers(0, 12_000),
    st.integers(1, 12),
)
def test_a_row_of_frames_is_what_single_frames_would_be(bound, before, size, end, room, most, packets):
    """Around `bound`, where offsets take more bytes, and up to flow control, to the end, to what is there.

    A `size` below 0 are so many whole frames. The first frame of a stream, which has no offset, is in no row.
    """
    start = max(1, bound - before)
    size = size if size > 0 else -size * (room - size_uint_var(start))
    ours, theirs = Sender(0, lambda: None), Sender(0, lambda: None)
    for sender in (ours, theirs):
        sender._buffer_start = sender._buffer_stop = sender.highest_offset = start
        sender.write(bytes(n % 251 for n in range(size)), end)
    frames = []
    while len(frames) < packets:
        at = theirs.next_offset
        count = room - size_uint_var(at)
        stop = at + count
        if stop > min(start + size, start + most) or stop == theirs._buffer_fin:
            break
        frames.append((at, theirs.get_frame(count, start + most).data))
        assert len(frames[-1][1]) == count
    found = []
    while len(found) < len(frames):  # a row ends where offsets begin to take more bytes
        at, count, row = ours.take(room, start + most, packets - len(found))
        assert row
        offsets = range(at, at + row * count, count)
        found += [(each, bytes(ours._buffer[each - start : each - start + count])) for each in offsets]
    assert found == frames
    assert len(found) == packets or ours.take(room, start + most, packets - len(found)) is None
    assert ranges(ours) == ranges(theirs)
    assert ours.highest_offset == theirs.highest_offset


def ranges(sender):
    return [(r.start, r.stop) for r in sender._pending]
