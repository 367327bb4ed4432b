"""Sessions that leave a crowded carrier: each carrier gets as much of a line, however many sessions it has.

A carrier has a limited number of streams. If one more session begins, it has a second carrier for itself, and
as much of the line as all the others together. New sessions go where there is more room, but transfers may
last for hours. So some of them move as soon as carriers differ much.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from lane.stream import Carrier

UNEVEN = 2
"""A carrier is crowded if it has more than so many times the active sessions of another one,"""
FEW = 8
"""and so many more. Few sessions seldom need all of the line, and begin and end often."""
AT_ONCE = 32
"""Sessions that move at once, at most. Others move when these have arrived."""


class Carried(Protocol):
    """A session that is active on a carrier."""

    @property
    def carrier(self) -> Carrier | None: ...
    @property
    def moving(self) -> bool: ...
    @property
    def settled(self) -> bool:
        """Whether it can move."""


C = TypeVar("C", bound=Carried)


def leaving(sessions: Iterable[C], room: Callable[[Carrier], int]) -> Sequence[C]:
    """Those of the active `sessions` of a lane that should move to the carrier with most room.

    Nobody moves while others do, or to a carrier that has no more room than theirs: they would come back.
    `room`: the number of streams that a carrier has for those who come.
    """
    on: dict[Carrier, list[C]] = {}
    for session in sessions:
        if session.moving:
            return ()
        if (carrier := session.carrier) is not None:
            on.setdefault(carrier, []).append(session)
    if not on:
        return ()
    crowded = max(on, key=lambda one: len(on[one]))
    roomier = [len(there) for one, there in on.items() if room(one) > room(crowded)]
    most, least = len(on[crowded]), min(roomier, default=len(on[crowded]))
    if most <= UNEVEN * least + FEW:
        return ()
    able = [session for session in on[crowded] if session.settled]
    return able[: min((most - least) // 2, AT_ONCE)]
