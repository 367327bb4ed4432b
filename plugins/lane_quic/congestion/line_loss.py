"""Line loss: the packets that a path loses whatever the sending rate is, as radio links do.

BBR sends more to make up for it. Loss that depends on the rate comes from a full queue or a policer, and must
not count. So the line loss is learnt only in rounds without a queue, and the loss seen while draining caps
it.
"""

import math

from lane_quic.congestion import Sample

MAX_LINE_LOSS = 0.35
"""The largest line loss that is made up for, as a fraction. Above it the extra packets do more harm."""
LUCK = 1.25
"""Standard deviations of a round's delivery rate by which the largest of ten rounds exceeds the bandwidth."""


class LineLoss:
    """The loss of one path that occurs at any rate, as a fraction (0 to 1)."""

    def __init__(self, datagram_size: int) -> None:
        self._size = datagram_size
        self._enough = 20 * datagram_size
        self._seen = 0.0
        self._delivered = self._lost = 0  # at the start of the rounds being counted
        self._start_round: tuple[int, int] | None = None  # bytes lost and in all, in the last round
        self._start_lost = self._start_total = 0
        self._drain = (0.0, 0.0)  # when the last drain began and ended
        self._drained_sent = self._drained_lost = 0.0

    @property
    def value(self) -> float:
        """The line loss. The loss of packets sent slowly, while draining, is its upper bound."""
        value = min(self._seen, MAX_LINE_LOSS)
        if self._drained_sent >= 50:
            value = min(value, 1.25 * self._drained_lost / self._drained_sent + 0.01)
        return value

    def made_up_for(self, bandwidth: float, rtt: float) -> float:
        """The rate, bytes a second, that fills a path whose largest delivery rate is `bandwidth`.

        Random losses scatter the delivery rates, so the largest is too large: its luck is left out. Otherwise
        it would stand in the queue.
        """
        loss = self.value
        if not loss:
            return bandwidth
        rate = bandwidth / (1 - loss)
        packets = max(rate * rtt / self._size, 1.0)  # of a round
        return rate / (1 + LUCK * math.sqrt(loss / (1 - loss) / packets))

    def end_round(self, sample: Sample, queue: bool) -> None:
        """Count a round. A round with a `queue` does not count: the queue may have dropped packets."""
        lost = max(0, sample.lost - self._lost)
        total = sample.delivered - self._delivered + lost
        if not queue and total > self._enough:
            self._seen += (lost / total - self._seen) / 4
        if queue or total > self._enough:
            self._delivered, self._lost = sample.delivered, sample.lost

    def assume(self, loss: float) -> None:
        """Learn that the line loses this fraction at least, if it does so too while sending slowly.

        Then a queue of the other direction, see both_ways.py, does not keep it from being learnt.
        """
        if self._drained_sent >= 50:
            least = min(loss, self._drained_lost / self._drained_sent)
            self._seen += max(least - self._seen, 0.0) / 4

    def end_start_round(self, sample: Sample, *, grew: bool) -> None:
        """Count a round of the start if the next one `grew`: the last ones may have overflowed a queue."""
        if not self._delivered:  # the first round: what came before it was on another path
            self._delivered, self._lost = sample.delivered, sample.lost
        if grew and self._start_round is not None:
            lost, total = self._start_round
            self._start_lost += lost
            self._start_total += total
            self._seen = self._start_lost / max(1, self._start_total)
        lost = max(0, sample.lost - self._lost)
        self._start_round = lost, sample.delivered - self._delivered + lost
        self._delivered, self._lost = sample.delivered, sample.lost

    def start_again(self, sample: Sample) -> None:
        """Count the rounds of another start, on a path that is another one now."""
        self._start_lost = self._start_total = 0
        self._start_round = None
        self._delivered, self._lost = sample.delivered, sample.lost

    def drained(self, start: float, end: float) -> None:
        """Note that packets were sent slowly from `start` to `end`, seconds."""
        self._drain = start, end

    def count_drained(self, sample: Sample, rtt: float) -> None:
        """Count the packets of the last drain that arrived or were lost. `rtt` is in seconds."""
        start, end = self._drain
        if sample.now > end + 2 * rtt:
            return
        arrived = sum(start <= packet.sent_time < end for packet in sample.acked)
        lost = sum(start <= packet.sent_time < end for packet in sample.dropped)
        self._drained_sent += arrived + lost
        self._drained_lost += lost
        if self._drained_sent > 192:
            self._drained_sent /= 2
            self._drained_lost /= 2
