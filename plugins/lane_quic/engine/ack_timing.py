"""When an ACK leaves: late enough to save packets, and early enough for the peer.

An ACK in a packet of its own costs both sides as much as a packet with data. So it waits for more packets to
acknowledge, and for data that leave anyway. It does not wait where the peer waits for it: if a packet is
missing (RFC 9000 section 13.2.1), or if its window may be full.
"""

from collections.abc import Sequence
from typing import Any

from lane_quic.engine.connection_view import ConnectionView
from lane_quic.internals.parts import ranges_of

MIN_ACK_DELAY = 0.001
"""The shortest ACK delay, seconds. The delay is an eighth of a round trip."""
MAX_ACK_DELAY = 0.005
"""The longest ACK delay, seconds."""
ACK_DELAY_SLACK = 0.001
"""Seconds that late timers may add to the ACK delay."""
ACK_EVERY = 256
"""Received packets after which an ACK is due at once."""
ACK_SOON = 0.002
"""An ACK due within these seconds is sent with the next received packets. That saves a wake-up."""
ACK_RIDES = 0.0025
"""Seconds after the last ACK from which the next one leaves with data, although it is not due. A packet of
its own costs both sides as much as one with data."""
FEW = 8
"""Small packets whose ACK waits for `MAX_ACK_DELAY`, and so often leaves with data. Nobody waits for it: so
few bytes fill no window, and a gap is told of at once."""
SMALL = 512
"""Bytes up to which a packet counts as small."""


class AckTiming(ConnectionView):
    """A connection that chooses when its ACKs leave."""

    __slots__ = ("_acked_at", "_unacknowledged")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._unacknowledged = 0  # packets received since our last ACK
        self._acked_at = 0.0  # when that was sent

    def _ack_state(self) -> tuple[float | None, int]:
        """When the next ACK is due, and how many ranges of packets it reports."""
        space = self.space
        return (None, 0) if space is None else (space.ack_at, len(ranges_of(space.ack_queue)))

    def _time_ack(self, datagrams: Sequence[bytes], now: float, before: tuple[float | None, int]) -> None:
        """Choose when to acknowledge `datagrams`, which were just received. `before`: see `_ack_state`."""
        space, (due, ranges), count = self.space, before, len(datagrams)
        if space is None or space.ack_at is None:
            return
        self._unacknowledged += count
        if (
            (due is not None and due - now <= ACK_SOON and due - now <= self.ack_delay / 2)
            or self._unacknowledged >= ACK_EVERY
            or 1 < len(ranges_of(space.ack_queue)) > ranges
        ):
            space.ack_at = now
        elif count > 1 or len(datagrams[0]) > SMALL or self._unacknowledged > FEW:
            space.ack_at = min(space.ack_at, now + self.ack_delay)
        elif due is None:
            space.ack_at = now + MAX_ACK_DELAY

    def _ack_may_ride(self, now: float) -> bool:
        """Whether an ACK that is not due yet may leave with little data: no other one has just left."""
        waits = self._unacknowledged > 0 and self.space.ack_at is not None
        return waits and now - self._acked_at >= ACK_RIDES

    def _note_acked(self, now: float) -> None:
        """Note that packets were sent, maybe with the ACK."""
        if self._unacknowledged and self.space.ack_at is None:
            self._unacknowledged, self._acked_at = 0, now

    def note_rtt(self) -> None:
        """See `FastPathConnection`."""
        self.ack_delay = min(MAX_ACK_DELAY, max(MIN_ACK_DELAY, (self.loss.rtt or 0) / 8))
        self.idle = self.idle_timeout()
