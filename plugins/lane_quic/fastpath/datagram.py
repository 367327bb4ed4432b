"""All waiting datagrams in one packet: the short way of sending them.

A batch (batch.py) may hold many packets of many streams, and so has lists, rows and records of them. Most of
the time an association has one small packet, and nothing else is due. That is one packet of the connection,
which is written here at less than half the cost. It is the packet that a batch would have, with the same
resulting state.
"""

from lane_quic.fastpath.ack import ack_frame, ack_handler
from lane_quic.fastpath.batch import AROUND, Datagrams, datagram_frames, short_header
from lane_quic.fastpath.connection import FastPathConnection
from lane_quic.fastpath.send import asks_for_ack, has_more_to_say, record, settled
from lane_quic.recovery.sent_packets import DatagramPacket


def send(engine: FastPathConnection, now: float, *, ack_rides: bool) -> Datagrams | None:
    """The packet with all waiting datagrams, of which there are some, and an ACK if one is due.

    None, and nothing has changed, if they need several packets, or if there is more to send. `ack_rides`: an
    ACK that is not due yet leaves with it.
    """
    waiting, space, loss, most = engine.datagrams_pending, engine.space, engine.loss, engine.max_datagram_size
    # Afterwards the window and the rate must allow another packet: a batch looks whether they do.
    if (
        (not engine.said_all and (not settled(engine) or has_more_to_say(engine)))
        or loss.room < 2 * most
        or loss.pacer.allowance(now) <= most
        or engine.gather_streams()
    ):
        return None
    head, number, ack_at, ack = short_header(engine), engine.packet_number, space.ack_at, b""
    if ack_at is not None and (ack_at <= now or ack_rides):
        if asks_for_ack(engine):
            return None
        ack = ack_frame(space, now, engine.local_ack_delay_exponent)
    waiting.contended = False
    frames, count = datagram_frames(waiting, most - len(head) - AROUND - len(ack))
    if count < len(waiting):
        return None
    waiting.take_all()
    ((data, size),) = engine.keys.send.protection.seal(head, number, [ack + frames])
    packet = DatagramPacket(number, now, size, (ack_handler(engine),) if ack else ())
    return [(data, record(engine, packet, now))]
