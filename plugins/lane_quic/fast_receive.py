"""Receiving a bulk fast: short-header packets with STREAM, DATAGRAM and ACK frames, parsed directly.

aioquic makes an object of each header, of each frame and of the buffers between them, and looks at every
connection ID and path. A packet that comes where all others came, with the keys of before, needs none of
that, and most frames are the next bytes of a stream, a datagram or an acknowledgement. Whatever is not so
common is left to aioquic: a whole packet before anything has changed, or the rest of its frames. The state
afterwards is the same; tests/unit/test_quic_fast.py compares packet by packet.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from aioquic.quic.connection import END_STATES, QuicConnectionError, QuicReceiveContext
from aioquic.quic.events import DatagramFrameReceived, StreamDataReceived
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import MAX_ACK_RANGES
from aioquic.tls import Epoch
from cryptography.exceptions import InvalidTag

from lane_quic.configuration import CID_SIZE
from lane_quic.fast_send import masks, settled
from lane_quic.guarded import COSTLY

_NUMBER_AT = 1 + CID_SIZE
_SAMPLE_AT = _NUMBER_AT + 4
_SHORTEST = _SAMPLE_AT + 16
_RESERVED_AND_PHASE, _SPIN = 0x1C, 0x20
_ACK, _STREAM = 0x02, 0x08  # the last three bits of a STREAM frame: offset, length, end
_DATAGRAM = 0x30  # the last bit: length


def receive(engine: Any, datagrams: Sequence[bytes], start: int, address: Any, now: float) -> int:
    """Take ordinary packets, from `datagrams[start]` on: the index of the first that is none.

    Of that one nothing has changed. What other frames may have changed is looked at anew for the next.
    """
    if not settled(engine):
        return start
    path = engine._network_paths[0]
    if path.addr != address or not path.is_validated:
        return start
    cid, ours = engine.host_cid, []
    for data in islice(datagrams, start, None):
        if data[0] & 0xC0 != 0x40 or data[1:_NUMBER_AT] != cid or len(data) < _SHORTEST:
            break
        ours.append(data)
    return start + _take_packets(engine, ours, path, now) if ours else start


def _take_packets(engine: Any, datagrams: list[bytes], path: Any, now: float) -> int:
    """Take packets that are for this connection, and have a short header: how many.

    It ends behind one that had other frames: they may have changed anything.
    """
    space, keys, cid = engine._space, engine._keys.recv, engine.host_cid
    phase, received = keys.key_phase << 2, space.received_packets
    decrypt, iv = keys.aead._aead.decrypt, keys.aead._iv
    ranges = space.ack_queue._RangeSet__ranges
    idle_for = engine._idle_timeout()
    samples = [data[_SAMPLE_AT:_SHORTEST] for data in datagrams]
    for index, (data, mask) in enumerate(zip(datagrams, masks(keys.hp, samples), strict=True)):
        first = data[0] ^ mask[0] & 0x1F
        if first & _RESERVED_AND_PHASE != phase:
            return index
        size = (first & 3) + 1
        end = _NUMBER_AT + size
        truncated = int.from_bytes(data[_NUMBER_AT:end], "big") ^ int.from_bytes(mask[1 : 1 + size], "big")
        number = _nearest(truncated, 1 << size * 8, space.expected_packet_number)
        header = bytes((first,)) + cid + truncated.to_bytes(size, "big")
        try:
            plain = decrypt((iv ^ number).to_bytes(12, "big"), data[end:], header)
        except InvalidTag:
            return index
        if number in received:
            continue
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > engine._spin_highest_pn:
            engine._spin_bit = bool(first & _SPIN) != engine._is_client
            engine._spin_highest_pn = number
        at = _take_stream(engine, plain, 0)
        eliciting = common = at == len(plain)
        if not common:
            eliciting, common = _take_frames(engine, plain, at or 0, path, now)
            if engine._state in END_STATES or engine._close_pending:
                return index + 1
            idle_for = engine._idle_timeout()
        engine._close_at = now + idle_for
        engine._ack_eliciting_sent_since_receipt = False
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        if ranges and ranges[-1].stop == number:
            ranges[-1] = range(ranges[-1].start, number + 1)
        else:
            space.ack_queue.add(number)
            if len(ranges) > MAX_ACK_RANGES:
                space.ack_queue.shift()
        received.add(number)
        if eliciting and space.ack_at is None:
            space.ack_at = now + engine._ack_delay
        if not common:
            return index + 1
    return len(datagrams)


def _nearest(truncated: int, window: int, expected: int) -> int:
    """The packet number that ends as `truncated` and is the nearest to `expected` (RFC 9000 appendix A.3)."""
    number = expected + (truncated - expected) % window
    return number - window if number - expected > window // 2 and number >= window else number


def _take_frames(engine: Any, plain: bytes, at: int, path: Any, now: float) -> tuple[bool, bool]:
    """Act on the frames of a packet from `at` on, where STREAM frames that were taken end.

    Whether a frame of the packet asks for an acknowledgement, and whether all were common.
    """
    end, eliciting, work = len(plain), at > 0, 0
    while at < end:
        after = _take_stream(engine, plain, at)
        if after is None and plain[at] & 0xFE == _DATAGRAM:
            after = _take_datagram(engine, plain, at)
        eliciting = eliciting or after is not None
        if after is None and plain[at] == _ACK:
            after = _take_ack(engine, plain, at + 1, now)
            work += COSTLY
        if after is None:
            break
        work += 1
        at = after
    try:
        engine._frames.packet()
        engine._frames.spend(work)
        if end and at == end:
            return eliciting, True
        context = QuicReceiveContext(
            epoch=Epoch.ONE_RTT,
            host_cid=engine.host_cid,
            network_path=path,
            quic_logger_frames=None,
            time=now,
            version=None,
        )
        eliciting = engine._payload_received(context, plain[at:])[0] or eliciting
    except QuicConnectionError as error:
        engine.close(
            error_code=error.error_code,
            frame_type=error.frame_type,
            reason_phrase=error.reason_phrase,
        )
    return eliciting, False


def _take_stream(engine: Any, plain: bytes, at: int) -> int | None:
    """Take a STREAM frame with the next bytes of a stream: where it ends. None if it is none."""
    end = len(plain)
    kind = plain[at] if at < end else 0
    if kind & 0xF8 != _STREAM:
        return None
    try:
        stream_id, at = plain[at + 1], at + 2
        if stream_id >= 0x40:
            stream_id, at = _varint(plain, at - 1)
        offset, at = _varint(plain, at) if kind & 4 else (0, at)
        length, at = _varint(plain, at) if kind & 2 else (end - at, at)
    except IndexError:
        return None
    stop = at + length
    stream = engine._streams.get(stream_id)
    if stream is None or kind & 1 or stop > end or not length:
        return None
    receiver = stream.receiver
    limit, upto = engine._local_max_data, offset + length
    if (
        offset != receiver._buffer_start
        or receiver._buffer
        or receiver.is_finished
        or receiver._final_size is not None
        or upto > stream.max_stream_data_local
        or limit.used + length > limit.value
    ):
        return None
    limit.used += upto - receiver.highest_offset
    receiver._buffer_start = receiver.highest_offset = upto
    engine._events.append(StreamDataReceived(data=plain[at:stop], end_stream=False, stream_id=stream_id))
    return stop


def _take_datagram(engine: Any, plain: bytes, at: int) -> int | None:
    """Take a DATAGRAM frame: where it ends. None if it is malformed. None can be larger than we take."""
    kind, at = plain[at], at + 1
    try:
        length, at = _varint(plain, at) if kind & 1 else (len(plain) - at, at)
    except IndexError:
        return None
    stop = at + length
    if stop > len(plain):
        return None
    engine._events.append(DatagramFrameReceived(data=plain[at:stop]))
    return stop


def _take_ack(engine: Any, plain: bytes, at: int, now: float) -> int | None:
    """Take an ACK frame whose body begins at `at`: where it ends. None if it is malformed, or lies."""
    try:
        largest, at = _varint(plain, at)
        delay, at = _varint(plain, at)
        more, at = _varint(plain, at)
        count, at = _varint(plain, at)
        low = largest - count
        ranges = [range(low, largest + 1)]
        for _ in range(more):
            gap, at = _varint(plain, at)
            count, at = _varint(plain, at)
            high = low - gap - 1
            low = high - 1 - count
            ranges.append(range(low, high))
    except IndexError:
        return None
    ranges.reverse()
    if low < 0 or at > len(plain) or engine._never_sent(ranges):
        return None
    acknowledged = RangeSet()
    acknowledged._RangeSet__ranges = ranges  # type: ignore[attr-defined]
    engine._loss.peer_completed_address_validation = True
    engine._loss.on_ack_received(
        ack_rangeset=acknowledged,
        ack_delay=(delay << engine._remote_ack_delay_exponent) / 1000000,
        now=now,
        space=engine._space,
    )
    return at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer and where it ends (RFC 9000 section 16). Raises IndexError where there is none."""
    first = data[at]
    if first < 0x40:
        return first, at + 1
    if first < 0x80:
        return (first & 0x3F) << 8 | data[at + 1], at + 2
    size = 4 if first < 0xC0 else 8
    if at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + size], "big") & (1 << size * 8 - 2) - 1, at + size
