"""Probe timeouts: what a sender does that hears nothing (RFC 9002 section 6.2).

A probe timeout sends up to two packets again. On a path that loses packets it departs from the RFC, since
losses come in bursts there. On a quiet line such a burst lasts for so many packets, and not for some time. A
line is quiet as well when a bulk transfer's window is full because ACKs were lost. So more packets follow the
first two at short intervals, each of which may bring an ACK, and the timeout hardly doubles. On other paths
it doubles, but not without bound.
"""

from math import inf
from typing import Any

from lane_quic.recovery.pacer import Pacer
from lane_quic.recovery.rtt_estimator import RttEstimator

PROBES = 2
"""Packets that a probe timeout sends again at once, at most (RFC 9002 section 6.2.4)."""
FOLLOWERS = 16
"""Packets that follow them on a lossy path, one by one, as long as nothing is heard: at most so many, and as
many as there is time for in a probe timeout."""
FOLLOWER_PAUSE = 0.003
"""Seconds between them, at least."""
FOLLOWER_GAP = 10.0
"""The same in packets at the path's rate: they take a tenth of it."""
LEAST_DOUBLINGS = 2
"""How often the probe timeout may double whatever its length."""
LONGEST_BACKOFF = 0.5
"""Seconds up to which the probe timeout doubles after that. RFC 9002 sets no bound. Long bursts of losses
would raise it to a minute, and a few packets a second harm nobody."""
LOSSY = 0.015
"""Recent loss, as a fraction (0 to 1), that makes a path lossy: from there on tails are repeated, too."""
LOSSY_BACKOFF = 0.15
"""The same as `LONGEST_BACKOFF` for the first timeouts on a lossy path."""
LOSSY_TIMEOUTS = 8
"""Timeouts in a row after which it is no burst."""
RECENT = 512
"""Packets over which the recent loss is counted, roughly."""


class ProbeTimeout(RttEstimator):
    """The probe timeouts of one connection, and the recent loss, on which they depend."""

    __slots__ = ("_followers", "_known_recently", "_lost_recently", "counted", "timeouts")

    def __init__(self, datagram_size: int, **arguments: Any) -> None:
        super().__init__(max_datagram_size=datagram_size, **arguments)
        self.pacer = Pacer(datagram_size)
        self.timeouts = 0
        """Probe timeouts in a row since the last acknowledgement."""
        self.counted = 0
        """Packets known to be delivered or lost: the basis of `recent_loss`."""
        self._followers = 0  # packets that may still follow those of the last timeout
        self._known_recently = self._lost_recently = 0.0

    @property
    def recent_loss(self) -> float:
        """Fraction (0 to 1) of the last few hundred packets that was lost."""
        return self._lost_recently / (self._known_recently or 1.0)

    def _count(self, known: int, lost: int) -> None:
        """Add `known` packets, of which `lost` were lost, to `recent_loss`."""
        self.counted += known
        self._known_recently += known
        self._lost_recently += lost
        if self._known_recently > RECENT:
            self._known_recently /= 2
            self._lost_recently /= 2

    def _heard(self) -> None:
        """Note that the peer acknowledged something."""
        self.timeouts = self._followers = 0

    def _probe_time(self) -> float:
        """When to probe, if nothing is heard until then. The handshake is confirmed."""
        wait = self._gap if self._followers else self.get_probe_timeout() * 2**self.pto_count
        at: float = self.time_of_last_sent_ack_eliciting_packet + wait
        return at

    @property
    def _gap(self) -> float:
        """Seconds between two followers."""
        packet: float = self.pacer.datagram_size / (self.pacer.rate or inf)
        return max(FOLLOWER_PAUSE, FOLLOWER_GAP * packet)

    def _probe(self, now: float) -> None:
        """Send something again, since nothing was heard."""
        if self._followers:
            self._followers -= 1
            self.reschedule_data(now=now)
            return
        self.timeouts += 1
        longer = 2 ** (self.pto_count + 1) * self.get_probe_timeout()
        burst = self.timeouts <= LOSSY_TIMEOUTS
        if burst and self.recent_loss >= LOSSY:
            doubles = longer <= LOSSY_BACKOFF
        else:
            doubles = self.pto_count < LEAST_DOUBLINGS or longer <= LONGEST_BACKOFF
        self.pto_count += doubles
        for _ in range(PROBES):
            self.reschedule_data(now=now)
        # The probes count as lost until they arrive. So a path of which little is known is lossy now.
        if burst and self.handshake_confirmed and self.recent_loss >= LOSSY:
            self._followers = min(FOLLOWERS, int(self.get_probe_timeout() / self._gap))
