"""The ways to the server, one a transport, and what a session asks of them.

A lane is a transport's carriers with a probe beside them. A session asks for a stream (`lease`), for a lane
that works (`best`), for news (`wait`) and for its turn to dial (`wait_to_dial`), and it passes on what the
server says of itself (`heard`). `lane.carriers.path_control` sets the choice; it is the one `observer`.
"""

from collections.abc import Sequence
from math import inf
from time import monotonic, time
from typing import Any, Protocol

import gevent
from gevent.event import Event

from lane import census
from lane.carriers.dial_limiter import DialLimiter
from lane.carriers.farewells import Farewells
from lane.carriers.lease import Lease
from lane.carriers.outage import Asked, Outage, outage
from lane.carriers.path_meter import PathMeter
from lane.carriers.path_signals import Figures
from lane.carriers.pool import Pool
from lane.carriers.probe import Probe
from lane.carriers.race import race
from lane.errors import Closed, LaneError, Unreachable
from lane.session.session import Session

DOUBT = 0.1
"""Seconds, at least, without an answer after which the lane is asked as well."""
SILENT = 0.25
"""Seconds, at least, without an answer after which a lane counts as silent."""
TRY = 1.0
"""Seconds, at least, to find a lane that works where none did a moment ago."""
STUCK = 1.0
"""Seconds, at least, without an answer after which a session needs another carrier, though its lane works."""
RATE = 15.0
"""Sessions a second that may go to another stream."""


class PathObserver(Protocol):
    """The room above: it decides which lane carries."""

    def paths_changed(self) -> None:
        """A lane began or ceased to work, or a session asks for news of one."""

    def server_restarted(self, server_epoch: bytes) -> None:
        """Another server process has answered. It has none of the sessions of the one before."""


class Lane:
    """The carriers of one transport. `cost`: CPU a byte, as a multiple of the cheapest."""

    def __init__(self, name: str, cost: float, pool: Pool, lanes: "Lanes") -> None:
        self.name = name
        self.cost = cost
        self.pool = pool
        self.probe = Probe(
            lambda fresh: pool.lease(fresh=fresh), lanes.heard, lanes.observer.paths_changed, lanes.probed
        )
        self.meter = PathMeter()

    def patience(self, least: float) -> float:
        """Seconds to wait for an answer: `least`, or more on a long way."""
        return max(least, 4 * (self.probe.delay or 0.0))

    def figures(self, now: float, sessions: Sequence[Session]) -> Figures:
        """What is known of it. `sessions`: those that are active on it.

        The lane is silent where all of them and the probe are: one stalled session proves nothing.
        """
        meter, probe = self.meter, self.probe
        best = probe.best_rtt or 0.0
        silent = min((session.silence(now) for session in sessions), default=inf)
        if sessions and silent > max(DOUBT, 1.5 * best):
            probe.check()
        backlog = max((session.backlog(now) for session in sessions), default=0.0)
        if meter.rtt:
            probe.note(meter.rtt)
        return Figures(
            name=self.name,
            cost=self.cost,
            alive=probe.alive,
            silent=min(silent, probe.silence(now)),
            backlog=backlog,
            rtt=meter.rtt or probe.rtt,
            best_rtt=probe.best_rtt,
            delay=probe.delay,
            loss=meter.loss(now),
            goodput=meter.goodput(now),
            limited=1.0 if backlog > max(SILENT, 3 * best) else meter.limited(now),
        )


