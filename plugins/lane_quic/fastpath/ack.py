"""ACK frames (RFC 9000 section 19.3), written and parsed directly."""

from typing import Any

from lane_quic.fastpath.connection import FastPathConnection
from lane_quic.fastpath.wire import read_varint, varint


def ack_frame(space: Any, now: float, exponent: int) -> bytes:
    """An ACK frame for `space` at the time `now`, seconds. `exponent` scales its ACK delay."""
    delay = int((now - space.largest_received_time) * 1000000)
    ranges = space.ack_queue[::-1]
    low = ranges[0].start
    parts = [
        b"\x02",
        varint(ranges[0].stop - 1),
        varint(delay >> exponent),
        varint(len(ranges) - 1),
        varint(ranges[0].stop - 1 - low),
    ]
    for r in ranges[1:]:
        parts += [varint(low - r.stop - 1), varint(r.stop - r.start - 1)]
        low = r.start
    return b"".join(parts)


def ack_handler(engine: FastPathConnection) -> tuple[Any, tuple[Any, int]]:
    """The delivery handler of an ACK frame that is sent now. None is due any longer."""
    space = engine.space
    space.ack_at = None
    return engine.on_ack_delivery, (space, space.largest_received_packet)


def take_ack(engine: FastPathConnection, plain: bytes, at: int, now: float) -> int | None:
    """Process an ACK frame whose body begins at `at`. Return its end; None if it is malformed or false."""
    try:
        largest, at = read_varint(plain, at)
        delay, at = read_varint(plain, at)
        more, at = (plain[at], at + 1) if plain[at] < 0x40 else read_varint(plain, at)
        count, at = (plain[at], at + 1) if plain[at] < 0x40 else read_varint(plain, at)
        low = largest - count
        ranges = [range(low, largest + 1)]
        for _ in range(more):
            gap, at = read_varint(plain, at)
            count, at = read_varint(plain, at)
            high = low - gap - 1
            low = high - 1 - count
            ranges.append(range(low, high))
    except IndexError:
        return None
    ranges.reverse()
    if low < 0 or at > len(plain) or engine.never_sent(ranges):
        return None
    engine.acked, engine.said_all = True, False  # what was lost may be due again
    engine.loss.peer_completed_address_validation = True
    engine.loss.on_ack(ranges, (delay << engine.remote_ack_delay_exponent) / 1000000, now, engine.space)
    engine.note_rtt()
    return at
