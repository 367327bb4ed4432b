"""The round-trip time of a path, and how far the path reorders packets.

The estimate is that of RFC 9002 section 5. The probe timeout takes its variation from the smoothed round-trip
time (section 5.3). aioquic takes the variation from the smallest one, and so waits longer beside a queue.

The reordering window says how long an overtaken packet may still arrive. It is an eighth of the round-trip
time (RFC 9002 section 6.1.2) and widens to the lateness that was measured: how much later than its successors
an overtaken packet arrived. Packets that were already declared lost are measured too.
"""

from typing import Any

from lane_quic.internals.parts import PacketRecovery

GRANULARITY = 0.001
"""Seconds that timers and the peer's timestamps can tell apart (RFC 9002 section 6.1.2)."""
SMALLEST_RTT = 0.0001
"""Seconds. A shorter sample counts as this long."""
INITIAL_RTT = 0.1
"""Seconds assumed before the first sample."""
FORGET_ROUNDS = 64
"""Round trips without reordering after which the reordering window is halved."""


class RttEstimator(PacketRecovery):
    """The round-trip time and the reordering window of one path, in seconds."""

    __slots__ = ("_lateness", "_lateness_at", "_newest_rtt", "_spread")

    def __init__(self, **arguments: Any) -> None:
        super().__init__(initial_rtt=INITIAL_RTT, **arguments)
        self._newest_rtt = INITIAL_RTT  # of the newest packet that was acknowledged
        self._spread = GRANULARITY  # how far round trips vary (RFC 9002 section 6.2.1)
        self._lateness = 0.0  # how long after its deadline an overtaken packet arrived
        self._lateness_at = 0.0  # when that was measured

    @property
    def rtt(self) -> float | None:
        """Smoothed round-trip time, seconds; None before the first sample."""
        return self.rtt_smoothed if self.rtt_initialized else None

    @property
    def least_rtt(self) -> float:
        """The shortest round-trip time, seconds."""
        return self.rtt_min

    @property
    def reordering_window(self) -> float:
        """Seconds that an overtaken packet may still take to arrive."""
        if not self.rtt_initialized:
            return INITIAL_RTT / 8
        longest = max(self.rtt_smoothed, self._newest_rtt)
        return min(max(self.rtt_min / 8, GRANULARITY, self._lateness * 1.25 + GRANULARITY), longest)

    def get_probe_timeout(self, *, include_max_ack_delay: bool = True) -> float:
        """Seconds; see RFC 9002 section 6.2.1."""
        if not self.rtt_initialized:
            return 2 * self.rtt_initial
        delay = self.max_ack_delay if include_max_ack_delay else 0.0
        return self.rtt_smoothed + self._spread + delay

    def _forget_rtt(self) -> None:
        """Start again: the path is another one now."""
        self.rtt_initialized = False
        self._newest_rtt, self._lateness = INITIAL_RTT, 0.0

    def _add_rtt(self, now: float, latest: float, ack_delay: float) -> float:
        """Add a sample (seconds) to the estimate. Return the sample without the peer's delay."""
        latest = max(latest, SMALLEST_RTT)
        if not self.rtt_initialized:
            self.rtt_initialized, self.rtt_first_sample_time = True, now
            self.rtt_min = self.rtt_smoothed = self.rtt_latest = latest
            self.rtt_variance = latest / 2
            self._spread = max(4 * self.rtt_variance, GRANULARITY)
            return latest
        self.rtt_min = min(self.rtt_min, latest)
        ack_delay = min(ack_delay, self.max_ack_delay)
        if latest >= self.rtt_min + ack_delay:
            latest -= ack_delay
        self.rtt_latest = latest
        self.rtt_variance += (abs(self.rtt_smoothed - latest) - self.rtt_variance) / 4
        self._spread = max(4 * self.rtt_variance, GRANULARITY)
        self.rtt_smoothed += (latest - self.rtt_smoothed) / 8
        return latest

    def _add_lateness(self, acked: list[Any], overtaken_before: int, late: list[Any], now: float) -> None:
        """Measure how late the overtaken packets in `acked` and `late` are.

        A packet is overtaken up to the number `overtaken_before`. Its deadline is one round trip, that of the
        packet which overtook it.
        """
        if not self.rtt_initialized:
            return
        worst = 0.0
        for packets in (acked, late):
            for packet in packets:
                if packet.packet_number > overtaken_before:
                    break
                worst = max(worst, now - packet.sent_time - self._newest_rtt)
        if worst > 0:
            if worst >= self._lateness / 2:
                self._lateness_at = now
            self._lateness = max(self._lateness, min(worst, self.rtt_smoothed))
        elif now - self._lateness_at > FORGET_ROUNDS * self.rtt_smoothed:
            self._lateness, self._lateness_at = self._lateness / 2, now
