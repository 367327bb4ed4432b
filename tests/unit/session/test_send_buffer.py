"""What a sender retains: no more than it may, and to be sent again."""

import pytest

from lane.budget import Budget
from lane.errors import ProtocolError
from lane.session.receive_window import INITIAL_WINDOW
from lane.session.send_buffer import SendBuffer


def test_a_sender_retains_no_more_than_it_may_and_says_what_holds_it_back():
    least, most, credit = INITIAL_WINDOW, INITIAL_WINDOW + 40_000, INITIAL_WINDOW + 20_000
    poor, rich = SendBuffer(most, Budget(0), credit), SendBuffer(most, Budget(1 << 30), credit)
    assert (poor.allowance(1 << 30), rich.allowance(1 << 30)) == (least, credit)
    poor.send(bytes(least))
    rich.send(bytes(credit))
    assert (poor.allowance(1), poor.held_back, rich.allowance(1), rich.held_back) == (0, True, 0, False)
    poor.acknowledge(1000, least)
    assert poor.allowance(9999) == 1000
    rich.acknowledge(0, 2 * most)
    assert rich._budget.used, "for what it retains"
    assert rich.allowance(1 << 30) == most - credit, "the buffer size"
    rich.acknowledge(credit, 0)
    assert (rich._budget.used, rich.retained) == (0, 0)


def test_what_is_retained_can_be_sent_again_from_any_offset():
    outbox = SendBuffer(1 << 20, Budget(1 << 30), 1 << 20)
    data = bytes(range(256)) * 40
    for start, end in ((0, 5000), (5000, 5001), (5001, 5010), (5010, len(data))):  # some are joined
        outbox.send(data[start:end])
    outbox.acknowledge(100, 1 << 20)
    for offset in (100, 4999, 5000, 5005, 5010, len(data) - 1):
        pieces, at = [], offset
        while at < len(data):
            piece = outbox.again(at, 3000)
            assert 1 <= len(piece) <= 3000
            pieces.append(bytes(piece))
            at += len(piece)
        assert b"".join(pieces) == data[offset:]
    outbox.finish()
    outbox.resume(len(data) + 1)  # FIN included
    outbox.resume(50)  # it has acknowledged more since it said that
    with pytest.raises(ProtocolError):
        outbox.resume(len(data) + 2)
    with pytest.raises(IndexError):
        outbox.again(len(data), 1)


def test_what_is_sent_again_does_not_change():
    outbox = SendBuffer(1 << 20, Budget(1 << 30), 1 << 20)
    outbox.send(b"abc")
    again = outbox.again(0, 10)
    outbox.send(b"def")
    assert bytes(again) == b"abc"
    assert bytes(outbox.again(0, 10)) == b"abcdef"
