"""Whether the server can be reached at all: a pure function of the state of the lanes' probes.

While no lane works, the choice of a lane says nothing. Then people need to know for how long, and why.
"""

from collections.abc import Iterable
from typing import NamedTuple

OVERDUE = 1.5
"""Seconds without an answer after which a lane counts as down; more on a long path."""


class Asked(NamedTuple):
    """The state of a lane's probe."""

    name: str
    alive: bool | None
    unanswered: float
    """Seconds that an answer has been due; 0 if none is."""
    patience: float
    """Seconds that an answer may take on this lane."""
    why: str
    """Why the lane does not work; empty if that is not known."""


class Outage(NamedTuple):
    seconds: float
    """How long no lane has worked."""
    reason: str
    """The failure of each lane, in words for people."""


def outage(lanes: Iterable[Asked]) -> Outage | None:
    """The present outage. None if a lane works or may still answer, or none was probed."""
    asked = [lane for lane in lanes if lane.alive is not None or lane.unanswered]
    for lane in asked:
        if lane.alive is not False and lane.unanswered <= max(OVERDUE, lane.patience):
            return None
    if not asked:
        return None
    reasons: dict[str, list[str]] = {}
    for lane in asked:
        reasons.setdefault(lane.why or f"no answer for {lane.unanswered:.0f} s", []).append(lane.name)
    reason = "; ".join(f"{why} ({', '.join(names)})" for why, names in reasons.items())
    return Outage(min(lane.unanswered for lane in asked), reason)