class Lanes:
    """`pools`: by name, the cost and the carriers of each transport, the first choice first.

    `rate` sessions a second go to another stream.
    """

    def __init__(
        self, pools: dict[str, tuple[float, Pool]], observer: PathObserver, rate: float = RATE
    ) -> None:
        self.observer = observer
        self.server_epoch: bytes | None = None
        """The server process that answered last."""
        self.lanes = {name: Lane(name, cost, pool, self) for name, (cost, pool) in pools.items()}
        self.choice = next(iter(self.lanes.values()))
        """The lane that carries what begins now."""
        self.failure: dict[str, Any] | None = None
        """What failed since the server answered last: `time`, `first` (seconds since 1970) and `reason`."""
        self._dial_limiter = DialLimiter(rate)
        self.farewells = Farewells()
        """Sessions that were aborted, of which the server may not know."""
        for lane in self.lanes.values():
            lane.pool.crowded = lambda: len(self._dial_limiter) > 0
        self._works = Event()  # a lane came to life
        self._tried = Event()  # a probe's try has ended
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"turns": len(self._dial_limiter), "farewells": len(self.farewells)}

    # What sessions ask.

    def lease(self, lane: Lane | None = None, *, fresh: bool = False) -> tuple[Lane, Lease]:
        """A stream of `lane`, or of the first that has one. Raises Unreachable or Refused."""
        if lane is not None:
            return lane, lane.pool.lease(fresh=fresh or lane.probe.alive is False, moved=True)
        order = [self.choice, *(one for one in self.lanes.values() if one is not self.choice)]
        if all(one.probe.alive is False for one in order):
            self._find_one(order)
        order.sort(key=lambda one: one.probe.alive is False)
        number, lease = race([lane.pool for lane in order], fresh=fresh)
        return order[number], lease

    def best(self, within: float) -> Lane:
        """The lane to go on over: the choice if it works, else one that does. Raises Unreachable."""
        until = monotonic() + within
        while True:
            lanes = [lane for lane in self.lanes.values() if lane.probe.alive]
            if self.choice in lanes:
                return self.choice
            if lanes:
                return lanes[0]
            if monotonic() >= until:
                raise Unreachable("no way to the server was found in time")
            self.wait(until - monotonic())

    def wait(self, within: float) -> None:
        """Wait until there is news of a lane, a second, or `within` seconds."""
        self._works.clear()
        self.observer.paths_changed()
        self._works.wait(max(0.0, min(within, 1.0)))

    def wait_to_dial(self, lane: Lane, session: Session, within: float, *, urgent: bool) -> None:
        """Wait until a session may go to a stream of `lane`: where that needs a dial, others want one too.

        Raises Unreachable if that takes longer than `within` seconds, Closed if the session ended meanwhile.
        """
        if lane.pool.shared and lane.pool.ready:
            return
        if not self._dial_limiter.wait(within, urgent=urgent, wanted=lambda: not session.over):
            raise Closed("the session is over") if session.over else Unreachable("no turn to dial in time")

    def heard(self, server_epoch: bytes) -> None:
        """A server process answered."""
        self.failure = None
        if server_epoch != self.server_epoch:
            self.server_epoch = server_epoch
            self.observer.server_restarted(server_epoch)

    def failed(self, error: LaneError) -> None:
        """Something found no way to the server: `lane why` tells of it until the server answers."""
        first = self.failure["first"] if self.failure else time()
        self.failure = {"time": time(), "first": first, "reason": str(error)}

    # What probes and the network tell.

    def probed(self) -> None:
        """A probe's try has ended, one way or the other."""
        self._tried.set()

    def network_changed(self) -> None:
        """Addresses or routes of this machine have changed: whatever was known of the lanes is old."""
        for lane in self.lanes.values():
            lane.probe.doubt()
        self.observer.paths_changed()

    # What the control loop needs.

    def wake_waiting(self) -> None:
        """End the `wait` of all sessions if a lane works."""
        if any(lane.probe.alive for lane in self.lanes.values()):
            self._works.set()

    def outage(self, now: float) -> Outage | None:
        """Since when no lane works; None where one does, and where nobody asked."""
        return outage(
            Asked(name, lane.probe.alive, lane.probe.unanswered(now), lane.patience(0.0), lane.probe.why)
            for name, lane in self.lanes.items()
        )

    def out_since(self, out: Outage) -> float:
        """Seconds since 1970. Probes may have asked later than sessions did."""
        since = time() - out.seconds
        return min(since, self.failure["first"]) if self.failure else since

    def ask_all(self, within: float) -> None:
        """Find out what is true now: ask on each lane, and wait `within` seconds at most for the answers."""
        # no limit: each has `within`
        gevent.joinall([gevent.spawn(lane.probe.ask, within) for lane in self.lanes.values()])

    def close(self) -> None:
        """Close the carriers of all lanes."""
        self._dial_limiter.close()
        self.farewells.close()
        for lane in self.lanes.values():
            lane.probe.close()
        # no limit: each has one
        gevent.joinall([gevent.spawn(lane.pool.close) for lane in self.lanes.values()])

    def _find_one(self, order: list[Lane]) -> None:
        """No lane works, as far as is known: try all now, and wait shortly. Raises Unreachable.

        The probes do it, for all who ask meanwhile: a dial for each would be a flood, on a network or a
        server that is just coming back.
        """
        began = monotonic()
        until = began + max(lane.patience(TRY) for lane in order)
        for lane in order:
            lane.probe.want(active=True, waited_for=True)
            lane.probe.check()
        while not any(lane.probe.alive for lane in order):
            left = until - monotonic()
            if left <= 0 or all(lane.probe.failed > began for lane in order):
                out = self.outage(monotonic())
                raise Unreachable(f"the server is not reached: {out.reason if out else 'no answer'}")
            self._tried.clear()
            self._tried.wait(left)
