"""How fast the network delivers: a sample for each acknowledgement.

Each packet remembers how much had been delivered when it left. When it is acknowledged, what arrived in
the meantime, over the time that took, is what the path carried: at most the rate it was sent at, and at
most the rate the ACKs came at, whichever took longer. Follows draft-ietf-ccwg-bbr-05, section 4.1
(delivery rate samples, before that draft-cheng-iccrg-delivery-rate-estimation-02).
"""

from collections.abc import Sequence
from typing import Any

from lane_quic.congestion import Packet, Sample


class DeliveryRate:
    """What one connection has delivered; times are `time.monotonic()`, amounts bytes."""

    def __init__(self) -> None:
        self.delivered = 0
        self.lost = 0
        self._delivered_at = 0.0
        self._first_sent_at = 0.0  # when the packet left that ended the last sample
        self._limited_until = 0  # while less was delivered: the application sets the rate

    def on_sent(self, packet: Any, in_flight: int) -> None:
        """`packet` leaves; `in_flight` bytes were there before."""
        if not in_flight:
            self._first_sent_at = self._delivered_at = packet.sent_time
        packet.sent_state = (
            self.delivered, self._delivered_at, self._first_sent_at, self.delivered < self._limited_until
        )  # fmt: skip

    def on_limited(self, in_flight: int) -> None:
        """The application has nothing to send although there is room."""
        self._limited_until = self.delivered + max(in_flight, 1)

    def sample(self, now: float, acked: Sequence[Packet], min_rtt: float, rtt: float | None) -> Sample:
        """What the acknowledgement of `acked` (in the order they were sent) tells; times in seconds.

        The totals are left to who knows what was lost as well.
        """
        newest: Any = acked[-1] if acked else None
        if newest is None:
            return Sample(now, rtt=rtt)
        self.delivered += sum(packet.sent_bytes for packet in acked)
        before, before_at, first_sent_at, limited = newest.sent_state
        interval = max(newest.sent_time - first_sent_at, now - before_at)
        self._first_sent_at, self._delivered_at = newest.sent_time, now
        # Less than a round trip can't be true: it is of an ACK that told of no round trip.
        rate = (self.delivered - before) / interval if interval >= min_rtt and interval > 0 else 0.0
        return Sample(now, acked=acked, rtt=rtt, rate=rate, limited=limited, round_delivered=before)

    def arrived_late(self, packet: Packet) -> None:
        """`packet` had been declared lost, and was not."""
        self.delivered += packet.sent_bytes
        self.lost -= packet.sent_bytes
