"""BBR: send at the path's delivery rate, whatever it loses, and keep its queues short.

BBR models the path instead of reacting to loss. The bandwidth is the largest delivery rate of the last ten
round trips. The round-trip time is the smallest of the last ten seconds. Pacing at the bandwidth, with a
window of two bandwidth-delay products (BDP), keeps the link busy. Every eighth round trip probes for a
quarter more. The next one drains the queue that the probe left. The others cruise.

This follows BBR version 1: Cardwell and others, "BBR: Congestion-Based Congestion Control", ACM Queue 14(5),
2016, and draft-cardwell-iccrg-bbr-congestion-control-00. The differences and their reasons:

- Start. It begins with 64 packets and triples the window each round trip (the draft: 10 packets, doubling).
  So a path of 200 ms is full in 0.8 s. It ends at the first sign of a queue, as in HyStart++ (RFC 9406):
  see queue_sign.py. The draft waits for three rounds without growth.
- Line loss. A packet that is lost behind the bottleneck has used its time there. So 10 % of loss leaves 10
  % of the link idle unless that much more is sent. line_loss.py learns how much, and leaves luck out.
- A standing queue is drained: see standing_queue.py.
- A longer round trip. If the queue stands for 16 rounds nevertheless, it may not be a queue. Then the
  smallest round trip is measured again, without waiting for ten seconds. If the window was too small for
  such a path, the start begins again, with at most the rate known before. The same if the queue of the
  start does not drain: the path may have become longer before its bandwidth was known.
- Measuring the round trip. Half a BDP stays in flight (draft-ietf-ccwg-bbr-04; version 1: four packets). It
  is skipped if a recent sample was close to the smallest one, which is usual after a drain.
- More bandwidth. A probe that finds at least 10 % more is followed by another probe at once.
- Both ways at once. A queue counts as ours by the share of what we send: see both_ways.py.
- Beside others. Loss by a full queue bounds the window as it does in CUBIC: see loss_bound.py.
- Much less bandwidth is noticed after three rounds, if a queue stands: see bandwidth.py.
- ACKs that are lost in a row do not stop the sender: see ack_silence.py.
"""

import math
import random
from enum import Enum

from lane.net.path_memory import KnownPath
from lane_quic.congestion import Packet, Sample
from lane_quic.congestion.ack_silence import AckSilence
from lane_quic.congestion.bandwidth import Bandwidth
from lane_quic.congestion.both_ways import BothWays
from lane_quic.congestion.careful_resume import LEAST_SAVED, CarefulResume, Phase
from lane_quic.congestion.line_loss import LineLoss
from lane_quic.congestion.loss_bound import LossBound
from lane_quic.congestion.queue_sign import QueueSign
from lane_quic.congestion.standing_queue import StandingQueue, stands

INITIAL_PACKETS = 64
"""Packets of the first window."""
START_PACING = 2.0
"""Pacing at the start, in windows a round trip."""
START_GROWTH = 3.0
"""Growth of the window at the start, a round trip."""
START_WINDOW = 3.0
"""The largest window at the start, in BDPs."""
FIRST_PACING = 4.0
"""Pacing of the first window, in windows a round trip: no rate of the path is known yet."""
SETTLE_ROUNDS = 2
"""Rounds at the bandwidth found, until the last samples of the start have arrived."""
SETTLE_WINDOW = 2.5
"""The window during those rounds, in BDPs."""
DRAIN_PACING = 0.5
"""Pacing while the queue of the start drains, as a factor of the bandwidth."""
CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
"""Pacing in each phase of a cycle, as a factor of the bandwidth. A phase takes a round trip."""
PROBING, DRAINING, CRUISING = 0, 1, 2  # indices of `CYCLE`; later phases cruise too
PAYING_PROBE = 1.1
"""Growth of the bandwidth from which a probe is followed by another one."""
WINDOW_GAIN = 2.0
"""The window, in BDPs."""
MIN_RTT_AGE = 10.0
"""Seconds after which the smallest round trip is measured again."""
NEAR_MIN_RTT = (1.02, 0.001)
"""Round trips up to this factor of the smallest, plus seconds, confirm the smallest."""
RTT_PROBE_TIME = 0.2
"""Seconds that measuring the round trip takes, at least."""
RTT_PROBE_WINDOW = 0.5
"""The window while the round trip is measured, in BDPs."""
NO_QUEUE = (1.1, 0.004)
"""Line loss is learnt in rounds with no round trip above this factor of the smallest, plus seconds."""
STANDING_ROUNDS = 16
"""Rounds with a standing queue after which the smallest round trip is measured again."""
FEW_ROUNDS = 4
"""The same if the queue is longer than our own window can cause."""
FEW_PAUSE = 2.0
"""Seconds until a second one, at least. If it is no help, the queue is another flow's, and would grow."""
UNBOUND = 1.35
"""The window, in BDPs, from which on a bound by loss is lifted: nobody else fills the queue."""
BOUND_PACING = 1.1
"""Pacing of a bounded window, in windows a round trip."""
LEAST_PACKETS = 4
"""Packets of the smallest window."""
LATENESS = 0.008
"""Seconds by which the peer, timers and batches delay acknowledgements."""
SHORTEST_PHASE = 0.005
"""The shortest phase of a cycle, seconds."""


