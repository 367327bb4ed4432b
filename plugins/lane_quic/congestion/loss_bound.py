"""Beside others: a bound on the window that falls when a full queue drops packets, as Cubic's window does.

BBR's probes overflow a short queue. Whoever reacts to loss then slows down, and BBR takes what they leave.
So here a loss that comes while the queue is long bounds the window, and the bound grows as that of CUBIC does
(RFC 9438): flows that react to loss find one of their own kind. BBR version 3 has `inflight_hi` and
`inflight_lo` for the same purpose (draft-ietf-ccwg-bbr-06). They react to any loss of 2 %, and a line that
loses more would stop them.

Two questions separate the loss of a full queue from that of the line. Does it come while round trips are in
the upper half of what was seen lately? Does it exceed, in sum, what is lost in the lower half? The sum is
tested as in CUSUM (Page, "Continuous Inspection Schemes", Biometrika 41, 1954). On a line that was seen to
lose packets in a row, those count as one event (as in RFC 5348): few bursts would look like congestion. A
line that loses 2 % by itself has no test: nobody who reacts to loss lives there.
"""

import math
from collections.abc import Sequence

from lane_quic.congestion import Packet, Sample

BETA = 0.7
"""Factor by which congestion cuts the window (RFC 9438 section 4.6)."""
CUBIC = 0.4
"""Growth of the window, packets a second cubed (RFC 9438 section 5)."""
LONG_QUEUE = 0.5
"""A queue is long if it takes more than this fraction of the longest recent wait."""
FADE = 16
"""Rounds in which the longest wait fades."""
BATCH = 100
"""Packets whose loss is taken together."""
BATCHES = 32
"""Batches that are remembered."""
OUTLIERS_FROM = 12
"""Batches from which on the worst one does not count: others may have overflowed the queue."""
ENOUGH = 300
"""Packets from which on the loss of the line is known."""
PATIENCE = 24
"""Rounds after which congestion is looked for even if the queue was always long."""
IN_A_ROW = 3
"""Packets lost in a row that are a burst."""
BURSTS = 2
"""Bursts, without a long queue, from which on the line is one that loses in bursts."""
LOSSY = 0.02
"""Loss of the line (a fraction) from which on nothing bounds the window."""
TOLERANCE = 0.005
"""Loss above that of the line that is no congestion, as a fraction."""
LEAST_EXCESS = 2.0
"""Lost packets above what is tolerated that show congestion, at least."""
STRICTNESS = 6.0
"""The same on a line with losses, as a multiple of their variance over the tolerance."""


class LineSample:
    """The loss of packets that met a short queue, a fraction. Others cause hardly any of it."""

    def __init__(self) -> None:
        self.loss = self.variance = 0.0
        """Its mean, and the variance of the lost packets, a packet: bursts make it large."""
        self._bursts = 0.0
        self._batches: list[float] = []
        self._sent = self._lost = 0

    @property
    def packets(self) -> int:
        """Number of packets that it rests on."""
        return len(self._batches) * BATCH + self._sent

    @property
    def bursty(self) -> bool:
        """Whether the line loses packets in a row."""
        return self._bursts > BURSTS - 0.5  # old ones fade

    def note_burst(self) -> None:
        """Note that packets that met a short queue were lost in a row."""
        self._bursts += 1

    def count(self, sent: int, lost: int) -> None:
        """Count `sent` packets, of which `lost` were lost."""
        self._sent += sent
        self._lost += lost
        if self._sent < BATCH:
            return
        batches = self._batches
        batches.append(self._lost / self._sent)
        del batches[:-BATCHES]
        self._bursts *= 1 - 1 / BATCHES
        self._sent = self._lost = 0
        usual = sorted(batches)[: -1 if len(batches) >= OUTLIERS_FROM else None]
        mean = sum(usual) / len(usual)
        self.variance = BATCH * sum((loss - mean) ** 2 for loss in usual) / len(usual)
        self.loss = max(mean, sorted(batches[-4:])[-2:][0])  # two bad batches show another line soon


class CubicWindow:
    """The congestion window of CUBIC (RFC 9438 section 4), packets; infinite until the first `cut`."""

    def __init__(self) -> None:
        self.size = math.inf
        self.cut_at = 0.0
        """When it was last cut, seconds. Packets sent before do not count as lost once more."""
        self._most = self._reno = self._regrowth = 0.0

    def cut(self, in_flight: float, now: float) -> None:
        """React to congestion with `in_flight` packets in flight."""
        most = min(in_flight, self.size)
        self._most = most if most >= self._most else most * (1 + BETA) / 2
        self.size = self._reno = max(most * BETA, 2.0)
        self._regrowth = (max(self._most - self.size, 0.0) / CUBIC) ** (1 / 3)
        self.cut_at = now

    def grow(self, acked: float, now: float, rtt: float) -> None:
        """Note that `acked` packets were acknowledged, which filled the window."""
        size = self.size
        self._reno += (3 * (1 - BETA) / (1 + BETA) if self._reno < self._most else 1.0) * acked / size
        goal = CUBIC * (now + rtt - self.cut_at - self._regrowth) ** 3 + self._most
        size += (min(max(goal, size), 1.5 * size) - size) / size * acked
        self.size = max(size, self._reno)

    def lift(self) -> None:
        """Bound nothing until the next `cut`."""
        self.size = math.inf


