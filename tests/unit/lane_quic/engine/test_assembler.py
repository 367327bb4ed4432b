"""The receiving half of a stream beside aioquic's: the same bytes come out, at a bounded cost."""

import sys

import pytest
from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicStreamFrame
from aioquic.quic.stream import FinalSizeError, QuicStreamReceiver
from hypothesis import given
from hypothesis import strategies as st
from lane_quic.engine.assembler import PIECES, SMALL, Assembler

from lane.testing.harness import pattern

DATA = pattern(3000, 1)


def frame(start, stop, fin=False):
    return QuicStreamFrame(offset=start, data=DATA[start:stop], fin=fin)


def take(receiver, step):
    """What a step brings: an event's data, whether it ends, or an error."""
    try:
        if step[0] == "reset":
            event = receiver.handle_reset(final_size=step[1], error_code=7)
            return event and ("reset", event.error_code)
        start, size, fin = step[1:]
        event = receiver.handle_frame(frame(start, start + size, fin))
        return event and (event.data, event.end_stream)
    except FinalSizeError:
        return "final size"


STEP = st.one_of(
    *(st.tuples(st.just("frame"), st.integers(0, 60), st.integers(0, 30), st.just(False)) for _ in range(6)),
    st.tuples(st.just("frame"), st.integers(0, 90), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("reset"), st.integers(0, 120)),
)


@given(st.lists(STEP, max_size=40))
def test_whatever_comes_is_taken_as_aioquic_does(steps):
    ours, theirs = Assembler(0), QuicStreamReceiver(0, readable=True)
    for step in steps:
        assert take(ours, step) == take(theirs, step)
        for name in ("highest_offset", "is_finished", "_final_size", "_buffer_start"):
            assert getattr(ours, name) == getattr(theirs, name)
        held = sum(len(piece) for _, piece in ours.held)
        assert held == ours._held
        if ours.is_finished:
            assert held == 0
        else:
            assert held == sum(r.stop - r.start for r in theirs._ranges)


@given(st.permutations(range(12)), st.integers(1, 250))
def test_every_order_gives_the_stream(order, size):
    receiver, found, ends = Assembler(0), b"", 0
    for index in order:
        event = receiver.handle_frame(frame(index * size, (index + 1) * size, fin=index == 11))
        found += event.data if event else b""
        ends += bool(event and event.end_stream)
    assert found == DATA[: 12 * size]
    assert ends == 1
    assert receiver.held == []


def test_a_byte_far_ahead_costs_a_byte():
    receiver = Assembler(0)
    receiver.handle_frame(QuicStreamFrame(offset=1 << 40, data=b"x"))
    assert sum(sys.getsizeof(piece) for _, piece in receiver.held) < 100


def test_small_pieces_with_gaps_between_them_are_bounded():
    receiver = Assembler(0)
    with pytest.raises(QuicConnectionError, match="too many gaps"):
        for index in range(PIECES * 2):
            receiver.handle_frame(QuicStreamFrame(offset=1 + 2 * index, data=b"x"))
    assert len(receiver.held) <= PIECES + 3


def test_small_pieces_in_a_row_behind_one_gap_are_joined():
    receiver = Assembler(0)
    for start in range(1, 3000):
        receiver.handle_frame(frame(start, start + 1))
    assert len(receiver.held) <= 3000 // SMALL + 1
    assert receiver.handle_frame(frame(0, 1)).data == DATA


def test_packets_behind_a_loss_in_a_long_fat_line_are_no_attack():
    receiver, packet = Assembler(0), bytes(1400)
    for index in range(1, 20_000):
        if index % 10:
            receiver.handle_frame(QuicStreamFrame(offset=index * 1400, data=packet))
    assert len(receiver.handle_frame(QuicStreamFrame(offset=0, data=packet)).data) == 10 * 1400


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 40)), max_size=600), st.integers(0, 200))
def test_what_it_bears_can_not_fail(pieces, before):
    """It holds nearly as many pieces as it may, before more come anywhere between them."""
    receiver = Assembler(0)
    for number in range(PIECES - before):
        receiver.take(1 + 20 * number, b"x")
    for start, size in pieces:
        if receiver.bears(start, start + size):
            receiver.take(start, bytes(size))
    start = 20_000
    while receiver.bears(start, start + 1):
        receiver.take(start, b"x")
        start += 2
    with pytest.raises(QuicConnectionError):
        receiver.take(start, b"x")