class BbrState(Enum):
    """The states of the controller."""

    START = "start"
    SETTLE = "settle"
    DRAIN = "drain"
    CYCLE = "cycle"
    PROBE_RTT = "probe rtt"


class Bbr:
    """One connection's controller. `datagram_size` is in bytes. `seed` only shifts its cycle."""

    # A dictionary of more than 30 attributes would be the object's own: 1.2 KB of each connection.
    __slots__ = (
        "_before_probe", "_bound", "_few_pause", "_filled_rtt", "_loss", "_min_rtt_at", "_most_rate",
        "_path", "_phase", "_phase_at", "_queue", "_random", "_rate", "_resume", "_round_ends",
        "_round_high", "_round_limited", "_round_low", "_rtt_probe_ends", "_rtt_probed_at",
        "_settle_rounds", "_sign", "_silence", "_size", "_smoothed_rtt", "_start_window", "_ways",
        "min_rtt", "pacing_rate", "state", "window",
    )  # fmt: skip

    def __init__(self, datagram_size: int, seed: int | None = None) -> None:
        self._size = datagram_size
        # No secret depends on it, and a generator of our own takes 2.5 KB.
        self._random = random if seed is None else random.Random(seed)  # noqa: S311
        self.state = BbrState.START
        self.window = self._start_window = INITIAL_PACKETS * datagram_size
        self.pacing_rate: float | None = None
        self.min_rtt = math.inf
        self._min_rtt_at = 0.0
        self._rtt_probed_at, self._few_pause = -math.inf, FEW_PAUSE
        self._rtt_probe_ends: float | None = None
        self._sign = QueueSign()
        self._rate = Bandwidth()
        self._round_ends = 0  # the round ends when so many bytes have been delivered
        self._round_low, self._round_high = math.inf, 0.0  # smallest and largest round trip of the round
        self._round_limited = False
        self._most_rate, self._filled_rtt = math.inf, 0.0  # of the start; the longest that the window filled
        self._settle_rounds, self._smoothed_rtt = 0, 0.0
        self._phase, self._phase_at = PROBING, 0.0
        self._before_probe = math.inf
        self._loss, self._bound = LineLoss(datagram_size), LossBound(datagram_size)
        self._path: KnownPath | None = None
        self._resume: CarefulResume | None = None  # None once it is over
        self._silence, self._queue = AckSilence(), StandingQueue()
        self._ways = BothWays(datagram_size)

    @property
    def bandwidth(self) -> float:
        """The path's delivery rate, bytes a second."""
        return self._rate.value

    @property
    def line_loss(self) -> float:
        """Fraction (0 to 1) of packets that the path loses at any rate."""
        return self._loss.value

    def resume(self, path: KnownPath) -> CarefulResume:
        """See `lane_quic.congestion.careful_resume.Resumes`."""
        self._path, self._resume = path, CarefulResume(path, self._start_window)
        return self._resume

    def on_sent(self, packet: Packet, in_flight: int) -> None:
        """After a pause, leave a second for samples to show a changed round trip, without measuring it."""
        if self._resume is not None:
            self._resume.on_sent(packet, in_flight)
        if not in_flight:
            self._silence.rest()
            self._min_rtt_at = max(self._min_rtt_at, packet.sent_time - MIN_RTT_AGE + 1.0)

    def on_sample(self, sample: Sample) -> None:
        """See `lane_quic.congestion.Controller`."""
        if sample.rtt is not None:
            self._take_rtt(sample.now, sample.rtt)
        if sample.acked:
            acked = sum(packet.sent_bytes for packet in sample.acked)
            if sample.in_flight + acked > self.window - 2 * self._size:
                sample.limited = False  # the window was full, even if the data came in pieces
            self._round_limited = self._round_limited or sample.limited
            if sample.rtt and sample.in_flight + acked <= LEAST_PACKETS * self._size:
                self._sign.take_quiet(sample.rtt)
            slow = sample.limited or self.state is BbrState.PROBE_RTT
            self._silence.heard(sample.now, self.min_rtt, waited=slow)
            self._rate.note(sample.rate, limited=sample.limited)
            if sample.round_delivered >= self._round_ends:
                self._end_round(sample)
        self._loss.count_drained(sample, self.min_rtt)
        if self.state not in (BbrState.START, BbrState.SETTLE):
            most = UNBOUND * self.bandwidth * self.min_rtt / (1 - self.line_loss)
            self._bound.on_sample(sample, self._sign.recent, self.min_rtt, most)
        self._steer(sample)
        if self._resume is not None:
            self._resume.on_sample(sample, self.min_rtt, self._start_window)
            if self._resume.crowded and self.state is BbrState.START:
                self._enter(BbrState.DRAIN, sample.now)
        self._decide(sample)

    # The model.

    def _take_rtt(self, now: float, rtt: float) -> None:
        self._round_low, self._round_high = min(self._round_low, rtt), max(self._round_high, rtt)
        self._sign.take(rtt)
        if not self._above(rtt, NEAR_MIN_RTT):
            self._min_rtt_at = now
        self.min_rtt = min(self.min_rtt, rtt)
        self._smoothed_rtt += (rtt - self._smoothed_rtt) / 8 if self._smoothed_rtt else rtt

    def _above(self, rtt: float, bound: tuple[float, float]) -> bool:
        factor, seconds = bound
        return rtt > factor * self.min_rtt + seconds

    def _end_round(self, sample: Sample) -> None:
        low, high, limited = self._round_low, self._round_high, self._round_limited
        self._round_ends = sample.delivered
        self._round_low, self._round_high = math.inf, 0.0
        self._round_limited = sample.limited
        self._ways.end_round(sample.delivered, sample.received)
        self._rate.end_round(limited=limited, queue=low < math.inf and stands(low, self.min_rtt))
        if not limited:
            self._remember()
        self._bound.end_round(high)
        self._silence.end_round()
        if self.state is BbrState.START:
            self._loss.end_start_round(sample, grew=self._rate.grows)
        else:
            queue = self._above(high, NO_QUEUE) or low > self._bound.long_rtt(self.min_rtt)
            self._loss.end_round(sample, queue=queue or self.state is BbrState.SETTLE)
            if self._ways.at_once:
                self._loss.assume(self._bound.line_loss)
        match self.state:
            case BbrState.START if not limited and self._rate.ends_growth():
                self._enter(BbrState.DRAIN, sample.now)
            case BbrState.SETTLE:
                self._settle_rounds -= 1
            case BbrState.CYCLE | BbrState.DRAIN if low < math.inf:
                self._look_for_queue(sample.now, low)

    def _remember(self) -> None:
        """Say what is known of the path now, unless what was known before is being tried."""
        tries = self._resume is not None and self._resume.phase is not Phase.RECONNAISSANCE
        if self._path is not None and not tries and self.bandwidth * self.min_rtt >= LEAST_SAVED:
            starts = self.state is BbrState.START
            self._path.learn(self.bandwidth, self.min_rtt, self.line_loss, least=starts)

    def _look_for_queue(self, now: float, low: float) -> None:
        """`low`: the smallest round trip of the round that ended."""
        self._queue.end_round(low, self.min_rtt, self._ways.ours)
        # Our own window cannot cause a queue of more than one BDP, and of what bridges a silence.
        ours = (WINDOW_GAIN + 0.2) * self.min_rtt + self._silence.seconds
        patience, pause = (FEW_ROUNDS, self._few_pause) if low > ours else (STANDING_ROUNDS, MIN_RTT_AGE)
        if self._queue.rounds > patience and (since := now - self._rtt_probed_at) > pause:
            self._few_pause = FEW_PAUSE if since > 2 * MIN_RTT_AGE else MIN_RTT_AGE
            self._enter(BbrState.PROBE_RTT, now)

    # The states.

    def _enter(self, state: BbrState, now: float) -> None:
        if self.state is BbrState.START and self._resume is not None:
            self._resume.on_full()
        self.state, self._phase_at, self._rtt_probe_ends = state, now, None

    def _steer(self, sample: Sample) -> None:
        now = sample.now
        match self.state:
            case BbrState.START:
                sure = not self._ways.at_once or self._rate.stays
                if sample.acked and not sample.limited and sure and self._sign.shows(self.min_rtt):
                    self._settle_rounds = SETTLE_ROUNDS
                    self._enter(BbrState.SETTLE, now)
            case BbrState.SETTLE if self._settle_rounds <= 0:
                self._enter(BbrState.DRAIN, now)
            case BbrState.DRAIN if sample.in_flight <= self._target(1.0):
                self._loss.drained(self._phase_at, now)
                self._enter(BbrState.CYCLE, now)
                self._queue = StandingQueue()  # that of the start is gone
                self._bound.begin(now)
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
                self._filled_rtt = WINDOW_GAIN * self.min_rtt + self._silence.seconds
                self.min_rtt = sample.rtt or self._sign.recent[-1]
        elif now >= self._rtt_probe_ends:
            self._min_rtt_at = self._rtt_probed_at = now
            if self.min_rtt > self._filled_rtt and self._queue.was_none(self.min_rtt):
                self._start_again(sample)
            else:
                self._enter(BbrState.CYCLE, now)
                self._phase = CRUISING

    def _start_again(self, sample: Sample) -> None:
        """Search for the bandwidth of a longer path, up to the rate of the shorter one if that is known."""
        most = self._loss.made_up_for(self._rate.start_again(), self.min_rtt)
        self._most_rate = most if self._before_probe < math.inf else math.inf
        self._loss.start_again(sample)
        self._bound, self._queue = LossBound(self._size), StandingQueue()
        self._start_window = self.window
        self._enter(BbrState.START, sample.now)

    # The window and the pacing rate.

    def _target(self, gain: float) -> float:
        """Bytes in flight with which `gain` BDPs arrive in spite of the line loss."""
        bdp = gain * self.bandwidth * self.min_rtt / (1 - self.line_loss)
        return max(bdp + self.bandwidth * LATENESS / 2, LEAST_PACKETS * self._size)

    def _decide(self, sample: Sample) -> None:
        if self.min_rtt == math.inf:
            return
        initial = INITIAL_PACKETS * self._size
        sent = self._loss.made_up_for(self.bandwidth, self.min_rtt)
        slack = self.bandwidth * LATENESS + 10 * self._size
        jump, flight, limit = 0.0, 0.0, math.inf
        if (resume := self._resume) is not None:
            jump, flight, limit = resume.jump, resume.flight, resume.limit
            if resume.phase is Phase.NORMAL:
                self._resume = None
        if self.state is BbrState.START:
            # Do not use the measured bandwidth: at first it is only that of the handshake's few packets.
            rtt = max(self.min_rtt, SHORTEST_PHASE)
            pacing = max(FIRST_PACING * initial, START_PACING * max(self._start_window, flight), jump)
            self.pacing_rate = min(pacing / rtt, self._most_rate)
            grown = 0 if sample.limited else sum(packet.sent_bytes for packet in sample.acked)
            unsure = self._ways.at_once and self._sign.shows(self.min_rtt)
            gain = WINDOW_GAIN if unsure else START_WINDOW
            most = max(gain * sent * self.min_rtt + slack, flight)
            window = max(min(self._start_window + (START_GROWTH - 1) * grown, most), initial, flight)
            self._start_window = int(min(window, limit))
            self.window = int(max(self._start_window, jump))
            return
        pacing, window = 1.0, WINDOW_GAIN
        match self.state:
            case BbrState.SETTLE:
                window = SETTLE_WINDOW
            case BbrState.DRAIN:
                pacing = DRAIN_PACING
            case BbrState.CYCLE:
                pacing = CYCLE[self._phase]
        least = LEAST_PACKETS * self._size
        rate = pacing * sent * self._queue.pacing
        if (bound := self._bound.window) < math.inf:
            rate = BOUND_PACING * bound / self._smoothed_rtt
        self.pacing_rate = max(rate, least / self.min_rtt / 4)
        if self.state is BbrState.PROBE_RTT:
            goal = self._target(RTT_PROBE_WINDOW)
        else:
            goal = (window * self.min_rtt + self._silence.seconds) * sent + slack
        self.window = int(max(min(goal, bound, limit), least))
