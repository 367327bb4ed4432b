"""The sending fast path: packets with datagrams, a STREAM frame and an ACK are written directly.

aioquic checks for each packet which frames might be due, and builds it frame by frame. The fast path needs
only datagrams, stream data and an ACK to be due, and each stream to have data for a full packet (the only
stream may have less). Then the packets are known beforehand. They are those that aioquic would send, with
the same resulting state, at less than half the cost. aioquic handles everything less common.
tests/unit/lane_quic/fastpath/test_send_and_receive.py compares packet by packet.

One thing differs. If the congestion window has room for less than a full packet, the stream data waits for
the next acknowledgement. aioquic would send a smaller packet. Datagrams are sent if they fit.
"""

from collections.abc import Callable
from math import inf
from typing import Any

from aioquic.buffer import size_uint_var
from aioquic.quic.connection import QuicConnectionState
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.tls import Epoch

from lane_quic.fastpath.ack import ack_frame
from lane_quic.fastpath.connection import FastPathConnection, PendingDatagrams
from lane_quic.fastpath.wire import WIDTHS, length_of, varint
from lane_quic.internals.parts import cipher_of, masks
from lane_quic.recovery.sent_packets import StreamPacket

_HEADER = 3  # bytes of a packet's first byte and number; the connection ID is between them
_FRAME = 3  # bytes of a frame's type and length; the stream ID and the offset are between them
_TAG = 16  # bytes of the AEAD tag
_FORM = b"%c%b%c%c%b"  # a packet: its first byte, connection ID, number (two bytes), payload

Datagrams = list[tuple[bytes, Any]]


def settled(engine: FastPathConnection) -> bool:
    """Whether the handshake is confirmed, the connection is not closing, and there is no qlog."""
    return (
        engine.handshake_confirmed
        and engine.state is QuicConnectionState.CONNECTED
        and not engine.close_pending
        and engine.quic_logger is None
    )


def send(engine: FastPathConnection, now: float) -> tuple[Datagrams, bool]:
    """The packets that may be sent now, and whether aioquic has nothing to add to them."""
    if not settled(engine) or _has_more_to_say(engine):
        return [], False
    space = engine.space
    ack_at = space.ack_at
    ack = ack_at is not None and ack_at <= now
    if ack and len(space.ack_queue) > 1 and not engine.packet_number % 8:
        return [], False  # aioquic adds a PING, so that its ACKs are acknowledged
    room = engine.max_datagram_size - _HEADER - len(engine.peer_cid.cid) - _FRAME - _TAG
    streams = engine.gather_streams()
    rest_alone = len(streams) == 1 and not ack and not engine.datagrams_pending and not engine.lossy
    for stream in streams:
        sender = stream.sender
        if sender.reset_pending or stream.receiver.stop_pending or stream.is_finished or stream.is_blocked:
            return [], False
        left = room - size_uint_var(stream.stream_id)
        if not sender.has_pending(left) and not (rest_alone and sender.has_rest(left)):
            return [], False
    pacer = engine.loss.pacer
    budget = pacer.allowance(now)
    batch = _Batch(engine, now)
    ack = ack and (ack_at < now or budget > 0)
    done = batch.fill(streams, engine.datagrams_pending, budget, with_ack=ack)
    pacer.begin(batch.count)
    engine.pacing_at = pacer.next_send_time(now)
    datagrams = batch.finish()
    done = done or engine.pacing_at is not None
    if streams and done:
        streams.append(streams.pop(0))  # as `Engine.write_application` does
    return datagrams, done


def probe(engine: FastPathConnection, size: int, now: float, on_fate: Callable[[Any], None]) -> Datagrams:
    """A packet of `size` bytes without data. `on_fate` is called when it is acknowledged or lost.

    It does not count in the window or the rate: its loss is no sign of congestion (RFC 9000 section 14.4).
    """
    batch = _Batch(engine, now)
    batch.pad(size, [(on_fate, ())])
    return batch.finish()


def _has_more_to_say(engine: FastPathConnection) -> bool:
    """Whether a frame other than stream data is due, or the path needs aioquic's care."""
    if engine.abandoned:
        engine.raise_connection_limit()
    data, streams = engine.local_max_data, engine.local_max_streams_bidi
    paths = engine.network_paths
    return bool(
        engine.probe_pending
        or engine.ping_pending
        or engine.streams.with_credit
        or data.value != data.sent
        or not paths[0].is_validated
        or any(p.remote_challenges or not (p.is_validated or p.local_challenge_sent) for p in paths[1:])
        or paths[0].remote_challenges
        or engine.handshake_done_pending
        or engine.retire_connection_ids
        or engine.streams_blocked_pending
        or streams.sent - streams.used < streams.value - streams.sent
        or not engine.crypto_streams[Epoch.ONE_RTT].sender.buffer_is_empty
        or not all(cid.was_sent for cid in engine.issued_cids)
    )


