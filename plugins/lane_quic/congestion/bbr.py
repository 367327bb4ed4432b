"""BBR: send at the rate that the network delivers, whatever it loses, and keep its queues short.

A model of the path instead of a reaction to loss: the bandwidth is the largest delivery rate of the last
ten round trips, the round trip the smallest of the last ten seconds. Pacing at the one and a window of
two bandwidth-delay products (BDP) keep the link busy. Every eighth round trip probes for more (a quarter
above), the next one drains what that left in the queue, the rest cruise.

Follows BBR version 1: Cardwell and others, "BBR: Congestion-Based Congestion Control", ACM Queue 14(5),
2016, and draft-cardwell-iccrg-bbr-congestion-control-00. Where it departs from that, and why:

- Start. 64 packets first, then three times as many each round trip (the draft: 10, and twice as many): a
  path of 200 ms is full in 0.8 s. It ends at the first sign of a queue (all of the last eight round trips
  above the smallest), as HyStart++ does (RFC 9406), not after three rounds without growth.
- Line loss. What the line loses behind the bottleneck still took its time there, so 10 % of loss leaves
  10 % of the link idle unless that much more is sent. Loss is learnt in rounds without a queue. What
  vanishes when we slow down is no line loss but a policer or a short buffer: the loss seen while draining
  caps the correction.
- A standing queue. The largest of many noisy rates is too large, and the excess stands in the queue. After
  a round in which even the smallest round trip shows one, pacing is cut, down to 0.91. Not further: below
  0.8 the probes (1.25) no longer gain against a competitor, and a flow beside Cubic starves.
- Round trips that rose. A queue that stands for 16 rounds in spite of that may be no queue: the smallest
  round trip is measured anew, not only after ten seconds.
- Measuring the round trip: with half a BDP in flight (draft-ietf-ccwg-bbr-04; version 1 takes four
  packets), and only if no sample came near the smallest one of late, which drained queues usually bring.
- More bandwidth. A probe that found at least 15 % more is followed by the next one at once.
- Much less bandwidth. Ten rounds are long when each waits behind a full queue: if a queue stands and three
  rounds have brought less than half, older rates are forgotten.
"""

import math
import random
from enum import Enum

from lane_quic.congestion import Packet, Sample

INITIAL_PACKETS = 64
START_PACING, START_GROWTH, START_WINDOW = 2.0, 3.0, 3.0
"""At the start: how fast a window leaves (in half a round trip), how it grows, and its bound in BDPs."""
FIRST_PACING = 4.0
"""The first window leaves in a quarter of a round trip: of the path, no rate is known yet."""
RECENT_RTTS = 8
QUEUE_SIGN = (1.125, 0.003)
"""The start ends when eight round trips in a row are above this factor of the smallest, plus seconds,"""
FULL_ROUNDS = 3
"""or after as many rounds in which the bandwidth did not grow by a quarter."""
SETTLE_ROUNDS, SETTLE_WINDOW = 2, 2.5
"""Rounds at the bandwidth found, until the last samples of the start have come, and the window then."""
DRAIN_PACING = 0.5
CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
PROBING, DRAINING, CRUISING = 0, 1, 2
PAYING_PROBE = 1.15
WINDOW_GAIN = 2.0
BANDWIDTH_ROUNDS = 10
COLLAPSE_ROUNDS, COLLAPSE = 3, 0.5
MIN_RTT_AGE, NEAR_MIN_RTT = 10.0, (1.02, 0.001)
RTT_PROBE_TIME, RTT_PROBE_WINDOW = 0.2, 0.5
MAX_LINE_LOSS = 0.35
"""Beyond this, sending more to make up for it is no longer reasonable."""
NO_QUEUE = (1.1, 0.004)
"""Line loss is learnt in rounds with no round trip above this factor of the smallest, plus seconds."""
STANDING = (1.06, 0.002)
"""A queue stands if all round trips of a round are above this factor of the smallest, plus seconds."""
YIELD, MOST_YIELD = 0.94, 0.91
STANDING_ROUNDS, FEW_ROUNDS = 16, 4
LEAST_PACKETS = 4
LATENESS = 0.008
"""Seconds that acknowledgements are held back by the peer, by timers and by batches."""
SHORTEST_PHASE = 0.005


