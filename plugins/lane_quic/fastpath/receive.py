"""The receiving fast path: short-header packets with STREAM, DATAGRAM and ACK frames are parsed directly.

aioquic creates an object for each header, each frame and each buffer between them, and checks every
connection ID and path. A packet on the known path with the known keys needs none of that. Most frames are
the next bytes of a stream, a datagram or an acknowledgement. aioquic handles everything less common: a
whole packet, before anything has changed, or the rest of a packet's frames. The resulting state is the same.
tests/unit/lane_quic/fastpath/test_send_and_receive.py compares packet by packet.
"""

from collections.abc import Sequence
from typing import Any

from aioquic.quic.connection import END_STATES, QuicConnectionError, QuicReceiveContext
from aioquic.quic.events import DatagramFrameReceived, StreamDataReceived
from aioquic.quic.recovery import MAX_ACK_RANGES
from aioquic.tls import Epoch

from lane_quic.fastpath.ack import take_ack
from lane_quic.fastpath.connection import FastPathConnection
from lane_quic.fastpath.send import settled
from lane_quic.fastpath.wire import COSTLY, read_varint
from lane_quic.internals.parts import ranges_of

_ACK, _STREAM = 0x02, 0x08  # the last three bits of a STREAM frame: offset, length, end
_DATAGRAM, _WHOLE_DATAGRAM = 0x30, 0x31  # the last bit: length
_SPIN = 0x20  # in the first byte (RFC 9000 section 17.3.1)

Data = dict[int, list[bytes]]
"""The received bytes that have no event yet, by stream ID."""


def receive(
    engine: FastPathConnection, datagrams: Sequence[bytes], start: int, address: Any, now: float
) -> int:
    """Process common packets from `datagrams[start]` on. Return the index of the first other datagram.

    That one has changed nothing yet. An uncommon frame may change anything, so the checks are made again
    then.
    """
    if not settled(engine):
        return start
    path = engine.network_paths[0]
    if path.addr != address or not path.is_validated:
        return start
    return _take_packets(engine, datagrams, start, now)


def _take_packets(engine: FastPathConnection, datagrams: Sequence[bytes], start: int, now: float) -> int:
    """Process short-header packets of this connection. Return the index of the first other datagram.

    It stops after a packet with uncommon frames, since they may have changed anything.
    """
    data: Data = {}
    index, common = start, True
    protection, space = engine.keys.recv.protection, engine.space
    while index < len(datagrams) and common:
        head = _expected(engine)
        # A packet that comes alone has any spin bit. A wrong guess costs more than reading its header.
        if index + 1 < len(datagrams):
            number = space.largest_received_packet + 1
            if payloads := protection.open_row(head, number, datagrams, index):
                count, common = _take_in_turn(engine, payloads, head[0], data, now)
                index += count
                continue
        opened = protection.open_one(head, space.expected_packet_number, datagrams[index])
        if opened is None:
            break
        index += 1
        number, first, plain = opened
        if number not in space.received_packets:
            kind = plain[0] if plain else 0
            if kind == _WHOLE_DATAGRAM and _take_only_datagram(engine, plain, data):
                _note(engine, number, number + 1, first, now)
                continue
            at = None if kind == _ACK else _take_stream(engine, plain, 0, data)
            _note_opened(engine, number, number + 1, first)
            if at == len(plain):
                _note_taken(engine, number, number + 1, now, eliciting=True)
            else:
                common = _take_rest(engine, range(number, number + 1), plain, at, data, now=now)
    _tell(engine, data)
    return index


def _expected(engine: FastPathConnection) -> bytes:
    """The first byte of the next packet, with the flags of the newest packet, and the connection ID."""
    spin = _SPIN if engine.spin_bit != engine.is_client else 0
    return bytes((spin | 0x40 | int(engine.keys.recv.key_phase) << 2 | 1,)) + engine.host_cid


