"""Careful Resume (RFC 9959): begin with what is known of the path, and verify it before it is relied on.

What an earlier connection found may no longer hold: the route may be another one, and others may have come.
So a connection first makes sure that the round trip is about the same and that an initial window arrives
(reconnaissance). Then it may have half of the known bandwidth-delay product (BDP) in flight, paced over one
round trip (unvalidated). When these packets arrive, the normal growth goes on from there (validating). If
they meet congestion, the window falls to half of what has arrived, and stays there until the last of them is
acknowledged (safe retreat). The figures are then forgotten.

Loss is congestion if it exceeds what the path loses at any rate, which belongs to the figures. On a path
that is known to lose nothing, one lost packet is enough.

The RFC tells packets apart by number. Here their times of sending do it, which rise with the numbers.
"""

from collections.abc import Sequence
from enum import Enum
from math import inf, sqrt
from typing import Protocol, runtime_checkable

from lane.net.path_memory import KnownPath, PathFigures
from lane_quic.congestion import Packet, Sample

SCOUT_SIZE = 1200
"""Bytes of a packet without data that is sent for reconnaissance."""
INITIAL_WINDOW = 10 * SCOUT_SIZE
"""Bytes that must have arrived before the jump: the initial window of RFC 9002 section 7.2, roughly."""
JUMP = 0.5
"""The jump, in BDPs of the known path (RFC 9959: at most a half)."""
USED = 0.8
"""A jump of which less than this fraction was in flight was not used: the application had less to send."""
TRIALS = 3
"""Round trips in which a jump may be used. Windows of sessions grow for so long."""
SHORTER, LONGER = 0.5, 10.0
"""The round trip must be within these multiples of the known one (RFC 9959)."""
LEAST_SAVED = 4 * INITIAL_WINDOW
"""Bytes of the BDP from which on a path is worth remembering (RFC 9959)."""
CROWDED = 0.02
"""Loss beyond the known one, as a fraction, that shows a full path (BBR version 3's start ends there too)."""
DOUBT = 0.005
"""What the known loss of a lossy path may be wrong by, as a fraction."""
DEVIATIONS = 3.0
"""Standard deviations of the number of lost packets that may be chance."""


class Phase(Enum):
    """The phases of RFC 9959, section 3."""

    RECONNAISSANCE = "reconnaissance"
    UNVALIDATED = "unvalidated"
    VALIDATING = "validating"
    SAFE_RETREAT = "safe retreat"
    NORMAL = "normal"