class BbrState(Enum):
    """What the controller is doing."""

    START = "start"
    SETTLE = "settle"
    DRAIN = "drain"
    CYCLE = "cycle"
    PROBE_RTT = "probe rtt"


class Bbr:
    """One connection's controller, for datagrams of so many bytes. The seed only shifts its cycle."""

    def __init__(self, datagram_size: int, seed: int | None = None) -> None:
        self._size = datagram_size
        # It hides nothing, and one of its own is 2.5 KB.
        self._random = random if seed is None else random.Random(seed)  # noqa: S311
        self.state = BbrState.START
        self.window = INITIAL_PACKETS * datagram_size
        self.pacing_rate: float | None = None
        self.min_rtt = math.inf
        self._min_rtt_at = 0.0
        self._rtt_probed_at = -math.inf
        self._rtt_probe_ends: float | None = None
        self._recent_rtts: list[float] = []  # an empty deque would take 760 bytes
        self._rates: list[tuple[int, float]] = []  # round, rate: the largest first, newer behind
        self._rounds = 0  # that the network limited
        self._round_ends = 0  # when so much has been delivered
        self._round_low, self._round_high = math.inf, 0.0  # round trips
        self._round_limited = False
        self._round_best = 0.0
        self._best_of_late: list[float] = []
        self._full_bandwidth, self._full_rounds = 0.0, 0
        self._settle_rounds = 0
        self._phase, self._phase_at = PROBING, 0.0
        self._before_probe = math.inf
        self._loss = _LineLoss(datagram_size)
        self._yield = 1.0
        self._standing_rounds = 0

    @property
    def bandwidth(self) -> float:
        """Bytes a second that the path delivers."""
        return self._rates[0][1] if self._rates else 0.0

    @property
    def line_loss(self) -> float:
        """Fraction that the line loses whatever is sent."""
        return self._loss.value

    def on_sent(self, packet: Packet, in_flight: int) -> None:
        """After a pause the round trip may have changed; it shows in the next samples, without a probe."""
        if not in_flight:
            self._min_rtt_at = max(self._min_rtt_at, packet.sent_time - MIN_RTT_AGE + 1.0)

    def on_sample(self, sample: Sample) -> None:
        """See `lane_quic.congestion.Controller`."""
        if sample.rtt is not None:
            self._take_rtt(sample.now, sample.rtt)
        if sample.acked:
            acked = sum(packet.sent_bytes for packet in sample.acked)
            if sample.in_flight + acked > self.window - 2 * self._size:
                sample.limited = False  # what filled the window was enough, even if it came in pieces
            self._round_limited = self._round_limited or sample.limited
            self._round_best = max(self._round_best, sample.rate)
            if sample.rate and (not sample.limited or sample.rate >= self.bandwidth):
                self._take_rate(sample.rate)
            if sample.round_delivered >= self._round_ends:
                self._end_round(sample)
        self._loss.count_drained(sample, self.min_rtt)
        self._steer(sample)
        self._decide(sample)

    # The model.

    def _take_rtt(self, now: float, rtt: float) -> None:
        self._round_low, self._round_high = min(self._round_low, rtt), max(self._round_high, rtt)
        self._recent_rtts.append(rtt)
        if len(self._recent_rtts) > RECENT_RTTS:
            del self._recent_rtts[0]
        if not self._above(rtt, NEAR_MIN_RTT):
            self._min_rtt_at = now
        self.min_rtt = min(self.min_rtt, rtt)

    def _above(self, rtt: float, bound: tuple[float, float]) -> bool:
        factor, seconds = bound
        return rtt > factor * self.min_rtt + seconds

    def _take_rate(self, rate: float) -> None:
        while self._rates and self._rates[-1][1] <= rate:
            self._rates.pop()
        self._rates.append((self._rounds, rate))

    def _end_round(self, sample: Sample) -> None:
        low, high, limited = self._round_low, self._round_high, self._round_limited
        self._round_ends = sample.delivered
        self._round_low, self._round_high = math.inf, 0.0
        self._round_limited = sample.limited
        if not limited:
            self._rounds += 1
            while self._rates and self._rates[0][0] < self._rounds - BANDWIDTH_ROUNDS:
                del self._rates[0]
            self._look_for_collapse(low)
        self._round_best = 0.0
        self._loss.end_round(sample, queue=self._above(high, NO_QUEUE))
        match self.state:
            case BbrState.START if not limited:
                self._look_for_plateau(sample.now)
            case BbrState.SETTLE:
                self._settle_rounds -= 1
            case BbrState.CYCLE if low < math.inf:
                self._look_for_queue(sample.now, low)

    def _look_for_plateau(self, now: float) -> None:
        if self.bandwidth >= 1.25 * self._full_bandwidth:
            self._full_bandwidth, self._full_rounds = self.bandwidth, 0
            return
        self._full_rounds += 1
        if self._full_rounds >= FULL_ROUNDS:
            self._enter(BbrState.DRAIN, now)

    def _look_for_collapse(self, low: float) -> None:
        """`low`: the smallest round trip of the round that ended."""
        late = self._best_of_late
        late.append(self._round_best)
        del late[:-COLLAPSE_ROUNDS]
        collapsed = len(late) == COLLAPSE_ROUNDS and max(late) < COLLAPSE * self.bandwidth
        if collapsed and low < math.inf and self._above(low, STANDING):
            self._rates.clear()
            self._rates.append((self._rounds, max(late)))

    def _look_for_queue(self, now: float, low: float) -> None:
        """`low`: the smallest round trip of the round that ended."""
        if not self._above(low, STANDING):
            self._standing_rounds, self._yield = 0, 1.0
            return
        self._standing_rounds += 1
        self._yield = max(MOST_YIELD, self._yield * YIELD)
        # Our own window can't fill a queue by more than one BDP.
        patience = FEW_ROUNDS if low > (WINDOW_GAIN + 0.2) * self.min_rtt else STANDING_ROUNDS
        if self._standing_rounds > patience and now - self._rtt_probed_at > MIN_RTT_AGE:
            self._enter(BbrState.PROBE_RTT, now)

    # What to do now.

    def _enter(self, state: BbrState, now: float) -> None:
        self.state = state
        self._phase_at = now
        self._rtt_probe_ends = None

    def _steer(self, sample: Sample) -> None:
        now = sample.now
        match self.state:
            case BbrState.START:
                enough = len(self._recent_rtts) == RECENT_RTTS
                ours = sample.acked and not sample.limited
                if enough and ours and self._above(min(self._recent_rtts), QUEUE_SIGN):
                    self._settle_rounds = SETTLE_ROUNDS
                    self._enter(BbrState.SETTLE, now)
            case BbrState.SETTLE if self._settle_rounds <= 0:
                self._enter(BbrState.DRAIN, now)
            case BbrState.DRAIN if sample.in_flight <= self._target(1.0):
                self._enter(BbrState.CYCLE, now)
                self._phase = self._random.choice([n for n in range(len(CYCLE)) if n != DRAINING])
            case BbrState.CYCLE:
                if now - self._phase_at > max(self.min_rtt, SHORTEST_PHASE):
                    self._next_phase(now)
                if now - self._min_rtt_at > MIN_RTT_AGE and not sample.limited:
                    self._enter(BbrState.PROBE_RTT, now)
            case BbrState.PROBE_RTT:
                self._probe_rtt(sample)

    def _next_phase(self, now: float) -> None:
        if self._phase == DRAINING:
            self._loss.drained(self._phase_at, now)
        paid = self._phase == DRAINING and self.bandwidth > PAYING_PROBE * self._before_probe
        self._phase = PROBING if paid else (self._phase + 1) % len(CYCLE)
        self._phase_at = now
        if self._phase == PROBING:
            self._before_probe = self.bandwidth

    def _probe_rtt(self, sample: Sample) -> None:
        now = sample.now
        if self._rtt_probe_ends is None:
            if sample.in_flight <= self._target(RTT_PROBE_WINDOW):
                self._rtt_probe_ends = now + max(RTT_PROBE_TIME, self.min_rtt)
                self.min_rtt = sample.rtt or self._recent_rtts[-1]
        elif now >= self._rtt_probe_ends:
            self._min_rtt_at = self._rtt_probed_at = now
            self._enter(BbrState.CYCLE, now)
            self._phase = CRUISING

    # The two numbers.

    def _target(self, gain: float) -> float:
        """Bytes in flight for `gain` BDPs of what arrives, with what is lost on top."""
        bdp = gain * self.bandwidth * self.min_rtt / (1 - self.line_loss)
        return max(bdp + self.bandwidth * LATENESS / 2, LEAST_PACKETS * self._size)

    def _decide(self, sample: Sample) -> None:
        if self.min_rtt == math.inf:
            return
        initial = INITIAL_PACKETS * self._size
        sent = self.bandwidth / (1 - self.line_loss)
        slack = self.bandwidth * LATENESS + 10 * self._size
        if self.state is BbrState.START:
            # Not by the bandwidth seen: at first that is what the handshake's few packets needed.
            rtt = max(self.min_rtt, SHORTEST_PHASE)
            self.pacing_rate = max(FIRST_PACING * initial, START_PACING * self.window) / rtt
            grown = 0 if sample.limited else sum(packet.sent_bytes for packet in sample.acked)
            most = START_WINDOW * sent * self.min_rtt + slack
            self.window = int(max(initial, min(self.window + (START_GROWTH - 1) * grown, most)))
            return
        pacing, window = 1.0, WINDOW_GAIN
        match self.state:
            case BbrState.SETTLE:
                window = SETTLE_WINDOW
            case BbrState.DRAIN:
                pacing = DRAIN_PACING
            case BbrState.CYCLE:
                pacing = CYCLE[self._phase]
        self.pacing_rate = max(pacing * sent * self._yield, LEAST_PACKETS * self._size / self.min_rtt / 4)
        if self.state is BbrState.PROBE_RTT:
            self.window = int(self._target(RTT_PROBE_WINDOW))
        else:
            self.window = int(max(window * sent * self.min_rtt + slack, LEAST_PACKETS * self._size))


