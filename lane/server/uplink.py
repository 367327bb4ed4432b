"""Users who compete for a full uplink or a busy process share it: see `lane.users.shares` for how.

This looks at the carriers of all users a few times a second, while several users are there and some have more
to send than goes. A user who is held is held by pacing the user's carriers, each to an equal part. That acts
at once on whatever the transport has buffered, and needs nothing of the sessions.
"""

from math import inf
from time import monotonic
from typing import Protocol, cast

import gevent
from gevent.event import Event

from lane import census
from lane.busy import Busy
from lane.stream import Carrier, Paces, measured
from lane.supervisor import supervise
from lane.users.shares import Ceiling, Shares, Use

LOOK = 0.25
"""Seconds between two looks while carriers have more to send than goes."""
QUIET = 1.0
"""Seconds between two looks while none has."""
MOST_AT_ONCE = 1000
"""Carriers that are looked at in such a time. With more of them, looks are rarer."""
BUSY = 1.0
"""Seconds for which a carrier counts as busy after it had more to send than went."""
SHORTEST = 0.002
"""Seconds of a round trip below which the network is not the limit."""
FULL = 0.8
"""The part of the time from which a process has no time left."""
SMOOTH = 0.5
"""The weight of the newest measurement in a rate."""


class PacedCarrier(Carrier, Paces, Protocol):
    """A carrier that can be paced."""


class Sending:
    """A carrier with more to send than goes, and its rate."""

    __slots__ = ("_at", "_delivered", "busy_at", "carrier", "held", "one_stream", "rate", "rtt", "user")

    def __init__(self, carrier: PacedCarrier, user: str) -> None:
        self.carrier = carrier
        self.user = user
        self.one_stream = getattr(carrier, "one_stream", False)
        self.rate = 0.0
        """Bytes a second that the peer has got."""
        self.rtt: float | None = None
        self.busy_at = 0.0
        self.held: float | None = None
        self._delivered: int | None = None
        self._at = 0.0

    def look(self, now: float) -> None:
        """Measure it."""
        stats = measured(self.carrier)
        if self._delivered is not None and now > self._at:
            rate = (stats.delivered - self._delivered) / (now - self._at)
            self.rate += (rate - self.rate) * (SMOOTH if self.rate else 1.0)
        self._delivered, self._at, self.rtt = stats.delivered, now, stats.rtt

    def hold(self, rate: float | None) -> None:
        """Hold it to `rate`, bytes a second; None: no longer."""
        if rate != self.held:
            self.held = rate
            self.carrier.pace(rate)


class Uplink:
    """The carriers of all users of one process."""

    def __init__(self) -> None:
        self._users: dict[str, set[PacedCarrier]] = {}
        self._several = Event()  # there are several users
        self._sending: dict[Carrier, Sending] = {}
        self._shares = Shares()
        self._ceiling = Ceiling()
        self._busy = Busy()
        supervise("the shares of a full uplink", self._run)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"sending": len(self._sending)}

    def enter(self, carrier: Carrier, user: str) -> None:
        """Look after a carrier of `user`. One that can't be paced is not held."""
        if not hasattr(carrier, "pace"):  # isinstance with the protocol takes longer than all of this
            return
        paced = cast("PacedCarrier", carrier)
        paced.belong(user)
        if (own := self._users.get(user)) is None:
            own = self._users[user] = set()
        own.add(paced)
        if len(self._users) > 1:
            self._several.set()

    def leave(self, carrier: Carrier, user: str) -> None:
        """The carrier has ended. Idempotent."""
        self._sending.pop(carrier, None)
        if (own := self._users.get(user)) is not None:
            own.discard(cast("PacedCarrier", carrier))
            if not own:
                del self._users[user]

    def _run(self) -> None:
        while True:
            if len(self._users) < 2:
                self._decide(monotonic())
                self._several.clear()
                self._several.wait()  # no limit: a single user shares with nobody
            self._decide(monotonic())
            count = sum(map(len, self._users.values()))
            gevent.sleep((LOOK if self._sending else QUIET) * max(1.0, count / MOST_AT_ONCE))

    def _decide(self, now: float) -> None:
        """Look at the carriers, and hold those that are to be held."""
        for user, carriers in self._users.items() if len(self._users) > 1 else ():
            for carrier in carriers:
                if carrier.has_more:
                    sending = self._sending.get(carrier) or Sending(carrier, user)
                    sending.busy_at = now
                    self._sending[carrier] = sending
        for sending in [*self._sending.values()]:
            if now - sending.busy_at > BUSY or len(self._users) < 2:
                sending.hold(None)
                del self._sending[sending.carrier]
            else:
                sending.look(now)
        most = self._most(now)
        for sending in self._sending.values():
            sending.hold(most.get(sending))

    def _most(self, now: float) -> dict[Sending, float]:
        """Bytes a second that carriers are held to."""
        busy = self._busy.take() >= FULL
        far: dict[str, list[Sending]] = {}
        ours: dict[str, list[Sending]] = {}  # those that the process limits
        for sending in self._sending.values():
            # The session of a carrier with one stream takes turns, which is enough: see `lane.users.turns`.
            if not sending.one_stream:
                ours.setdefault(sending.user, []).append(sending)
            if (sending.rtt or 0.0) > SHORTEST and (sending.one_stream or not busy):
                far.setdefault(sending.user, []).append(sending)
        ceiling = self._ceiling.decide({user: _rate(own) for user, own in ours.items()}, busy=busy)
        held = self._shares.decide({user: Use(len(own), _rate(own)) for user, own in far.items()}, now)
        most = {one: held[user] / len(far[user]) for user in held for one in far[user]}
        if ceiling < inf:
            for own in ours.values():
                most |= {one: min(ceiling / len(own), most.get(one, inf)) for one in own}
        return most


def _rate(carriers: list[Sending]) -> float:
    """Bytes a second of all of them."""
    return sum(one.rate for one in carriers)
