"""Packets of one connection that are built and sealed together: datagrams, STREAM frames and an ACK.

A stream with data for full packets fills several in a row: its share of a few milliseconds. So what it
sends arrives together, and is encrypted, opened, delivered and acknowledged together, however many streams
there are. Smaller frames of several streams share packets, as aioquic writes them.
"""

from math import inf
from typing import Any

from aioquic.buffer import size_uint_var
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.tls import Epoch

from lane_quic.fastpath.ack import ack_frame, ack_handler
from lane_quic.fastpath.connection import FastPathConnection, PendingDatagrams
from lane_quic.fastpath.protection import Row
from lane_quic.fastpath.wire import stream_frame, varint
from lane_quic.recovery.sent_packets import AnsweringPacket, StreamPacket
from lane_quic.udp.offload import Train

TURN = 0.010
"""Seconds of the sending rate that a round of all streams takes. Each has an equal share, in packets."""
MOST_IN_TURN = 64
"""Packets that one stream may send in its turn: those of one system call."""

_NUMBER = 2  # bytes of a packet's number
_FRAME = 3  # bytes of a frame's type and length; the stream ID and the offset are between them
_TAG = 16  # bytes of the AEAD tag
AROUND = _NUMBER + _TAG
"""Bytes of a packet beside its header and its frames."""
_LEAST_FRAME = _FRAME + 1  # bytes of the shortest STREAM frame

Datagrams = list[tuple[bytes | Train, Any]]


