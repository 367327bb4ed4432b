"""What a lane delivers, from what its sessions count: goodput, loss, and whether it is what limits them.

Both ends count. A client that downloads sends next to nothing: what is lost on the way to it, and whether the
server had more to send than the lane took, comes from the server's STATS.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

RATE_OF = 1.0
"""Seconds over which goodput and limits are taken."""
LOSS_OF = 2.0
"""Seconds over which loss is taken."""
MOST_SAMPLES = 1024
"""Looks that are remembered, however many there are in that time."""
ENOUGH = 30_000
"""Bytes sent within that time that say something about loss."""


class DirectionCounts(NamedTuple):
    """What the sender of one direction counted: bytes and seconds, which only grow."""

    sent: int
    lost: int
    send_blocked_seconds: float


class SessionCounts(NamedTuple):
    """Of one session; a way that nothing is known of is None."""

    moved: int
    ways: tuple[DirectionCounts | None, DirectionCounts | None]


class Measured(Protocol):
    """What carries one session."""

    @property
    def rtt(self) -> float | None:
        """Round trip of its stream, seconds. To look it up may cost a system call."""


M = TypeVar("M", bound=Measured)


class _Sample(NamedTuple):
    at: float
    moved: int
    sent: int
    lost: int
    send_blocked_seconds: float  # the most of a session, of either end


class PathMeter:
    """Of one lane; times are seconds of one clock."""

    def __init__(self) -> None:
        self.rtt: float | None = None
        """Round trip of what carries data now, seconds."""
        self._samples: deque[_Sample] = deque(maxlen=MOST_SAMPLES)
        self._before: Mapping[Any, tuple[object, SessionCounts]] = {}

    def take(self, now: float, counted: Mapping[M, tuple[object, SessionCounts]]) -> None:
        """Of each session that is active on the lane: its stream, and what was counted there."""
        moved = sent = lost = 0
        blocked = 0.0
        rtts = []  # of those that move: a look costs a system call, and there may be thousands of others
        for session, (stream, counts) in counted.items():
            last_stream, last = self._before.get(session, (None, counts))
            if last_stream is not stream:
                continue  # another carrier counts from elsewhere
            moved += counts.moved - last.moved
            for way, before in zip(counts.ways, last.ways, strict=True):
                if way is not None and before is not None:
                    sent += way.sent - before.sent
                    lost += way.lost - before.lost
                    blocked = max(blocked, way.send_blocked_seconds - before.send_blocked_seconds)
            if counts.moved > last.moved and (rtt := session.rtt):
                rtts.append(rtt)
        self.rtt = min(rtts) if rtts else self.rtt if counted else None
        self._before = counted
        self._samples.append(_Sample(now, moved, sent, lost, blocked))
        while self._samples[0].at < now - LOSS_OF:
            self._samples.popleft()

    def goodput(self, now: float) -> float:
        """Bytes a second."""
        recent = self._recent(now)
        return sum(sample.moved for sample in recent) / RATE_OF

    def limited(self, now: float) -> float:
        """The part of the time, 0 to 1, in which there was more to send than the lane took."""
        return min(1.0, sum(sample.send_blocked_seconds for sample in self._recent(now)) / RATE_OF)

    def loss(self, now: float) -> float | None:
        """The fraction that was lost; None where too little was sent to say."""
        sent = sum(sample.sent for sample in self._samples)
        return min(1.0, sum(sample.lost for sample in self._samples) / sent) if sent > ENOUGH else None

    def _recent(self, now: float) -> list[_Sample]:
        return [sample for sample in self._samples if sample.at > now - RATE_OF]
