"""How servers that have the same users share each user's rate: the decision, without I/O.

Each server says twice a second what its users want of their rates, and hears what users want elsewhere
(`lane.users.redis_exchange`). All go by the same numbers, so nobody decides for others. A user who waits for
the rate wants all of it, and one who does not wants a little more than was used. A server where little is
wanted gets that, and the others get equal parts of the rest.

A server where the user is at rest says nothing of it, and counts for nobody. There, a small part is there to
begin with, while the user is at work elsewhere.

A server may be several processes, which share the user's part as they share a rate (`lane.users.bucket`). So
each of them tells what its users want, and what a server's processes want is summed up.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from time import monotonic
from typing import NamedTuple

GROWTH = 1.5
"""Times what was used, what a user wants who has not waited: it may have begun just now."""
REST = 0.05
"""The least part of a rate. Several servers at which a user begins at once exceed the rate by that much."""
HELD = 10.0
"""Seconds for which others count as they were last, while they can't be heard."""
MOST_TOLD = 1 << 13
"""Users of a process that others are told of. Further ones get what those leave."""


class Use(NamedTuple):
    """What a user has used of a rate since the last look: bytes, and whether any of them had to wait."""

    up: int
    down: int
    up_waited: bool
    down_waited: bool


Wants = Mapping[str, tuple[float, float]]
"""What users want: bytes a second, up and down."""


class RateShares:
    """The part of a server's processes called `SERVER/...` in the rates of users. `server` is that name."""

    def __init__(self, server: str, clock: Callable[[], float] = monotonic) -> None:
        self._server = server
        self._clock = clock
        self._looked = clock()
        self._told: Mapping[str, Wants] = {}  # by server
        self._heard = clock()
        self._servers = 1  # when they were heard last

    def wants(self, uses: Mapping[str, Use], rates: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        """What to tell the others: `uses` are those since the last call. Users at rest are left out."""
        now = self._clock()
        seconds, self._looked = max(now - self._looked, 0.001), now
        found = {
            name: (
                rates[name] if use.up_waited else use.up * GROWTH / seconds,
                rates[name] if use.down_waited else use.down * GROWTH / seconds,
            )
            for name, use in uses.items()
            if name in rates and any(use)
        }
        return dict(islice(found.items(), MOST_TOLD))

    def hear(self, processes: Mapping[str, Wants]) -> None:
        """Take what all processes want, those of this server included, by their names."""
        told: dict[str, dict[str, tuple[float, float]]] = {self._server: {}}
        for process, wants in processes.items():
            own = told.setdefault(process.partition("/")[0], {})
            for name, (up, down) in wants.items():
                up_before, down_before = own.get(name, (0.0, 0.0))
                own[name] = up_before + up, down_before + down
        self._told, self._heard, self._servers = told, self._clock(), len(told)

    def parts(self, rates: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        """The parts (0 to 1) of users' rates that this server may use now, up and down."""
        if self._clock() - self._heard > HELD:
            part = 1 / self._servers
            return dict.fromkeys(rates, (part, part))
        mine = self._told.get(self._server, {})
        others = [wants for server, wants in self._told.items() if server != self._server]
        found = {}
        for name, rate in rates.items():
            elsewhere = [wants[name] for wants in others if name in wants]
            own = mine.get(name, (0.0, 0.0))
            up, down = (_part(rate, own[way], [one[way] for one in elsewhere]) for way in (0, 1))
            found[name] = up, down
        return found


def _part(rate: float, own: float, others: Iterable[float]) -> float:
    """The part of `rate` for who wants `own`, while others want a part of it too. Max-min fair."""
    wants = sorted([own, *(want for want in others if want)])
    left = rate
    for number, want in enumerate(wants):
        equal = left / (len(wants) - number)
        if want >= equal:
            return max(min(own, equal) / rate, REST)
        left -= want
    return max((own + left / len(wants)) / rate, REST)
