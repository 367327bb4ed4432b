"""The lanes to the server, one for each transport, and what sessions may ask of them.

A lane is the carriers of one transport and a probe that tests them. A session asks for a stream (`lease`),
for a lane that works (`best`), for news of the lanes (`wait`) and for its turn to ask the server (`turn`). It
reports which server process answered (`heard`). `lane.carriers.path_control` sets the choice, and is the
only `observer`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from time import monotonic, time
from typing import Any, Protocol

import gevent
from gevent.event import Event

from lane import census
from lane.carriers.dial_limiter import DialLimiter
from lane.carriers.farewells import Farewells
from lane.carriers.lease import Lease
from lane.carriers.path_meter import PathMeter
from lane.carriers.path_signals import Figures
from lane.carriers.pool import Pool
from lane.carriers.probe import Probe
from lane.carriers.race import race
from lane.carriers.reachability import Asked, Outage, outage
from lane.errors import Closed, LaneError, Refused, Unreachable
from lane.log import Throttle
from lane.net.path_memory import PATHS
from lane.session.session import Session
from lane.users.ending import Ending

log = logging.getLogger("lane.client")

DOUBT = 0.1
"""Seconds without an answer to any session after which the lane is probed; more on a long path."""
SILENT = 0.25
"""Seconds without an answer after which a lane counts as silent; more on a long path."""
TRY = 3.0
"""Seconds to find a lane that works when none is known to work; more on a long path. A server that stands
still for a moment, on a machine with too much to do, must not cost those who begin then their connections."""
STUCK = 1.0
"""Seconds without an answer after which a session needs another carrier; more on a long path."""
RATE = 15.0
"""Sessions per second that may change to another stream while dials take long."""


class PathObserver(Protocol):
    """The owner of the lanes, which decides which one carries."""

    def paths_changed(self) -> None:
        """A lane started or stopped working, or a session waits for news of the lanes."""

    def stream_lost(self, session: Session) -> None:
        """The session waits for another stream."""

    def network_changed(self) -> None:
        """Dials that are under way may have no way any more."""

    def server_restarted(self, server_epoch: bytes) -> None:
        """Another server process answered. It has none of the previous process's sessions."""


class Lane:
    """The carriers of one transport. `cost`: CPU per byte, relative to TLS over TCP."""

    def __init__(self, name: str, cost: float, pool: Pool, lanes: "Lanes") -> None:
        self.name = name
        self.cost = cost
        self.pool = pool
        self.probe = Probe(
            lambda fresh: pool.lease(fresh=fresh), lanes.heard, lanes.observer.paths_changed, lanes.probed
        )
        self.meter = PathMeter()

    def patience(self, least: float) -> float:
        """Seconds to wait for an answer: four times the usual delay, but at least `least`."""
        return max(least, 4 * (self.probe.delay or 0.0))

    def figures(self, now: float, sessions: Sequence[Session]) -> Figures:
        """The lane's measurements. `sessions`: the active sessions on it.

        The lane is silent only if all these sessions and the probe are. One stalled session proves nothing.
        """
        meter, probe = self.meter, self.probe
        best = probe.best_rtt or 0.0
        silent = _silence(now, sessions) if sessions else inf
        if sessions and silent > max(DOUBT, 1.5 * best):
            probe.check()
        backlog = max((_backlog(now, session) for session in sessions), default=0.0)
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


Leased = tuple[Lane, Lease]
"""A stream that nobody has used, and its lane."""


