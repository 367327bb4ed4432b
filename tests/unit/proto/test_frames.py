"""Frames: what pack gives and what a reader makes of it, piece by piece."""

import pytest

from lane.errors import ProtocolError
from lane.proto.frames import (
    MAX_FRAME,
    MAX_PAYLOAD,
    Ack,
    Data,
    End,
    Fin,
    FrameReader,
    Ping,
    Pong,
    ResetFrame,
    data_head,
    pack,
)

SMALL = [Ack(70000, 262144), Fin(12), ResetFrame(2**32 - 1), Ping(2**64 - 1), Pong(0), End()]


@pytest.mark.parametrize("frame", SMALL, ids=lambda frame: type(frame).__name__)
def test_a_small_frame_comes_whole_or_not_at_all(frame):
    data = pack(frame)
    reader = FrameReader()
    for byte in data[:-1]:
        assert reader.feed(bytes((byte,))) == []
        assert not reader.between_frames
    assert reader.feed(data[-1:]) == [frame]
    assert reader.between_frames


def test_many_frames_at_once():
    assert FrameReader().feed(b"".join(map(pack, SMALL))) == SMALL


def test_data_is_handed_out_as_it_comes():
    data = pack(Data(100, b"abcdef"))
    reader = FrameReader()
    assert reader.feed(data[:11]) == []  # the head lacks a byte
    assert reader.feed(data[11:12]) == []
    assert reader.feed(b"ab") == [Data(100, b"ab")]
    assert not reader.between_frames
    assert reader.feed(b"cde") == [Data(102, b"cde")]
    assert reader.feed(b"f" + pack(Ping(1))) == [Data(105, b"f"), Ping(1)]
    assert reader.between_frames


def test_nothing_behind_an_end_is_a_frame():
    reader = FrameReader()
    assert reader.rest is None
    assert reader.feed(pack(Ping(1)) + pack(End()) + b"the next request") == [Ping(1), End()]
    assert reader.rest == b"the next request"


def test_the_largest_frame():
    payload = bytes(MAX_PAYLOAD)
    data = pack(Data(0, payload))
    assert len(data) == MAX_FRAME
    (frame,) = FrameReader().feed(data)
    assert frame.data == payload
    assert data_head(0, MAX_PAYLOAD) + payload == data


def test_a_large_piece_is_not_copied_and_a_small_one_keeps_no_large_buffer_alive():
    large = pack(Data(0, bytes(MAX_PAYLOAD)))
    (frame,) = FrameReader().feed(large)
    assert isinstance(frame.data, memoryview)
    small, _ = FrameReader().feed(pack(Data(0, b"small")) + large)
    assert isinstance(small.data, bytes)


def test_a_dropped_feed_of_nothing_changes_nothing():
    reader = FrameReader()
    assert reader.feed(b"") == []
    assert reader.between_frames


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x07\0\0\0", "type 7 and 0 bytes"),
        (b"\x06\0\0\1", "type 6 and 1 bytes"),
        (b"\x01\0\0\x0d", "type 1 and 13 bytes"),
        (b"\x02\xff\xff\xff", "type 2 and 16777215 bytes"),
        (b"\0\0\0\x08", "DATA frame of 8 bytes"),
        (b"\0\1\xff\xfd", "DATA frame of 131069 bytes"),
        (b"\0\0\0\x09\x40" + bytes(8), "offset beyond"),
    ],
)
def test_what_no_peer_may_send(data, message):
    with pytest.raises(ProtocolError, match=message):
        FrameReader().feed(data)


def test_a_wrong_head_is_refused_before_its_payload_comes():
    reader = FrameReader()
    assert reader.feed(b"\x05\0\0") == []
    with pytest.raises(ProtocolError):
        reader.feed(b"\x09")
