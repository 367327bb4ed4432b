"""The ways to the server, one a transport, and which of them carries.

A lane is a transport's carriers with a probe beside them. With one lane there is nothing to choose, but
sessions still survive the loss of a carrier: they go on over the next one. With several, `steer` says which
one is better now, and the sessions follow: at once where data move, one after the other, so that a thousand
sessions do not dial at the same time.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from time import monotonic, time
from typing import Any, Protocol, TypeVar

import gevent
from gevent.event import Event

from lane import census
from lane.carriers.evidence import Figures
from lane.carriers.farewells import Farewells
from lane.carriers.measure import Counts, Measure
from lane.carriers.outage import Asked, Outage, outage
from lane.carriers.pool import Lease, Pool
from lane.carriers.probe import Probe
from lane.carriers.race import race
from lane.carriers.steer import Decision, State, steer
from lane.carriers.turns import Turns
from lane.errors import Closed, LaneError, Unreachable
from lane.session.activity import ACTIVE
from lane.session.session import Session
from lane.supervisor import report, supervise

log = logging.getLogger("lane.client")

LOOK = 0.125
"""Seconds between two looks at the lanes while sessions move data."""
REST = 1.0
"""Seconds between two looks while all sessions are idle."""
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
REMEMBERED = 50
"""Changes that `lane why` can tell of."""

Result = TypeVar("Result")
Steering = Callable[[float, Sequence[Figures], State], Decision]


class Lane:
    """The carriers of one transport. `cost`: CPU a byte, as a multiple of the cheapest."""

    def __init__(self, name: str, cost: float, pool: Pool, lanes: "Lanes") -> None:
        self.name = name
        self.cost = cost
        self.pool = pool
        self.probe = Probe(lambda fresh: pool.lease(fresh=fresh), lanes.heard, lanes.look_now, lanes.probed)
        self.measure = Measure()

    def patience(self, least: float) -> float:
        """Seconds to wait for an answer: `least`, or more on a long way."""
        return max(least, 4 * (self.probe.delay or 0.0))

    def figures(self, now: float, sessions: Sequence[Session]) -> Figures:
        """What is known of it; `sessions`: those that are active on it.

        It is silent where all of them are, and the probe as well: one that waits may only be unlucky.
        """
        measure, probe = self.measure, self.probe
        best = probe.best_rtt or 0.0
        silent = min((session.silence(now) for session in sessions), default=inf)
        if sessions and silent > max(DOUBT, 1.5 * best):
            probe.check()
        backlog = max((session.backlog(now) for session in sessions), default=0.0)
        if measure.rtt:
            probe.note(measure.rtt)
        return Figures(
            name=self.name,
            cost=self.cost,
            alive=probe.alive,
            silent=min(silent, probe.silence(now)),
            backlog=backlog,
            rtt=measure.rtt or probe.rtt,
            best_rtt=probe.best_rtt,
            delay=probe.delay,
            loss=measure.loss(now),
            goodput=measure.goodput(now),
            limited=1.0 if backlog > max(SILENT, 3 * best) else measure.limited(now),
        )


class Driver(Protocol):
    """What takes one session from stream to stream, over these lanes: see `lane.carriers.passage`."""

    session: Session
    lane: Lane | None
    """What carries it, or did so last."""

    @property
    def boot(self) -> bytes | None:
        """The server process that has the session; None while that is not known."""

    @property
    def active(self) -> bool:
        """Whether it moved data lately, or is waiting to."""

    @property
    def moving(self) -> bool:
        """Whether another stream is being made for it."""

    @property
    def rtt(self) -> float | None:
        """Round trip on its stream, seconds."""

    def waiting(self, now: float) -> bool:
        """Whether nothing carries it, or what does gives no answer."""

    def count(self) -> tuple[object, Counts]:
        """Its stream, and what was counted on it."""

    def move(self, lane: Lane, *, fresh: bool = False) -> None:
        """Go on over `lane`, on a carrier that was made for it if `fresh`. Does not wait for that."""

    def rescue(self, lane: Lane) -> None:
        """The stream is silent: go on over `lane`. Does not wait for that."""


class Lanes:
    """`pools`: by name, the cost and the carriers of each transport, the cheapest first.

    The first one carries at the beginning; `reason`: why, for people. `policy` decides from then on, and
    `rate` sessions a second go to another stream.
    """

    def __init__(
        self, pools: dict[str, tuple[float, Pool]], reason: str, policy: Steering = steer, rate: float = RATE
    ) -> None:
        self.boot: bytes | None = None
        """The server process that answered last."""
        self.changed: Callable[[], None] = lambda: None
        """Called when another lane carries."""
        self.awake: Callable[[], Iterable[Session]] = lambda: ()
        """The sessions that may have moved data lately; there can be thousands that did not."""
        self.lanes = {name: Lane(name, cost, pool, self) for name, (cost, pool) in pools.items()}
        self.reason = reason
        self._policy = policy
        self._choice = next(iter(self.lanes.values()))
        self._since = time()
        self._state = State(self._choice.name)
        self._changes: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._failure: dict[str, Any] | None = None  # since the server answered last
        self._passages: dict[Session, Driver] = {}
        self._watched: set[Driver] = set()  # those that were active at the last look at all of them
        self._swept = 0.0
        self._turns = Turns(rate)
        self.farewells = Farewells()
        """Sessions that were aborted, of which the server may not know."""
        for lane in self.lanes.values():
            lane.pool.crowded = lambda: len(self._turns) > 0
        self._wake = Event()
        self._works = Event()  # a lane came to life
        self._tried = Event()  # something came of a probe's try
        self._looker = supervise("the look at the lanes", self._run)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        waiting = {"turns": len(self._turns), "farewells": len(self.farewells)}
        return {"passages": len(self._passages), **waiting}

    def __len__(self) -> int:
        return len(self._passages)

    @property
    def choice(self) -> Lane:
        """The lane that carries what begins now."""
        return self._choice

    def add(self, passage: Driver) -> None:
        """Look after a session."""
        self._passages[passage.session] = passage
        self._watched.add(passage)
        self.look_now()

    def discard(self, passage: Driver) -> None:
        """A session is over."""
        self._passages.pop(passage.session, None)
        self._watched.discard(passage)

    def heard(self, boot: bytes) -> None:
        """A server process answered. One that is new has none of the sessions of the one before."""
        self._failure = None
        if boot != self.boot:
            self.boot = boot
            for passage in [p for p in self._passages.values() if p.boot not in (None, boot)]:
                passage.session.fail(Closed("the server was restarted"))

    def failed(self, error: LaneError) -> None:
        """Something found no way to the server: `lane why` tells of it until the server answers."""
        first = self._failure["first"] if self._failure else time()
        self._failure = {"time": time(), "first": first, "reason": str(error)}

    def probed(self) -> None:
        """Something came of a probe's try."""
        self._tried.set()

    def look_now(self) -> None:
        """Something has changed: do not wait for the next look."""
        self._wake.set()

    def network_changed(self) -> None:
        """Addresses or routes of this machine are others: whatever was known of the lanes is old."""
        for lane in self.lanes.values():
            lane.probe.doubt()
        self.look_now()

    def lease(self, lane: Lane | None = None, *, fresh: bool = False) -> tuple[Lane, Lease]:
        """A stream of `lane`, or of the first that has one. Raises Unreachable or Refused."""
        if lane is not None:
            return lane, lane.pool.lease(fresh=fresh or lane.probe.alive is False, moved=True)
        order = [self._choice, *(one for one in self.lanes.values() if one is not self._choice)]
        if all(one.probe.alive is False for one in order):
            self._find_one(order)
        order.sort(key=lambda one: one.probe.alive is False)
        number, lease = race([lane.pool for lane in order], fresh=fresh)
        return order[number], lease

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

    def outage(self, now: float) -> Outage | None:
        """Since when no lane works; None where one does, and where nobody asked."""
        return outage(
            Asked(name, lane.probe.alive, lane.probe.unanswered(now), lane.patience(0.0), lane.probe.why)
            for name, lane in self.lanes.items()
        )

    def ask_all(self, within: float) -> None:
        """Find out what is true now: ask on each lane, and wait `within` seconds at most for the answers."""
        # no limit: each has `within`
        gevent.joinall([gevent.spawn(lane.probe.ask, within) for lane in self.lanes.values()])

    def best(self, within: float) -> Lane:
        """The lane to go on over: the choice if it works, else one that does. Raises Unreachable."""
        until = monotonic() + within
        while True:
            lanes = [lane for lane in self.lanes.values() if lane.probe.alive]
            if self._choice in lanes:
                return self._choice
            if lanes:
                return lanes[0]
            if monotonic() >= until:
                raise Unreachable("no way to the server was found in time")
            self.wait(until - monotonic())

    def wait(self, within: float) -> None:
        """Wait until there is news of a lane, a second, or `within` seconds."""
        self._works.clear()
        self.look_now()
        self._works.wait(max(0.0, min(within, 1.0)))

    def turn(self, lane: Lane, passage: Driver, within: float, *, urgent: bool) -> None:
        """Wait until a session may go to a stream of `lane`: where that needs a dial, others want one too.

        Raises Unreachable if that takes longer than `within` seconds, Closed if the session ended meanwhile.
        """
        if lane.pool.shared and lane.pool.ready:
            return
        session = passage.session
        if not self._turns.wait(within, urgent=urgent, wanted=lambda: not session.over):
            raise Closed("the session is over") if session.over else Unreachable("no turn to dial in time")

    def close(self) -> None:
        """Close the carriers of all lanes."""
        self._looker.kill(block=False)
        self._turns.close()
        self.farewells.close()
        for lane in self.lanes.values():
            lane.probe.close()
        # no limit: each has one
        gevent.joinall([gevent.spawn(lane.pool.close) for lane in self.lanes.values()])

    def snapshot(self) -> dict[str, Any]:
        """What `lane why` shows; times are seconds since 1970."""
        now, out = monotonic(), self.outage(monotonic())
        rows = []
        for figures in self._figures(now, self._active(now)):
            lane = self.lanes[figures.name]
            row = {name: getattr(figures, name) for name in figures.__slots__}
            row |= {"carries": lane is self._choice and out is None, "why": lane.probe.why}
            rows.append(row if figures.alive else row | {"silent": lane.probe.unanswered(now)})
        return {
            "time": time(),
            "since": self._since,
            "choice": self._choice.name,
            "reason": self.reason,
            "outage": out and {"since": self._out_since(out), "reason": out.reason},
            "failure": self._failure,
            "sessions": len(self._passages),
            "lanes": rows,
            "changes": list(self._changes),
        }

    def _out_since(self, out: Outage) -> float:
        """Probes may have asked later than sessions did; seconds since 1970."""
        since = time() - out.seconds
        return min(since, self._failure["first"]) if self._failure else since

    # What is done again and again.

    def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._look():
                gevent.sleep(LOOK)
            elif self._passages:
                self._wake.wait(REST)
            else:
                self._wake.wait()  # no limit: there is no session to look after

    def _look(self) -> bool:
        """Measure, decide, and have the sessions follow; whether any of them is active."""
        now = monotonic()
        active = self._active(now)
        waiting = any(passage.waiting(now) for passage in active)
        counted = dict(self._each(active, lambda passage: passage.count()))
        for lane in self.lanes.values():
            if self._passages:
                lane.probe.want(active=bool(active), waited_for=waiting)
            lane.measure.take(now, {p: counts for p, counts in counted.items() if p.lane is lane})
        if any(lane.probe.alive for lane in self.lanes.values()):
            self._works.set()
        figures = self._figures(now, active)
        if len(self.lanes) > 1 and self._passages:
            self._decide(self._policy(now, figures, self._state))
        for _ in self._each(active, lambda passage: self._care(passage, now)):
            pass
        return bool(active)

    def _each(
        self, passages: Iterable[Driver], look: Callable[[Driver], Result]
    ) -> Iterator[tuple[Driver, Result]]:
        """Look at each session. A fault in that ends the session, and not the look at the others."""
        for passage in list(passages):
            try:
                result = look(passage)
            except Exception as error:
                report("the look after a session", error)
                passage.session.fail(Closed("looking after the session failed"))
            else:
                yield passage, result

    def _active(self, now: float) -> list[Driver]:
        """The sessions that move data, or wait to. All of them are looked at only once a second."""
        if now - self._swept >= REST:
            self._swept = now
            self._watched = set(self._only_active(self._passages.values()))
        fresh = [session for session in self.awake() if now - session.last_data < ACTIVE]
        awake = {self._passages[session] for session in fresh if session in self._passages}
        return self._only_active(self._watched | awake)

    def _only_active(self, passages: Iterable[Driver]) -> list[Driver]:
        return [passage for passage, active in self._each(passages, lambda passage: passage.active) if active]

    def _figures(self, now: float, active: Iterable[Driver]) -> list[Figures]:
        """Of each lane."""
        sessions: dict[str, list[Session]] = {name: [] for name in self.lanes}
        for passage in active:
            if passage.lane is not None and passage.session.carried:
                sessions[passage.lane.name].append(passage.session)
        return [lane.figures(now, sessions[name]) for name, lane in self.lanes.items()]

    def _decide(self, decision: Decision) -> None:
        self._state = decision.state
        self.reason = decision.reason or self.reason
        if decision.lane == self._choice.name:
            return
        before, self._choice = self._choice, self.lanes[decision.lane]
        self._since = time()
        self._changes.append(
            {"time": self._since, "from": before.name, "to": decision.lane, "reason": decision.reason}
        )
        log.info("%s -> %s: %s", before.name, decision.lane, decision.reason)
        self.changed()

    def _care(self, passage: Driver, now: float) -> None:
        """Have an active session follow the choice, or leave a stream that is silent."""
        lane, choice = passage.lane, self._choice
        if passage.moving or lane is None:
            return
        if len(self.lanes) > 1 and now - passage.session.last_data < 2 * LOOK:
            passage.session.ping()  # how long an answer takes tells what the lane makes of the data
        silent = passage.session.silence(now)
        works = choice.probe.alive and choice.probe.silence(now) <= choice.patience(SILENT)
        if silent > lane.patience(STUCK) and works:
            passage.rescue(choice)
            return
        if lane is not choice and choice.probe.alive is not False and passage.session.carried:
            # Nothing hurries while the stream carries, and what stood by since the network was worse may
            # have been slowed down by that for good.
            passage.move(choice, fresh=not silent and not choice.pool.shared)