class _Batch:
    """Packets of one connection that are sent together."""

    def __init__(self, engine: FastPathConnection, now: float) -> None:
        pair = engine.keys
        self._engine, self._now = engine, now
        self._space = engine.space
        self._number = engine.packet_number
        self._hp = pair.send.hp
        cipher, self._iv = cipher_of(pair.send.aead)
        self._seal = cipher.encrypt
        self._cid = engine.peer_cid.cid
        self._first = 0x40 | engine.spin_bit << 5 | pair.key_phase << 2 | 1
        self._head = bytes((self._first,)) + self._cid
        self._packets: list[Any] = []
        self._sealed: list[bytes] = []

    def fill(self, streams: list[Any], waiting: PendingDatagrams, budget: float, *, with_ack: bool) -> bool:
        """Write packets, with each of `streams` in turn, as long as each has data for a full packet.

        In each packet, `waiting` datagrams come before stream data. An ACK goes into the first packet, or
        alone. `streams` is left in the next order of service. `budget` is in bytes. Return whether nothing
        else may be sent now.
        """
        engine, loss = self._engine, self._engine.loss
        size = engine.max_datagram_size
        window = loss.congestion_window - loss.bytes_in_flight
        ack = ack_frame(self._space, self._now, engine.local_ack_delay_exponent) if with_ack else b""
        overhead = _HEADER + len(self._cid) + _TAG
        waiting.contended = bool(streams)
        pending = bool(waiting)
        alone = len(streams) == 1 and not pending
        while budget > 0:
            lead, count = ack, 0
            if pending:
                frames, count = _datagram_frames(waiting, min(size, window) - overhead - len(ack))
                lead += frames
            packet: Any = None
            if streams and window >= size:
                if alone and not lead:
                    due = min(window // size, -(-min(budget, window) // size))  # the budget rounds up
                    if not (row := self._add_row(streams[0], size, int(due))):
                        return self._add_rest(streams[0], size)
                    budget -= row * size
                    window -= row * size
                    continue
                if (taken := self._stream_frame(streams, size, size - overhead - len(lead))) is None:
                    return False
                packet, frame = taken
            if packet is None and not lead:
                break
            if lead:
                handlers = self._ack_handlers() if ack else []
                if packet is not None:
                    handlers += packet.delivery_handlers
                    lead += frame
                eliciting = packet is not None or count > 0
                packet, frame = self._record(overhead + len(lead), handlers, eliciting=eliciting), lead
                ack = b""
            self._add(packet, frame)
            if pending:
                for _ in range(count):
                    waiting.popleft()
                pending = bool(waiting)
            budget -= size
            window -= packet.sent_bytes if packet.in_flight else 0
        if ack:
            self._add(self._record(overhead + len(ack), self._ack_handlers(), eliciting=False), ack)
        # If the window has no room for a packet, wait for acknowledgements, provided that any are due.
        flying = self._space.ack_eliciting_in_flight + len(self._packets) > 0
        return not streams or (window < size and flying)

    def _stream_frame(self, streams: list[Any], size: int, room: int) -> tuple[Any, bytes] | None:
        """A packet of `size` bytes and its STREAM frame of `room` bytes, from the stream whose turn it is.

        The packet is None if no frame has room. The result is None if the frame would be uncommon.
        """
        for stream in streams:
            name = varint(stream.stream_id)
            left, sender = room - _FRAME - len(name), stream.sender
            if left > 8 or left > size_uint_var(sender.next_offset):
                break
        else:
            return None, b""
        before = sender.highest_offset
        if (taken := self._take(stream, left, 1)) is None:
            return None
        start, (data,) = taken
        if len(streams) > 1 and sender.highest_offset > before:  # the next stream has its turn
            streams.remove(stream)
            streams.append(stream)
        packet = StreamPacket(self._number, self._now, size, sender, start, start + len(data))
        return packet, _frame(name, start, data)

    def _add_row(self, stream: Any, size: int, most: int) -> int:
        """Add up to `most` packets of `size` bytes, with data of the only stream. Return how many were added.

        0 means an uncommon case. Fewer than `most` are added where offsets begin to take more bytes; the next
        call adds the others.
        """
        number, now, sender, name = self._number, self._now, stream.sender, varint(stream.stream_id)
        room = size - _HEADER - len(self._cid) - _TAG - _FRAME - len(name)
        if (taken := self._take(stream, room, most)) is None:
            return 0
        start, pieces = taken
        count, width = len(pieces[0]), size_uint_var(start)
        offsets = range(start, start + count * len(pieces), count)
        head, form, filled, join = b"\x0e" + name, WIDTHS[width], length_of(count), b"".join
        seal, iv, header = self._seal, self._iv, self._head
        self._sealed += [
            seal(
                (iv ^ n).to_bytes(12, "big"),
                join((head, (at | form).to_bytes(width, "big"), filled, data)),
                header + (n & 0xFFFF).to_bytes(2, "big"),
            )
            for n, (at, data) in enumerate(zip(offsets, pieces, strict=True), number)
        ]
        self._packets += [
            StreamPacket(n, now, size, sender, at, at + count) for n, at in enumerate(offsets, number)
        ]
        self._number = number + len(pieces)
        return len(pieces)

    def _add_rest(self, stream: Any, size: int) -> bool:
        """Add a packet with all pending data of the only stream, if it is smaller than `size` bytes."""
        engine, sender, name = self._engine, stream.sender, varint(stream.stream_id)
        overhead = _HEADER + len(self._cid) + _TAG + _FRAME + len(name)
        if engine.lossy or not sender.has_rest(size - overhead):  # see tail_repeat.py
            return False
        before = sender.highest_offset
        if (taken := sender.take_rest(self._credit(stream))) is None:
            return False
        engine.remote_max_data_used += sender.highest_offset - before
        start, data = taken
        frame = _frame(name, start, data)
        size = _HEADER + len(self._cid) + len(frame) + _TAG
        self._add(StreamPacket(self._number, self._now, size, sender, start, start + len(data)), frame)
        return True

    def _take(self, stream: Any, room: int, packets: int) -> tuple[int, list[bytearray]] | None:
        """Take a stream's data for up to `packets` packets (see `Sender.take`), and count it as sent."""
        sender = stream.sender
        before = sender.highest_offset
        taken: tuple[int, list[bytearray]] | None = sender.take(room, self._credit(stream), packets)
        self._engine.remote_max_data_used += sender.highest_offset - before
        return taken

    def _credit(self, stream: Any) -> int:
        """The offset up to which flow control lets the stream send."""
        engine = self._engine
        most: int = stream.sender.highest_offset + engine.remote_max_data - engine.remote_max_data_used
        limit: int = stream.max_stream_data_remote
        return min(most, limit)

    @property
    def count(self) -> int:
        """Number of packets so far."""
        return len(self._packets)

    def pad(self, size: int, handlers: list[Any]) -> None:
        """Add a packet with a PING frame and padding, of `size` bytes."""
        packet = self._record(size, handlers, eliciting=True)
        packet.in_flight = False
        self._add(packet, b"\x01".ljust(size - len(self._head) - 2 - _TAG, b"\0"))

    def _add(self, packet: Any, payload: bytes) -> None:
        """Encrypt and add a packet with the frames `payload`."""
        number = self._number
        header = self._head + (number & 0xFFFF).to_bytes(2, "big")
        self._sealed.append(self._seal((self._iv ^ number).to_bytes(12, "big"), payload, header))
        self._packets.append(packet)
        self._number = number + 1

    def _record(self, size: int, handlers: list[Any], *, eliciting: bool) -> QuicSentPacket:
        return QuicSentPacket(
            epoch=Epoch.ONE_RTT,
            in_flight=eliciting,
            is_ack_eliciting=eliciting,
            is_crypto_packet=False,
            packet_number=self._number,
            packet_type=QuicPacketType.ONE_RTT,
            sent_time=self._now,
            sent_bytes=size,
            delivery_handlers=handlers,
        )

    def _ack_handlers(self) -> list[Any]:
        """The delivery handlers of a packet with an ACK frame. The ACK is no longer due."""
        self._space.ack_at = None
        return [(self._engine.on_ack_delivery, (self._space, self._space.largest_received_packet))]

    def finish(self) -> Datagrams:
        """Return the UDP datagrams, and record their packets as sent."""
        engine, packets, sealed = self._engine, self._packets, self._sealed
        if not packets:
            return []
        engine.loss.on_packets_sent(packets, self._space, self._now)
        engine.packet_number = self._number
        if not engine.ack_eliciting_sent_since_receipt and packets[-1].is_ack_eliciting:
            engine.close_at = self._now + engine.idle_timeout()
            engine.ack_eliciting_sent_since_receipt = True
        path = engine.network_paths[0]
        path.bytes_sent += sum(packet.sent_bytes for packet in packets)
        found = masks(self._hp, [payload[2:18] for payload in sealed])  # numbers have two bytes
        address, first, cid, low = path.addr, self._first, self._cid, packets[0].packet_number
        return [
            (
                _FORM % (first ^ mask[0] & 0x1F, cid, n >> 8 & 0xFF ^ mask[1], n & 0xFF ^ mask[2], payload),
                address,
            )
            for n, (mask, payload) in enumerate(zip(found, sealed, strict=True), low)
        ]


def _frame(stream: bytes, start: int, data: bytearray) -> bytes:
    """A STREAM frame with an offset, and without the stream's end (RFC 9000 section 19.8)."""
    return b"".join((b"\x0e", stream, varint(start), length_of(len(data)), data))


def _datagram_frames(waiting: PendingDatagrams, room: int) -> tuple[bytes, int]:
    """DATAGRAM frames (RFC 9221 section 4) for the first datagrams that fit into `room`, and their number."""
    frames: list[bytes] = []
    share = waiting.share if waiting.contended else inf
    for data in waiting:
        frame = b"\x31%b%b" % (varint(len(data)), data)
        room -= len(frame)
        if room < 0 or share <= 0:
            break
        share -= len(data)
        frames.append(frame)
    return b"".join(frames), len(frames)