class Batch:
    """Packets of one connection that are sent together."""

    def __init__(self, engine: FastPathConnection, now: float) -> None:
        self._engine, self._now = engine, now
        self._space = engine.space
        self._number = engine.packet_number
        self._protection = engine.keys.send.protection
        self._head = short_header(engine)
        self._packets: list[Any] = []
        self._payloads: list[bytes | Row] = []

    def fill(self, streams: list[Any], waiting: PendingDatagrams, budget: float, *, with_ack: bool) -> bool:
        """Write packets, with each of `streams` in turn, as long as there is something to send.

        In each packet, `waiting` datagrams come before stream data. An ACK goes into the first packet, or
        alone. `streams` is left in the next order of service. `budget` is in bytes. Return whether nothing
        else may be sent now.
        """
        engine, loss = self._engine, self._engine.loss
        size = engine.max_datagram_size
        window = loss.congestion_window - loss.bytes_in_flight - self.size
        ack = ack_frame(self._space, self._now, engine.local_ack_delay_exponent) if with_ack else b""
        overhead = len(self._head) + _NUMBER + _TAG
        turn = MOST_IN_TURN
        if len(streams) > 1:
            turn = max(1, min(int((loss.pacer.rate or 0.0) * TURN / size) // len(streams), MOST_IN_TURN))
        waiting.contended = bool(streams)
        pending, idle = bool(waiting), not streams
        while budget > 0:
            lead, count, frames = ack, 0, _Frames()
            if pending:
                datagrams, count = datagram_frames(waiting, min(size, window) - overhead - len(ack))
                lead += datagrams
            if not idle and window >= size:
                if not lead:
                    # The budget rounds up.
                    due = int(min(window // size, -(-min(budget, window) // size)))
                    if row := self._add_row(streams, size, due, turn):
                        budget -= row * size
                        window -= row * size
                        continue
                idle = not self._take_frames(streams, frames, size - overhead - len(lead))
            if not lead and not frames.data:
                if pending or not idle:
                    break
                waiting.contended = False  # the streams have had their turn
                if not (pending := bool(waiting)):
                    break
                continue
            packet = self._record(lead, ack, frames, overhead, eliciting=count > 0)
            ack = b""
            self._add(packet, lead + b"".join(frames.data))
            if pending:
                for _ in range(count):
                    waiting.popleft()
                pending = bool(waiting)
            budget -= size
            window -= packet.sent_bytes if packet.in_flight else 0
        if ack:
            self._add(self._record(ack, ack, _Frames(), overhead, eliciting=False), ack)
        # If the window has no room for a packet, wait for acknowledgements, provided that any are due.
        return idle or window >= size or self._space.ack_eliciting_in_flight + len(self._packets) > 0

    def _add_row(self, streams: list[Any], size: int, most: int, turn: int) -> int:
        """Add up to `most` packets of `size` bytes, all with data of the first stream that has any.

        One that has much to send adds up to `turn`, and then it is the turn of the next one.

        Return how many were added. 0 means that it has less, or that its next frame is an uncommon one. Fewer
        than `most` are added also where offsets begin to take more bytes; the next call adds the others.
        """
        for stream in streams:
            if not stream.sender.rests():
                break
        else:
            return 0
        number, now, sender, name = self._number, self._now, stream.sender, varint(stream.stream_id)
        before = sender.highest_offset
        room = size - len(self._head) - _NUMBER - _TAG - _FRAME - len(name)
        short = sender.is_short
        most = min(most, MOST_IN_TURN if short else turn)
        if (taken := sender.take(room, self._credit(stream), most)) is None:
            return 0
        self._count(stream, before, [] if short else streams)
        packets: int
        start, count, packets = taken
        self._payloads.append((name, start, count, packets, sender.buffer, start - sender.buffer_start))
        offsets = range(start, start + count * packets, count)
        self._packets += [
            StreamPacket(n, now, size, sender, at, at + count) for n, at in enumerate(offsets, number)
        ]
        self._number = number + packets
        return packets

    def _take_frames(self, streams: list[Any], frames: "_Frames", room: int) -> bool:
        """Add the next frame of each of `streams` to `frames`, as long as there is `room`.

        Return whether there was any frame, or no room for one.
        """
        fresh: set[Any] = set()  # aioquic has a set too, so the order of those served is as any
        cramped = False  # a stream had no room for its header and a byte
        for stream in streams:
            if room < _LEAST_FRAME:
                break
            sender, name = stream.sender, varint(stream.stream_id)
            before, at = sender.highest_offset, sender.next_offset
            left = room - _FRAME - len(name) - (size_uint_var(at) if at else 0)
            if (taken := sender.take_frame(left, self._credit(stream))) is None:
                cramped = cramped or left <= 0
                continue
            start, data, end = taken
            frame = stream_frame(name, start, data, end=end)
            frames.add(frame, sender, start, start + len(data), end=end)
            room -= len(frame)
            if sender.highest_offset > before:
                self._count(stream, before)
                if not sender.is_short:
                    fresh.add(stream)
        if fresh:
            streams[:] = [stream for stream in streams if stream not in fresh]
            streams.extend(fresh)
        return room < _LEAST_FRAME or cramped or bool(frames.data)

    def _count(self, stream: Any, before: int, streams: list[Any] | None = None) -> None:
        """Count the data beyond offset `before` as sent. It moves the stream to the end of `streams`."""
        fresh = stream.sender.highest_offset - before
        self._engine.remote_max_data_used += fresh
        if fresh and streams and len(streams) > 1:  # the next stream has its turn
            streams.remove(stream)
            streams.append(stream)

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

    @property
    def size(self) -> int:
        """Bytes of the packets so far, as far as they count in the window."""
        return sum([packet.sent_bytes for packet in self._packets if packet.in_flight])

    def pad(self, size: int, handlers: list[Any]) -> None:
        """Add a packet with a PING frame and padding, of `size` bytes."""
        packet = self._sent(size, handlers, eliciting=True)
        packet.in_flight = False
        self._add(packet, b"\x01".ljust(size - len(self._head) - _NUMBER - _TAG, b"\0"))

    def _add(self, packet: Any, payload: bytes) -> None:
        """Add a packet with the frames `payload`."""
        self._payloads.append(payload)
        self._packets.append(packet)
        self._number += 1

    def _record(self, lead: bytes, ack: bytes, frames: "_Frames", overhead: int, *, eliciting: bool) -> Any:
        """The record of a packet with the frames `lead`, of which `ack` is one or empty, and `frames`."""
        size = overhead + len(lead) + frames.size
        if len(lead) == len(ack) and (alone := frames.alone):
            if not ack:
                return StreamPacket(self._number, self._now, size, *alone)
            return AnsweringPacket(ack_handler(self._engine), self._number, self._now, size, *alone)
        handlers: list[Any] = [ack_handler(self._engine)] if ack else []
        return self._sent(size, handlers + frames.handlers, eliciting=eliciting or bool(frames.data))

    def _sent(self, size: int, handlers: list[Any], *, eliciting: bool) -> QuicSentPacket:
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

    def finish(self) -> Datagrams:
        """Return the UDP datagrams, and record their packets as sent."""
        engine, packets = self._engine, self._packets
        if not packets:
            return []
        engine.loss.on_packets_sent(packets, self._space, self._now)
        engine.packet_number = self._number
        if not engine.ack_eliciting_sent_since_receipt and packets[-1].is_ack_eliciting:
            engine.close_at = self._now + engine.idle
            engine.ack_eliciting_sent_since_receipt = True
        path = engine.network_paths[0]
        path.bytes_sent += sum(packet.sent_bytes for packet in packets)
        sealed = self._protection.seal(self._head, packets[0].packet_number, self._payloads)
        address = path.addr
        return [(Train(data, size) if size < len(data) else data, address) for data, size in sealed]


def short_header(engine: FastPathConnection) -> bytes:
    """The first byte of the next packets, without its mask, and the peer's connection ID."""
    first = 0x41 | engine.spin_bit << 5 | engine.keys.send.key_phase << 2
    return bytes((first,)) + engine.peer_cid.cid


class _Frames:
    """The STREAM frames of one packet."""

    __slots__ = ("data", "parts", "size")

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.parts: list[tuple[Any, int, int, bool]] = []  # sender, first offset, end offset, end of stream
        self.size = 0

    def add(self, frame: bytes, sender: Any, start: int, stop: int, *, end: bool) -> None:
        """Add a frame with the bytes `start` to `stop` of a stream."""
        self.data.append(frame)
        self.parts.append((sender, start, stop, end))
        self.size += len(frame)

    @property
    def alone(self) -> tuple[Any, int, int] | None:
        """The sender and the offsets of the only frame; None if it ends its stream, or has company."""
        if len(self.parts) != 1 or self.parts[0][3]:
            return None
        return self.parts[0][:3]

    @property
    def handlers(self) -> list[Any]:
        """The functions that aioquic calls when the packet was acknowledged or lost."""
        return [(sender.on_data_delivery, (start, stop, end)) for sender, start, stop, end in self.parts]


def datagram_frames(waiting: PendingDatagrams, room: int) -> tuple[bytes, int]:
    """DATAGRAM frames (RFC 9221 section 4) for the first datagrams that fit into `room`, and their number."""
    frames: list[bytes] = []
    share = waiting.share if waiting.contended else inf
    for data in waiting:
        size = len(data)
        length = varint(size)
        room -= 1 + len(length) + size
        if room < 0 or share <= 0:
            break
        share -= size
        frames += (b"\x31", length, data)
    return b"".join(frames), len(frames) // 3
