"""Measures a lane by the counters of its sessions: goodput, loss, and whether the lane limits the senders.

Both ends count. A client that downloads sends almost nothing. Its figures for the other direction come from
the server's STATS: packets lost, and whether the server had more to send than the lane took.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

RATE_OF = 1.0
"""Seconds over which goodput and the limited time are measured."""
LOSS_OF = 2.0
"""Seconds over which loss is measured."""
MOST_SAMPLES = 1024
"""Maximum number of samples that are kept."""
ENOUGH = 30_000
"""Bytes that must have been sent within LOSS_OF for a measurement of loss."""


class DirectionCounts(NamedTuple):
    """Counters of the sender of one direction: bytes and seconds, which only grow."""

    sent: int
    lost: int
    send_blocked_seconds: float


class SessionCounts(NamedTuple):
    """Counters of one session. A direction without counters is None."""

    moved: int
    """Bytes delivered in both directions."""
    ways: tuple[DirectionCounts | None, DirectionCounts | None]
    """The direction to the server, and the one to the client."""


class Measured(Protocol):
    """A session whose round trip can be measured."""

    @property
    def rtt(self) -> float | None:
        """Round trip of its stream in seconds. Reading it may take a system call."""


M = TypeVar("M", bound=Measured)


class _Sample(NamedTuple):
    at: float
    moved: int
    sent: int
    lost: int
    send_blocked_seconds: float  # the maximum over all sessions and both directions


class PathMeter:
    """The meter of one lane. Times are seconds of one clock."""

    def __init__(self) -> None:
        self.rtt: float | None = None
        """Shortest round trip of the sessions that move data now, in seconds."""
        self._samples: deque[_Sample] = deque(maxlen=MOST_SAMPLES)
        self._before: Mapping[Any, tuple[object, SessionCounts]] = {}

    def take(self, now: float, counted: Mapping[M, tuple[object, SessionCounts]]) -> None:
        """Take a sample. `counted` has the stream and the counters of each session active on the lane."""
        moved = sent = lost = 0
        blocked = 0.0
        rtts = []  # only of sessions that move data: each takes a system call, and thousands may be idle
        for session, (stream, counts) in counted.items():
            last_stream, last = self._before.get(session, (None, counts))
            if last_stream is not stream:
                continue  # the counters of another carrier do not continue these
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
        """Goodput in bytes per second."""
        recent = self._recent(now)
        return sum(sample.moved for sample in recent) / RATE_OF

    def limited(self, now: float) -> float:
        """The fraction of the time, 0 to 1, in which a sender had more data than the lane took."""
        return min(1.0, sum(sample.send_blocked_seconds for sample in self._recent(now)) / RATE_OF)

    def loss(self, now: float) -> float | None:
        """The fraction of the bytes that was lost; None if too few were sent to tell."""
        recent = [sample for sample in self._samples if sample.at >= now - LOSS_OF]
        sent = sum(sample.sent for sample in recent)
        return min(1.0, sum(sample.lost for sample in recent) / sent) if sent > ENOUGH else None

    def _recent(self, now: float) -> list[_Sample]:
        return [sample for sample in self._samples if sample.at > now - RATE_OF]
