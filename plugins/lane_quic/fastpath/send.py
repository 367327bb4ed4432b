"""The sending fast path: packets with datagrams, STREAM frames and an ACK are written directly.

aioquic checks for each packet which frames might be due, and builds it frame by frame. The fast path needs
only datagrams, stream data and an ACK to be due. Then the packets are known beforehand (batch.py). They are
those that aioquic would send, with the same resulting state, at less than half the cost. aioquic handles
everything less common. tests/unit/lane_quic/fastpath/test_send_and_receive.py compares packet by packet.

Two things differ. If the congestion window has room for less than a full packet, stream data waits for the
next acknowledgement, where aioquic would send a smaller packet; datagrams are sent if they fit. And a stream
with much to send may fill more than one packet in its turn.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from aioquic.quic.connection import QuicConnectionState

from lane_quic.fastpath.batch import Batch, Datagrams
from lane_quic.fastpath.connection import FastPathConnection

PROBING = 64
"""Bytes of a packet that validates a path, at least, roughly."""
_was_sent = attrgetter("was_sent")  # a generator takes five times as long


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
    if not settled(engine) or has_more_to_say(engine):
        return [], False
    space = engine.space
    ack_at = space.ack_at
    ack = ack_at is not None and ack_at <= now
    if ack and asks_for_ack(engine):
        return [], False
    streams = engine.gather_streams()
    for stream in streams:
        if stream.is_blocked or has_end(stream):
            return [], False
    pacer = engine.loss.pacer
    budget = pacer.allowance(now)
    ack = ack and (ack_at < now or budget > 0)
    short = [stream for stream in streams if stream.sender.is_short]
    ahead = pacer.advance if short and len(short) < len(streams) else 0
    done, busy, batch = True, [*streams], None
    if ack or (budget + ahead > 0 and (streams or engine.datagrams_pending)):
        batch = Batch(engine, now)
        if ahead:
            batch.fill(short, engine.datagrams_pending, budget + ahead, with_ack=ack)
            ack, budget = False, budget - batch.size
        if ack or budget > 0 or not ahead:
            done = batch.fill(streams, engine.datagrams_pending, budget, with_ack=ack)
        pacer.begin(batch.count)
    engine.pacing_at = pacer.next_send_time(now)
    datagrams = batch.finish() if batch else []
    done = done or engine.pacing_at is not None
    if streams and done:  # as `Engine.write_application` does
        streams.append(streams.pop(0))
    if datagrams:
        engine.note_tails(busy, now)
    return datagrams, done


def held_up(engine: FastPathConnection, streams: list[Any], now: float) -> bool:
    """Whether aioquic has something to write before `send` can, of the connection or for one of `streams`."""
    ack_at = engine.space.ack_at
    return (
        has_more_to_say(engine)
        or (ack_at is not None and ack_at <= now and asks_for_ack(engine))
        or any(map(has_end, streams))
    )


def record(engine: FastPathConnection, packet: Any, now: float) -> Any:
    """Note that `packet`, which elicits an ACK, is sent alone, and that more may be. Return its path."""
    engine.loss.on_packet_sent(packet=packet, space=engine.space)
    engine.packet_number = packet.packet_number + 1
    engine.pacing_at = None
    if not engine.ack_eliciting_sent_since_receipt:
        engine.close_at = now + engine.idle
        engine.ack_eliciting_sent_since_receipt = True
    path = engine.network_paths[0]
    path.bytes_sent += packet.sent_bytes
    return path.addr


def has_end(stream: Any) -> bool:
    """Whether something other than data is to be sent for the stream, or aioquic drops it."""
    return bool(stream.sender.reset_pending or stream.receiver.stop_pending or stream.is_finished)


def asks_for_ack(engine: FastPathConnection) -> bool:
    """Whether aioquic adds a PING to the next ACK, so that its ACKs are acknowledged."""
    return len(engine.space.ack_queue) > 1 and not engine.packet_number % 8


def probe(engine: FastPathConnection, size: int, now: float, on_fate: Callable[[Any], None]) -> Datagrams:
    """A packet of `size` bytes without data. `on_fate` is called when it is acknowledged or lost.

    It does not count in the window or the rate: its loss is no sign of congestion (RFC 9000 section 14.4).
    """
    batch = Batch(engine, now)
    batch.pad(size, [(on_fate, ())])
    return batch.finish()


def has_more_to_say(engine: FastPathConnection) -> bool:
    """Whether a frame other than stream data is due, or the path needs aioquic's care."""
    if engine.said_all:
        return False
    if engine.abandoned:
        engine.raise_connection_limit()
    data, streams = engine.local_max_data, engine.local_max_streams_bidi
    paths = engine.network_paths
    more = bool(
        engine.probe_pending
        or engine.ping_pending
        or engine.streams.with_credit
        or data.value != data.sent
        or not paths[0].is_validated
        or (len(paths) > 1 and any(_is_asked(path, engine) for path in paths[1:]))
        or paths[0].remote_challenges
        or engine.handshake_done_pending
        or engine.retire_connection_ids
        or engine.streams_blocked_pending
        or streams.sent - streams.used < streams.value - streams.sent
        or not engine.tls_messages.sender.buffer_is_empty
        or not all(map(_was_sent, engine.issued_cids))
    )
    # Streams that nobody reads may get more, which gives credit.
    engine.said_all = not (more or engine.abandoned) and settled(engine)
    return more


def _is_asked(path: Any, engine: FastPathConnection) -> bool:
    """Whether another path than that in use is to be validated, by us or by the peer, and can be.

    One that the peer has left may have got all that it may before it is validated.
    """
    asked = path.remote_challenges or not (path.is_validated or path.local_challenge_sent)
    return bool(asked and path.can_send(PROBING) and (path.peer_cid or engine.peer_cid_available))