class LossBound:
    """The bound of one connection with packets of `datagram_size` bytes."""

    def __init__(self, datagram_size: int) -> None:
        self._size = datagram_size
        self._cubic = CubicWindow()
        self._line = LineSample()
        self._longest = 0.0  # the longest recent round trip, seconds
        self._excess = 0.0  # lost packets above what the line loses
        self._rounds = 0
        self._newest_lost, self._run = -1, 0  # a packet number, and how many were lost in a row up to it

    @property
    def window(self) -> float:
        """Bytes that may be in flight; infinite if nothing bounds them."""
        return self._cubic.size * self._size

    @property
    def line_loss(self) -> float:
        """The loss of a line that loses much, as packets show that met no long queue; 0 of others."""
        known = self._line.packets >= ENOUGH
        return self._line.loss if known and self._line.loss > LOSSY else 0.0

    def begin(self, now: float) -> None:
        """Count the packets that are sent from `now` on."""
        self._cubic.cut_at = now
        self._rounds = 0

    def end_round(self, longest_rtt: float) -> None:
        """Note that a round ended, whose longest round trip is `longest_rtt` (seconds; 0 if unknown)."""
        self._rounds += 1
        if longest_rtt:
            faded = self._longest - (self._longest - longest_rtt) / FADE
            self._longest = max(longest_rtt, faded)

    def long_rtt(self, min_rtt: float) -> float:
        """Seconds above which a round trip shows a long queue. `min_rtt` is the smallest one."""
        return min_rtt + LONG_QUEUE * (self._longest - min_rtt)

    def on_sample(self, sample: Sample, recent_rtts: Sequence[float], min_rtt: float, most: float) -> None:
        """Note what arrived and what was lost. Round trips are in seconds.

        A window of more than `most` bytes bounds nothing any longer.
        """
        if not recent_rtts:
            return
        long = self.long_rtt(min_rtt)
        short = recent_rtts[-1] <= long
        acked, lost = self._sent_since_cut(sample.acked), self._lost(sample.dropped, short=short)
        if short:
            self._line.count(acked + lost, lost)
        if (lost or self._excess) and max(recent_rtts) > long:
            self._test(sample, acked + lost, lost)
        if self._cubic.size < math.inf and acked:
            if not sample.limited:
                self._cubic.grow(acked, sample.now, min_rtt)
            if self.window > most:
                self._cubic.lift()

    def _sent_since_cut(self, packets: Sequence[Packet]) -> int:
        """How many of `packets`, in the order of sending, were sent since the window was cut."""
        cut_at = self._cubic.cut_at
        if not packets or packets[0].sent_time > cut_at:
            return len(packets)
        return sum(packet.sent_time > cut_at for packet in packets)

    def _lost(self, packets: Sequence[Packet], *, short: bool) -> int:
        """How many of `packets` count as lost, if sent since the last cut. `short`: they met no long queue.

        On a line that loses in bursts, packets lost in a row count once.
        """
        lost = events = 0
        for packet in packets:
            if packet.sent_time > self._cubic.cut_at:
                lost += 1
                self._run = self._run + 1 if packet.packet_number == self._newest_lost + 1 else 1
                self._newest_lost = packet.packet_number
                events += self._run == 1
                if short and self._run == IN_A_ROW:
                    self._line.note_burst()
        return events if self._line.bursty else lost

    def _test(self, sample: Sample, sent: int, lost: int) -> None:
        """Cut the window if packets that met a long queue are lost more often than others."""
        line, known = self._line, self._line.packets
        if line.loss > LOSSY or (known < ENOUGH and self._rounds < PATIENCE):
            self._excess = 0.0
            return
        # Three losses may hide behind none seen ("rule of three").
        tolerance = TOLERANCE + line.loss + 3 / (known + 30)
        self._excess = max(0.0, self._excess + lost - (line.loss + tolerance) * sent)
        if not lost or self._excess < LEAST_EXCESS:
            return
        independent = line.loss * (1 - line.loss)
        variance = max(line.variance, independent * (1 + 2000 / (known + 30)))
        if self._excess >= STRICTNESS * variance / tolerance:
            flying = sample.in_flight + sum(p.sent_bytes for p in (*sample.acked, *sample.dropped))
            self._cubic.cut(flying / self._size, sample.now)
            self._excess = 0.0