def _take_in_turn(
    engine: FastPathConnection, payloads: list[tuple[int, bytes]], first: int, data: Data, now: float
) -> tuple[int, bool]:
    """Process packets in order, with the first byte `first`: see `Protection.open_row`.

    Return how many there were, and whether all their frames were common. Consecutive packets with only the
    next bytes of a stream are recorded together.
    """
    begin = low = number = engine.space.largest_received_packet + 1
    common = True
    for count, plain in payloads:
        at = _take_stream(engine, plain, 0, data)
        number += count
        if at == len(plain):
            continue
        _note(engine, low, number - count, first, now)
        _note_opened(engine, number - count, number, first)
        low = number
        common = _take_rest(engine, range(number - count, number), plain, at, data, now=now)
        if not common:
            break
    _note(engine, low, number, first, now)
    return number - begin, common


def _take_rest(
    engine: FastPathConnection, numbers: range, plain: bytes, at: int | None, data: Data, *, now: float
) -> bool:
    """Process the rest of a payload, after a STREAM frame that ends at `at`, if it had one.

    Return whether all frames were common.
    """
    eliciting = common = True
    if at != len(plain):
        eliciting, common = _take_frames(engine, plain, at or 0, data, now)
        if engine.state in END_STATES or engine.close_pending:
            return False
    _note_taken(engine, numbers.start, numbers.stop, now, eliciting=eliciting)
    return common


def _note(engine: FastPathConnection, low: int, stop: int, first: int, now: float) -> None:
    """Record the consecutive packets `low` to `stop` - 1 with stream data. `first`: the last's first byte."""
    if low < stop:
        _note_opened(engine, low, stop, first)
        _note_taken(engine, low, stop, now, eliciting=True)


def _note_opened(engine: FastPathConnection, low: int, stop: int, first: int) -> None:
    """Record that packets `low` to `stop` - 1 were decrypted. `first` is the first byte of the last one."""
    space = engine.space
    fresh = space.expected_packet_number + 1
    if fresh < stop:  # aioquic advances the number with every second packet
        fresh = max(low, fresh)
        space.expected_packet_number = fresh + (stop - 1 - fresh | 1)
    if stop - 1 > engine.spin_highest_pn:
        engine.spin_bit = bool(first & _SPIN) != engine.is_client
        engine.spin_highest_pn = stop - 1


def _note_taken(engine: FastPathConnection, low: int, stop: int, now: float, *, eliciting: bool) -> None:
    """Record that packets `low` to `stop` - 1 were processed. `eliciting`: they must be acknowledged."""
    space = engine.space
    ranges = ranges_of(space.ack_queue)
    engine.close_at = now + engine.idle
    engine.ack_eliciting_sent_since_receipt = False
    if stop - 1 > space.largest_received_packet:
        space.largest_received_packet = stop - 1
        space.largest_received_time = now
    if ranges and ranges[-1].stop == low:
        ranges[-1] = range(ranges[-1].start, stop)
    else:
        space.ack_queue.add(low, stop)
        if len(ranges) > MAX_ACK_RANGES:
            space.ack_queue.shift()
    space.received_packets.add_row(low, stop)
    if eliciting and space.ack_at is None:
        space.ack_at = now + engine.ack_delay


def _tell(engine: FastPathConnection, data: Data) -> None:
    """Create one event for each stream in `data`, and empty `data`."""
    if not data:
        return
    for stream_id, pieces in data.items():
        whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        engine.events.append(StreamDataReceived(data=whole, end_stream=False, stream_id=stream_id))
    data.clear()


