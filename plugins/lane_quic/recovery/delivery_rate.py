"""The delivery rate of the path: one sample for each acknowledgement.

Each packet records how many bytes had been delivered when it was sent. When it is acknowledged, the bytes
that were delivered since, divided by the elapsed time, give the rate. The elapsed time is the time of
sending or the time of the ACKs, whichever is longer. This follows draft-ietf-ccwg-bbr-05, section 4.1
(delivery rate samples), formerly draft-cheng-iccrg-delivery-rate-estimation-02.
"""

from collections.abc import Sequence
from typing import Any

from lane_quic.congestion import Packet, Sample


class DeliveryRate:
    """The bytes that one connection has delivered. Times are `time.monotonic()`, amounts are bytes."""

    def __init__(self) -> None:
        self.delivered = 0
        self.lost = 0
        self.received = 0  # in whole datagrams, whoever sent them
        self._delivered_at = 0.0
        self._first_sent_at = 0.0  # when the newest packet of the last sample was sent
        self._limited_until = 0  # until so much is delivered, the application limits the rate

    def on_sent(self, packet: Any, in_flight: int) -> None:
        """Record in `packet` the state at its sending. `in_flight` bytes were in flight before it."""
        if not in_flight:
            self._first_sent_at = self._delivered_at = packet.sent_time
        packet.sent_state = (
            self.delivered, self._delivered_at, self._first_sent_at, self.delivered < self._limited_until
        )  # fmt: skip

    def on_limited(self, in_flight: int) -> None:
        """Note that the application has nothing to send although the window has room."""
        self._limited_until = self.delivered + (in_flight or 1)

    def sample(self, now: float, acked: Sequence[Packet], min_rtt: float, rtt: float | None) -> Sample:
        """The sample from an acknowledgement of `acked`, in the order of sending. Times are seconds.

        The caller adds the totals, since it knows the losses too.
        """
        newest: Any = acked[-1] if acked else None
        if newest is None:
            return Sample(now, rtt=rtt)
        self.delivered += sum([packet.sent_bytes for packet in acked])
        before, before_at, first_sent_at, limited = newest.sent_state
        interval = max(newest.sent_time - first_sent_at, now - before_at)
        self._first_sent_at, self._delivered_at = newest.sent_time, now
        # An interval below the round-trip time is wrong: the ACK gave no round-trip sample.
        rate = (self.delivered - before) / interval if interval >= min_rtt and interval > 0 else 0.0
        return Sample(now, acked=acked, rtt=rtt, rate=rate, limited=limited, round_delivered=before)

    def arrived_late(self, packet: Packet) -> None:
        """Note that `packet` arrived after it was declared lost."""
        self.delivered += packet.sent_bytes
        self.lost -= packet.sent_bytes