class Lanes:
    """`pools` maps the name of each transport to its cost and its carriers, the first choice first.

    At most `rate` sessions per second change to another stream while dials take long.
    """

    def __init__(
        self, pools: dict[str, tuple[float, Pool]], observer: PathObserver, rate: float = RATE
    ) -> None:
        self.observer = observer
        self.server_epoch: bytes | None = None
        """The server process that sent the last answer; None before the first."""
        self.lanes = {name: Lane(name, cost, pool, self) for name, (cost, pool) in pools.items()}
        self.choice = next(iter(self.lanes.values()))
        """The lane that new sessions use."""
        self.failure: dict[str, Any] | None = None
        """Failures since the server's last answer: the last `time`, the `first` time and the last `reason`.

        Times are seconds since 1970. None if nothing has failed.
        """
        self._expelled = Throttle()
        self._dial_limiter = DialLimiter(rate)
        self.farewells = Farewells()
        """Aborts that the server may not know of yet."""
        for lane in self.lanes.values():
            lane.pool.crowded = lambda: len(self._dial_limiter) > 0
        self._works = Event()  # a lane works
        self._tried = Event()  # an attempt of a probe has ended
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"turns": len(self._dial_limiter), "farewells": len(self.farewells)}

    # What sessions ask.

    def lease(self, lane: Lane | None = None, *, fresh: bool = False) -> Leased:
        """A stream on `lane`; without `lane`, on the first lane that has one. Raises Unreachable or Refused.

        `fresh`: on a new carrier.
        """
        if lane is not None:
            return lane, lane.pool.lease(fresh=fresh or lane.probe.alive is False, moved=True)
        order = [self.choice, *(one for one in self.lanes.values() if one is not self.choice)]
        if all(one.probe.alive is False for one in order):
            self._find_one(order)
        order.sort(key=lambda one: one.probe.alive is False)
        number, lease = race([lane.pool for lane in order], fresh=fresh)
        return order[number], lease

    def best(self, within: float) -> Lane:
        """The lane to resume on: the choice if it works, else another that does.

        Raises Unreachable if no lane works `within` seconds.
        """
        until = monotonic() + within
        while True:
            lanes = [lane for lane in self.lanes.values() if lane.probe.alive]
            if self.choice in lanes:
                return self.choice
            if lanes:
                return lanes[0]
            if monotonic() >= until:
                raise Unreachable("no lane to the server worked in time")
            self.wait(until - monotonic())

    def wait(self, within: float) -> None:
        """Wait until a lane works, but at most one second, and at most `within` seconds."""
        self._works.clear()
        self.observer.paths_changed()
        self._works.wait(max(0.0, min(within, 1.0)))

    @contextmanager
    def turn(self, lane: Lane, wanted: Callable[[], bool], within: float, *, urgent: int) -> Iterator[None]:
        """Wait until a session may ask the server on `lane`, which it does for the time of the context.

        Raises Unreachable if the wait exceeds `within` seconds, Closed if it is not `wanted` any more.
        """

        def dials() -> bool:
            return not (lane.pool.shared and lane.pool.ready)

        turn = self._dial_limiter.turn(within, urgent=urgent, wanted=wanted, dials=dials)
        with turn as given:
            if not wanted():
                raise Closed("the session is over")
            if not given:
                raise Unreachable("no turn to dial in time")
            yield

    def heard(self, server_epoch: bytes) -> None:
        """Note that this server process answered."""
        self.failure = None
        if server_epoch != self.server_epoch:
            self.server_epoch = server_epoch
            self.observer.server_restarted(server_epoch)

    def failed(self, error: LaneError) -> None:
        """Note that the server could not be reached: `lane why` shows it until the server answers."""
        first = self.failure["first"] if self.failure else time()
        self.failure = {"time": time(), "first": first, "reason": str(error)}

    def expelled(self, ending: Ending) -> None:
        """Note that the server ended a session because of the user's account."""
        if self._expelled.allows(ending) is not None:
            log.warning("the server ended sessions: %s", ending.text)
        self.failed(Refused(ending.text))

    # Reports from the probes and the network.

    def probed(self) -> None:
        """Note that an attempt of a probe succeeded or failed."""
        self._tried.set()

    def network_changed(self) -> None:
        """Note that this machine's addresses or routes changed: all measurements may be out of date."""
        PATHS.clear()
        for lane in self.lanes.values():
            lane.pool.network_changed()
            lane.probe.doubt()
        self.observer.network_changed()

    # For the control loop.

    def wake_waiting(self) -> None:
        """Wake the sessions in `wait` if a lane works."""
        if any(lane.probe.alive for lane in self.lanes.values()):
            self._works.set()

    def outage(self, now: float) -> Outage | None:
        """How long no lane has worked, and why. None if one works, or none was probed."""
        return outage(
            Asked(name, lane.probe.alive, lane.probe.unanswered(now), lane.patience(0.0), lane.probe.why)
            for name, lane in self.lanes.items()
        )

    def out_since(self, out: Outage) -> float:
        """When the outage began, in seconds since 1970. A session may have failed before the probes did."""
        since = time() - out.seconds
        return min(since, self.failure["first"]) if self.failure else since

    def ask_all(self, within: float) -> None:
        """Probe each lane now, and wait at most `within` seconds for the answers."""
        # no limit: each has `within`
        gevent.joinall([gevent.spawn(lane.probe.ask, within) for lane in self.lanes.values()])

    def close(self) -> None:
        """Close the carriers of all lanes."""
        self._dial_limiter.close()
        self.farewells.close()
        for lane in self.lanes.values():
            lane.probe.close()
        # no limit: each close has its own
        gevent.joinall([gevent.spawn(lane.pool.close) for lane in self.lanes.values()])

    def _find_one(self, order: list[Lane]) -> None:
        """All lanes seem to be down: wait until one works. Raises Unreachable after a short wait.

        The probes try all lanes, once for all callers. A dial for each caller would flood a network or a
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


def _silence(now: float, sessions: Sequence[Session]) -> float:
    """Seconds for which nothing has come on any session, although one of them has asked."""
    asking = [session.silence(now) for session in sessions if session.asking]
    heard = max(session.protocol.liveness.heard for session in sessions)
    return min(*asking, now - heard) if asking else 0.0


def _backlog(now: float, session: Session) -> float:
    """Seconds for which an answer waits behind data. On a stream that is silent, it waits for nothing."""
    waits = session.backlog(now)
    return waits if session.silence(now) < waits / 2 else 0.0