def _take_frames(
    engine: FastPathConnection, plain: bytes, at: int, data: Data, now: float
) -> tuple[bool, bool]:
    """Process the frames of a packet from `at` on, after the STREAM frames that were already processed.

    Return whether the packet is ack-eliciting, and whether all its frames were common.
    """
    end, eliciting, work = len(plain), at > 0, 0
    while at < end:
        if plain[at] == _ACK:
            after = take_ack(engine, plain, at + 1, now)
            work += COSTLY
        else:
            after = _take_stream(engine, plain, at, data)
            if after is None and plain[at] & 0xFE == _DATAGRAM:
                _tell(engine, data)  # the bytes before it
                after = _take_datagram(engine, plain, at)
            eliciting = eliciting or after is not None
        if after is None:
            break
        work += 1
        at = after
    try:
        engine.frame_budget.packet(now)
        engine.frame_budget.spend(work)
        if end and at == end:
            return eliciting, True
        _tell(engine, data)
        context = QuicReceiveContext(
            epoch=Epoch.ONE_RTT,
            host_cid=engine.host_cid,
            network_path=engine.network_paths[0],
            quic_logger_frames=None,
            time=now,
            version=None,
        )
        eliciting = engine.payload_received(context, plain[at:])[0] or eliciting
    except QuicConnectionError as error:
        engine.close(
            error_code=error.error_code,
            frame_type=error.frame_type,
            reason_phrase=error.reason_phrase,
        )
    return eliciting, False


def _take_stream(engine: FastPathConnection, plain: bytes, at: int, data: Data) -> int | None:
    """Process a STREAM frame, and add its deliverable bytes to `data`. Return its end.

    None if it is another frame, or an uncommon STREAM frame.
    """
    end = len(plain)
    kind = plain[at] if at < end else 0
    if kind & 0xF9 != _STREAM:
        return None
    try:
        stream_id, at = plain[at + 1], at + 2
        if stream_id >= 0x40:
            stream_id, at = read_varint(plain, at - 1)
        if not kind & 4:
            offset = 0
        elif plain[at] >= 0x80:  # nearly always; calls would be measurably slower
            width = 8 if plain[at] >= 0xC0 else 4
            offset = int.from_bytes(plain[at : at + width], "big") & (1 << width * 8 - 2) - 1
            at += width
        elif plain[at] >= 0x40:
            offset, at = (plain[at] & 0x3F) << 8 | plain[at + 1], at + 2
        else:
            offset, at = plain[at], at + 1
        if not kind & 2:
            length = end - at
        elif 0x40 <= plain[at] < 0x80:
            length, at = (plain[at] & 0x3F) << 8 | plain[at + 1], at + 2
        else:
            length, at = read_varint(plain, at)
    except IndexError:
        return None
    stop = at + length
    stream = engine.streams.get(stream_id)
    if stream is None or stop > end or length <= 0:
        return None
    receiver, limit, upto = stream.receiver, engine.local_max_data, offset + length
    if (
        receiver.is_finished
        or receiver.final_size is not None
        or upto > stream.max_stream_data_local
        or limit.used + length > limit.value
    ):
        return None
    piece = plain[at:stop]
    if offset == receiver.buffer_start and not receiver.buffer:
        limit.used += upto - receiver.highest_offset
        receiver.buffer_start = receiver.highest_offset = upto
    elif not receiver.bears(offset, upto):
        return None
    else:  # there is, or was, a gap before it
        limit.used += max(0, upto - receiver.highest_offset)
        piece = receiver.take(offset, piece)
        if not piece:
            return stop
    pieces = data.get(stream_id)
    if pieces is None:
        data[stream_id] = [piece]
    else:
        pieces.append(piece)
    return stop


def _take_only_datagram(engine: FastPathConnection, plain: bytes, data: Data) -> bool:
    """Process a packet that begins with a DATAGRAM frame with its length. Returns whether it has no more."""
    try:
        size, start = read_varint(plain, 1)
    except IndexError:
        return False
    if start + size != len(plain):
        return False
    if data:
        _tell(engine, data)
    engine.events.append(DatagramFrameReceived(data=plain[start:]))
    return True


def _take_datagram(engine: FastPathConnection, plain: bytes, at: int) -> int | None:
    """Process a DATAGRAM frame. Return its end; None if it is malformed. No packet can exceed our limit."""
    kind, at = plain[at], at + 1
    try:
        length, at = read_varint(plain, at) if kind & 1 else (len(plain) - at, at)
    except IndexError:
        return None
    stop = at + length
    if stop > len(plain):
        return None
    engine.events.append(DatagramFrameReceived(data=plain[at:stop]))
    return stop
