"""Whether the server can be reached at all, by what the probes of its lanes know: a pure function.

A choice between lanes says nothing while none of them works. Then it counts since when that is so, and why.
"""

from collections.abc import Iterable
from typing import NamedTuple

OVERDUE = 1.5
"""Seconds without an answer, at least, from which a lane counts as not reached."""


class Asked(NamedTuple):
    """What a probe knows of its lane."""

    name: str
    alive: bool | None
    unanswered: float
    """Seconds that an answer has been due; 0 where none is."""
    patience: float
    """Seconds that an answer may take there."""
    why: str


class Outage(NamedTuple):
    seconds: float
    """For which no lane has worked."""
    reason: str
    """What each lane fails with, for people."""


def outage(lanes: Iterable[Asked]) -> Outage | None:
    """None while a lane works or may still answer, and where none was asked."""
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
