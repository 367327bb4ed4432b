"""One small message in a packet of its own: the short way of sending.

A batch (batch.py) may hold many packets of many streams, and so has lists, rows and records of them. Most of
the time a proxy sends little: one stream has a message, and nothing else is due. That is one packet, which is
written here at less than half the cost. It is the packet that a batch would have, with the same resulting
state.
"""

from lane_quic.fastpath.ack import ack_frame, ack_handler
from lane_quic.fastpath.batch import Datagrams, short_header
from lane_quic.fastpath.connection import FastPathConnection
from lane_quic.fastpath.send import asks_for_ack, has_more_to_say, record, settled
from lane_quic.fastpath.wire import stream_frame, varint
from lane_quic.recovery.sent_packets import AnsweringPacket, StreamPacket

SMALL = 512
"""Bytes up to which a message takes this way."""
_AROUND = 64  # bytes of a packet that surround the data, at most: headers, lengths, the AEAD tag


def send(engine: FastPathConnection, now: float, *, ack_rides: bool) -> Datagrams | None:
    """The packet with all that is to be sent now; none if there is nothing.

    None, and nothing has changed, if there is more to send than a message and an ACK. `ack_rides`: an ACK
    that is not due yet leaves with it.
    """
    if len(engine.datagrams_pending):
        return None
    if not engine.said_all and (not settled(engine) or has_more_to_say(engine)):
        return None
    streams, space, loss = engine.gather_streams(), engine.space, engine.loss
    ack_at = space.ack_at
    if not streams:
        if ack_at is not None and ack_at <= now:
            return None
        engine.pacing_at = loss.pacer.next_send_time(now)
        return []
    stream, most = streams[0], engine.max_datagram_size
    # Afterwards the window and the rate must allow another packet: a batch looks whether they do.
    if (
        len(streams) > 1
        or stream.is_blocked
        or stream.receiver.stop_pending
        or loss.room < 2 * most
        or loss.pacer.allowance(now) <= most
    ):
        return None
    sender, ack = stream.sender, b""
    if ack_at is not None and (ack_at <= now or (ack_rides and sender.is_short)):
        if asks_for_ack(engine):
            return None
        ack = ack_frame(space, now, engine.local_ack_delay_exponent)
    before: int = sender.highest_offset
    limit = min(stream.max_stream_data_remote, before + engine.remote_max_data - engine.remote_max_data_used)
    taken: range | None = sender.take_message(min(SMALL, most - _AROUND - len(ack)), limit)
    if taken is None:
        return None
    engine.remote_max_data_used += sender.highest_offset - before
    name, start, stop, number = varint(stream.stream_id), taken.start, taken.stop, engine.packet_number
    at, buffer, seal = start - sender.buffer_start, sender.buffer, engine.keys.send.protection.seal
    if ack:
        payload = ack + stream_frame(name, start, buffer[at : at + stop - start])
        ((datagram, size),) = seal(short_header(engine), number, [payload])
        packet: StreamPacket = AnsweringPacket(ack_handler(engine), number, now, size, sender, start, stop)
    else:
        ((datagram, size),) = seal(short_header(engine), number, [(name, start, stop - start, 1, buffer, at)])
        packet = StreamPacket(number, now, size, sender, start, stop)
    path = record(engine, packet, now)
    engine.note_tails(streams, now)
    return [(datagram, path)]
