"""Sending a bulk fast: packets with datagrams, a STREAM frame, an ACK, or all of them, written directly.

aioquic asks for each packet what else there might be to say, and builds it frame by frame. Where nothing
but datagrams, data of streams and an acknowledgement waits, and each stream with data has a whole packet of
them (or the only one the rest of a packet), the packets are known beforehand: those that aioquic would send,
with the same state afterwards, at less than half of the cost. Whatever is not so common is left to it.
tests/unit/lane_quic/fastpath/test_send_and_receive.py compares packet by packet.

One thing differs: what is left of a congestion window, less than a packet, waits for the next
acknowledgement and is not filled with a smaller one (but with datagrams, if they fit).
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

_HEADER = 3  # of a packet: its first byte and its number; the connection ID is between them
_FRAME = 3  # of a frame: its type and two bytes of length; the stream and the offset are between them
_TAG = 16
_FORM = b"%c%b%c%c%b"  # of a packet: its first byte, connection ID, number, payload

Datagrams = list[tuple[bytes, Any]]


def settled(engine: FastPathConnection) -> bool:
    """Whether the handshake is behind a connection and its end not before it, and nobody traces it."""
    return (
        engine.handshake_confirmed
        and engine.state is QuicConnectionState.CONNECTED
        and not engine.close_pending
        and engine.quic_logger is None
    )


def send(engine: FastPathConnection, now: float) -> tuple[Datagrams, bool]:
    """The packets of a bulk that may leave now, and whether aioquic has nothing to add to them."""
    if not settled(engine) or _has_more_to_say(engine):
        return [], False
    space = engine.space
    ack_at = space.ack_at
    ack = ack_at is not None and ack_at <= now
    if ack and len(space.ack_queue) > 1 and not engine.packet_number % 8:
        return [], False  # aioquic adds a PING, to hear that its ACKs arrive
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
        streams.append(streams.pop(0))  # as `Engine._write_application` does
    return datagrams, done


def probe(engine: FastPathConnection, size: int, now: float, on_fate: Callable[[Any], None]) -> Datagrams:
    """A packet of `size` bytes that says nothing; `on_fate` hears whether it arrived.

    It counts for no window and no rate: its loss is no sign of congestion (RFC 9000 section 14.4).
    """
    batch = _Batch(engine, now)
    batch.pad(size, [(on_fate, ())])
    return batch.finish()


def _has_more_to_say(engine: FastPathConnection) -> bool:
    """Whether a frame that is none of a stream's data waits, or the path is not an ordinary one."""
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
    """Packets of one connection that leave together."""

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
        """Serve `streams` in turn, while each has a whole packet; an ACK goes with the first, or alone, and
        what is `waiting` of datagrams before streams in each packet.

        Whether that is all they have to say, or may say now. `streams` is left in the order in which they
        are served from then on.
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
                    due = min(window // size, -(-min(budget, window) // size))  # up to where the budget ends
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
        # A window that is too small for a packet waits for acknowledgements, if any are to come.
        flying = self._space.ack_eliciting_in_flight + len(self._packets) > 0
        return not streams or (window < size and flying)

    def _stream_frame(self, streams: list[Any], size: int, room: int) -> tuple[Any, bytes] | None:
        """A packet of `size` bytes, and a frame for it of `room` bytes, from the stream whose turn it is.

        The packet is None where there is no room for any. None if it would be no ordinary frame.
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
        if len(streams) > 1 and sender.highest_offset > before:  # it is the turn of others
            streams.remove(stream)
            streams.append(stream)
        packet = StreamPacket(self._number, self._now, size, sender, start, start + len(data))
        return packet, _frame(name, start, data)

    def _add_row(self, stream: Any, size: int, most: int) -> int:
        """Packets of `size` bytes with data of the only stream that has any: how many; 0 if it is not common.

        It may be fewer than `most`, and yet more to come: where offsets begin to take more bytes.
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
        """A packet with all that waits of the only stream, if that is less than `size` bytes would hold."""
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
        """Data of a stream for up to so many packets (see `Sender.take`), which count against credit."""
        sender = stream.sender
        before = sender.highest_offset
        taken: tuple[int, list[bytearray]] | None = sender.take(room, self._credit(stream), packets)
        self._engine.remote_max_data_used += sender.highest_offset - before
        return taken

    def _credit(self, stream: Any) -> int:
        """The offset at which flow control ends for a stream."""
        engine = self._engine
        most: int = stream.sender.highest_offset + engine.remote_max_data - engine.remote_max_data_used
        limit: int = stream.max_stream_data_remote
        return min(most, limit)

    @property
    def count(self) -> int:
        """Packets until now."""
        return len(self._packets)

    def pad(self, size: int, handlers: list[Any]) -> None:
        """A packet with a PING and padding up to `size` bytes."""
        packet = self._record(size, handlers, eliciting=True)
        packet.in_flight = False
        self._add(packet, b"\x01".ljust(size - len(self._head) - 2 - _TAG, b"\0"))

    def _add(self, packet: Any, payload: bytes) -> None:
        """A packet with the frames `payload`."""
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
        """What a packet with an ACK is remembered with; that one is due no more."""
        self._space.ack_at = None
        return [(self._engine.on_ack_delivery, (self._space, self._space.largest_received_packet))]

    def finish(self) -> Datagrams:
        """The datagrams, which count as sent from now on."""
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
    """A STREAM frame that is neither the first nor the last (RFC 9000 section 19.8)."""
    return b"".join((b"\x0e", stream, varint(start), length_of(len(data)), data))


def _datagram_frames(waiting: PendingDatagrams, room: int) -> tuple[bytes, int]:
    """DATAGRAM frames (RFC 9221 section 4) of the first that fit into `room`, and how many these are."""
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