class CarefulResume:
    """The start of one connection on `path`. It begins with a window of `initial` bytes by itself."""

    __slots__ = (
        "_arrived", "_began", "_holds", "_initial", "_jumped_at", "_known", "_last_at", "_lost", "_packets",
        "_pipe", "_retreated", "_trials", "flight", "jump", "limit", "path", "phase",
    )  # fmt: skip

    def __init__(self, path: KnownPath, initial: int) -> None:
        self.path = path
        self.phase = Phase.RECONNAISSANCE
        self.jump = 0.0
        """Bytes that may be in flight because the path is known. 0: no more than without that."""
        self.flight = 0.0
        """Bytes that were in flight when the first of the jump arrived: the growth goes on from there."""
        self.limit = inf
        """Bytes that may be in flight at most, during a retreat."""
        self._initial = initial
        self._began: float | None = None  # when the first packet on this path was sent
        self._arrived = self._packets = self._lost = 0  # bytes; packets that arrived or were lost, and lost
        self._known: PathFigures | None = None  # what the jump relies on
        self._holds = True  # nothing speaks against it yet
        self._retreated = False
        self._jumped_at = self._last_at = 0.0  # when the first and the last unvalidated packet were sent
        self._trials = 0  # round trips since the jump
        self._pipe = 0  # bytes that the path is known to hold (PipeSize)

    @property
    def crowded(self) -> bool:
        """Whether the jump is over, and lost so much that it filled the path."""
        lost = self._lost - (self._known.loss if self._known else 0.0) * self._packets
        return self.phase is Phase.NORMAL and self._retreated and lost > CROWDED * self._packets

    @property
    def scouts(self) -> int:
        """Packets without data of `SCOUT_SIZE` that are to be sent, so that an initial window arrives soon.

        The data may be few until they are many: then it is too late to look whether the path is the same.
        """
        if self.phase is not Phase.RECONNAISSANCE or self.path.figures is None:
            return 0
        return -(-max(0, INITIAL_WINDOW - self._arrived) // SCOUT_SIZE)

    @property
    def needs_no_scouts(self) -> bool:
        """Whether `scouts` stays 0."""
        return self.phase is not Phase.RECONNAISSANCE or self._arrived >= INITIAL_WINDOW

    def on_scout(self, *, arrived: bool) -> None:
        """Note the fate of a packet that was sent for `scouts`."""
        self._packets += 1
        self._lost += not arrived
        self._arrived += SCOUT_SIZE if arrived else 0

    def on_sent(self, packet: Packet, in_flight: int) -> None:
        """Note that `packet` is sent. `in_flight` bytes were in flight before it."""
        if self._began is None:
            self._began = packet.sent_time
        if self.phase is Phase.UNVALIDATED:
            self._last_at = packet.sent_time
        elif self.jump and in_flight >= self._initial and self.phase is Phase.RECONNAISSANCE:
            self._known = self.path.take()
            if self._known is None:
                self._end()  # another connection tries it
                return
            self.phase = Phase.UNVALIDATED
            self._jumped_at = self._last_at = packet.sent_time
            self._pipe = in_flight

    def on_sample(self, sample: Sample, rtt: float, window: int) -> None:
        """Note what has arrived and what was lost. `rtt`: the shortest round trip, seconds.

        `window`: the bytes that would be allowed in flight if nothing were known.
        """
        acked, dropped = self._ours(sample.acked), self._ours(sample.dropped)
        arrived = sum(packet.sent_bytes for packet in acked)
        self._arrived += arrived
        self._pipe += arrived
        self._packets += len(acked) + len(dropped)
        self._lost += len(dropped)
        newest = acked[-1].sent_time if acked else -inf
        match self.phase:
            case Phase.RECONNAISSANCE:
                self._reconnoitre(rtt if sample.rtt is None else sample.rtt, window)
            case Phase.UNVALIDATED | Phase.VALIDATING if self._congested(self._known):
                self.phase, self.jump, self.flight = Phase.SAFE_RETREAT, 0.0, 0.0
                self.limit = max(self._pipe / 2, INITIAL_WINDOW)
                self._holds, self._retreated = False, True
            case Phase.UNVALIDATED if newest >= self._jumped_at or sample.now > self._jumped_at + rtt:
                self._validate(sample, arrived)
            case Phase.VALIDATING | Phase.SAFE_RETREAT if newest >= self._last_at:
                if self._known is not None and self._holds:
                    self.path.bring_back(self._known)
                self._end()

    def on_full(self) -> None:
        """Note that the path is full, so nothing more is to be gained from what is known.

        If that came before the jump was validated, the known rate was too high. It is not brought back.
        """
        self._holds = False
        if self.phase is Phase.RECONNAISSANCE:
            self._end()

    def _ours(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        """Those of `packets` that were sent on this path, the oldest first."""
        began = self._began
        if not packets or began is None or packets[0].sent_time >= began:
            return packets
        return [packet for packet in packets if packet.sent_time >= began]

    def _reconnoitre(self, rtt: float, window: int) -> None:
        known = self.path.figures
        if known is None:
            self.jump = 0.0
        elif self._congested(known):
            self._end()
        else:
            jump = JUMP * known.rate * known.rtt
            same = SHORTER * known.rtt <= rtt <= LONGER * known.rtt
            self.jump = jump if same and self._arrived >= INITIAL_WINDOW and jump > window else 0.0

    def _validate(self, sample: Sample, arrived: int) -> None:
        """The first of the jump has arrived, or a round trip has passed: `arrived` bytes in this sample."""
        flight = sample.in_flight + arrived
        self._trials += 1
        if flight < USED * self.jump and self._trials < TRIALS:
            self._jumped_at = sample.now
        else:
            self.phase, self.jump, self.flight = Phase.VALIDATING, 0.0, float(flight)

    def _congested(self, known: PathFigures | None) -> bool:
        """Whether more packets were lost than a path with the figures `known` loses at any rate."""
        if known is None or not known.loss:
            return self._lost > 0
        usual = self._packets * (known.loss + DOUBT)
        return self._lost > usual + DEVIATIONS * sqrt(usual)

    def _end(self) -> None:
        self.phase, self.jump, self.flight, self.limit = Phase.NORMAL, 0.0, 0.0, inf


@runtime_checkable
class Resumes(Protocol):
    """Optional, for controllers: begin with what is known of the path, and say what was learnt of it."""

    def resume(self, path: KnownPath) -> CarefulResume:
        """Use `path` from now on. Returns the state of the start, which says what the connection must send.

        Called at most once, before a packet is acknowledged.
        """