class _LineLoss:
    """Which part of the loss is the line's, and would be there at any rate."""

    def __init__(self, datagram_size: int) -> None:
        self._enough = 20 * datagram_size
        self._seen = 0.0
        self._delivered = self._lost = 0  # at the start of the rounds that are being counted
        self._drain = (0.0, 0.0)  # when the last drain began and ended
        self._drained_sent = self._drained_lost = 0.0

    @property
    def value(self) -> float:
        value = min(self._seen, MAX_LINE_LOSS)
        if self._drained_sent >= 50:
            value = min(value, 1.25 * self._drained_lost / self._drained_sent + 0.01)
        return value

    def end_round(self, sample: Sample, queue: bool) -> None:
        """A round ended; with a `queue`, packets may have been dropped there, and it teaches nothing."""
        lost = max(0, sample.lost - self._lost)
        total = sample.delivered - self._delivered + lost
        if not queue and total > self._enough:
            self._seen += (lost / total - self._seen) / 4
        if queue or total > self._enough:
            self._delivered, self._lost = sample.delivered, sample.lost

    def drained(self, start: float, end: float) -> None:
        """What was sent from `start` to `end` was sent slowly."""
        self._drain = start, end

    def count_drained(self, sample: Sample, rtt: float) -> None:
        """Count what became of the packets of the last drain."""
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
