"""The control loop: it measures the lanes, lets the policy choose one, and moves the sessions there.

With one lane there is nothing to choose, but a session still survives the loss of its carrier: it resumes on
the next one. With several lanes, the policy (`select_path`) picks the best one, and the sessions follow.
Sessions that move data follow at once. The others follow one by one, so that a thousand sessions do not dial
at the same time.

Only sessions that move data or wait to are looked at. One that has come to rest is looked at again when it
gets a tick from its registry, as one whose data move does, or when it loses its stream. So thousands at rest
cost nothing.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from math import inf
from time import monotonic, time
from typing import Any, TypeVar

import gevent
from gevent.event import Event

from lane import census
from lane.carriers.crowding import leaving
from lane.carriers.lanes import RATE, SILENT, STUCK, Lanes
from lane.carriers.path_selection import Decision, SelectionState, select_path
from lane.carriers.path_signals import Figures
from lane.carriers.pool import Pool
from lane.carriers.session_driver import SessionDriver
from lane.errors import Closed
from lane.fair import Walk
from lane.session.registry import Registry
from lane.session.session import Session
from lane.stream import Carrier, LinkStats
from lane.supervisor import report, supervise

log = logging.getLogger("lane.client")

LOOK = 0.125
"""Seconds between two measurements of the lanes while sessions move data."""
PART = 0.05
"""The part of the time that measurements may take, of thousands of sessions or on a busy machine."""
LOOK_AT_LEAST = 0.5
"""Seconds between two measurements at most, while sessions move data, however long one takes."""
REST = 1.0
"""Seconds between two measurements while all sessions are idle."""
DOUBTFUL = 5.0
"""Seconds after a change of the network in which a session leaves a silent stream sooner: it may be dead."""
REMEMBERED = 50
"""Number of lane changes that `lane why` can show."""

Result = TypeVar("Result")
SelectionPolicy = Callable[[float, Sequence[Figures], SelectionState], Decision]


class PathControl:
    """`pools` maps the name of each transport to its cost and its carriers, the cheapest first.

    The first lane carries at the start, and `reason` says why in words for people. From then on `policy`
    decides. At most `rate` sessions a second change to another stream. `registry` has all sessions, and
    knows which ones are active.
    """

    def __init__(
        self,
        pools: dict[str, tuple[float, Pool]],
        registry: Registry,
        reason: str,
        policy: SelectionPolicy = select_path,
        rate: float = RATE,
    ) -> None:
        self.reason = reason
        self._policy = policy
        self._registry = registry
        self._drivers: dict[Session, SessionDriver] = {}
        self._watched: set[SessionDriver] = set()  # looked at, also if they get no ticks
        self._since = time()
        self._changes: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._when_changed: Callable[[], None] = lambda: None
        self._wake = Event()
        self._doubtful_until = 0.0
        self.lanes = Lanes(pools, self, rate)
        self._state = SelectionState(self.lanes.choice.name)
        self._looked: tuple[float, list[Figures]] = (-inf, [])
        self._counting = count(1)
        self._looker = supervise("the control loop of the lanes", self._run)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"drivers": len(self._drivers)}

    def __len__(self) -> int:
        return len(self._drivers)

    def add(self, driver: SessionDriver) -> None:
        """Watch over a session until it is over."""
        driver.number = next(self._counting)
        self._drivers[driver.session] = driver
        self._watched.add(driver)
        self.paths_changed()
        driver.session.when_over(partial(self._discard, driver))

    def forget(self, driver: SessionDriver) -> None:
        """Watch no longer over a session, which goes on in another process."""
        self._discard(driver)

    def when_changed(self, call: Callable[[], None]) -> None:
        """Call `call` whenever the choice changes to another lane. It replaces the function set before."""
        self._when_changed = call

    def prefer(self, name: str, reason: str) -> None:
        """Let this lane carry at first, if there is such a one and a choice."""
        if name in self.lanes.lanes and len(self.lanes.lanes) > 1:
            self.lanes.choice, self.reason = self.lanes.lanes[name], reason
            self._state = SelectionState(name)

    def close(self) -> None:
        """Stop the control loop, and close the carriers of all lanes."""
        self._looker.kill(block=False)
        self.lanes.close()

    def newest(self) -> Iterator[SessionDriver]:
        """All sessions, the newest first. None may begin or end meanwhile."""
        return reversed(self._drivers.values())

    @property
    def moving(self) -> list[SessionDriver]:
        """The sessions that moved data within the last seconds, and maybe some more."""
        return [self._drivers[session] for session in self._registry.active if session in self._drivers]

    def snapshot(self, *, recent: bool = False) -> dict[str, Any]:
        """The state that `lane why` shows. Times are seconds since 1970.

        `recent`: what the control loop has measured a moment ago will do.
        """
        now, lanes = monotonic(), self.lanes
        out = lanes.outage(now)
        rows = []
        measured, found = self._looked
        if not recent or now - measured > 2 * LOOK:
            found = self._figures(now, self._active(now))
        for figures in found:
            lane = lanes.lanes[figures.name]
            row = {name: getattr(figures, name) for name in figures.__slots__}
            row |= {"carries": lane is lanes.choice and out is None, "why": lane.probe.why}
            rows.append(row if figures.alive else row | {"silent": lane.probe.unanswered(now)})
        return {
            "time": time(),
            "since": self._since,
            "choice": lanes.choice.name,
            "reason": self.reason,
            "outage": out and {"since": lanes.out_since(out), "reason": out.reason},
            "failure": lanes.failure,
            "sessions": len(self._drivers),
            "lanes": rows,
            "changes": list(self._changes),
        }

    # Reports from the lanes.

    def paths_changed(self) -> None:
        """See `PathObserver`: measure now instead of at the next regular time."""
        self._wake.set()

    def network_changed(self) -> None:
        """See `PathObserver`: attempts begin anew, since packets of those under way may lead nowhere."""
        self._doubtful_until = monotonic() + DOUBTFUL
        for driver in self._drivers.values():
            if driver.attempt is not None:
                driver.attempt.call_off()
        self.paths_changed()

    def stream_lost(self, session: Session) -> None:
        """See `PathObserver`: the session waits for another stream, and is looked at until it has one."""
        if (driver := self._drivers.get(session)) is not None:
            self._watched.add(driver)
            self._wake.set()

    def server_restarted(self, server_epoch: bytes) -> None:
        """See `PathObserver`: the sessions of the previous server process are lost."""
        known = (None, server_epoch)
        for driver in [driver for driver in self._drivers.values() if driver.server_epoch not in known]:
            driver.session.fail(Closed("the server was restarted"))

    # The loop.

    def _run(self) -> None:
        while True:
            self._wake.clear()
            began = monotonic()
            if self._look():
                gevent.sleep(min(max(LOOK, (monotonic() - began) / PART), LOOK_AT_LEAST))
            elif self._drivers:
                self._wake.wait(REST)
            else:
                self._wake.wait()  # no limit: there is no session to look after

    def _look(self) -> bool:
        """Measure, decide, and let the sessions follow. Returns whether any session is active."""
        now, lanes = monotonic(), self.lanes
        active = self._active(now)
        waiting = any(driver.waiting(now) for driver in active)
        carried = [driver for driver in active if driver.session.carried]  # thousands may wait
        shared: dict[Carrier, LinkStats] = {}  # many sessions may share one
        counted = dict(self._each(carried, lambda driver: driver.count(shared)))
        for lane in lanes.lanes.values():
            if self._drivers:
                lane.probe.want(active=bool(active), waited_for=waiting)
            lane.meter.take(now, {d: counts for d, counts in counted.items() if d.lane is lane})
        lanes.wake_waiting()
        figures = self._figures(now, active)
        self._looked = now, figures
        if len(lanes.lanes) > 1 and self._drivers:
            self._decide(self._policy(now, figures, self._state))
        probe, most = lanes.choice.probe, lanes.choice.patience(SILENT)
        works = bool(probe.alive) and probe.silence(now) <= most
        for _ in self._each(active, lambda driver: self._care(driver, now, works=works)):
            pass
        self._spread(carried)
        return bool(active)

    def _spread(self, carried: Iterable[SessionDriver]) -> None:
        """Let active sessions leave a crowded carrier of the chosen lane."""
        choice = self.lanes.choice
        if choice.pool.shared and len(choice.pool) > 1:
            here = self._each(carried, lambda driver: driver.lane is choice)
            for driver in leaving((driver for driver, carries in here if carries), choice.pool.room):
                driver.move(choice)

    def _each(
        self, drivers: Iterable[SessionDriver], look: Callable[[SessionDriver], Result]
    ) -> Iterator[tuple[SessionDriver, Result]]:
        """Yield each session with the result of `look`. An exception ends only the session that raised it."""
        walk = Walk()
        for driver in list(drivers):
            walk.step()
            try:
                result = look(driver)
            except Exception as error:
                report("the look after a session", error)
                driver.session.fail(Closed("looking after the session failed"))
            else:
                yield driver, result

    def _active(self, now: float) -> list[SessionDriver]:
        """The sessions that move data or wait to.

        They are among those that get ticks, which have moved data, and those that were watched already.
        """
        ticking = {self._drivers[session] for session in self._registry.active if session in self._drivers}
        found = []
        for driver, active in self._each(self._watched | ticking, lambda driver: driver.active):
            if active:
                found.append(driver)
            elif not driver.session.silence(now):  # else a PING is outstanding, and may stay so
                self._watched.discard(driver)
        self._watched.update(driver for driver in found if driver.session in self._drivers)
        return found

    def _figures(self, now: float, active: Iterable[SessionDriver]) -> list[Figures]:
        """The measurements of each lane."""
        sessions: dict[str, list[Session]] = {name: [] for name in self.lanes.lanes}
        for driver in active:
            if driver.lane is not None and driver.session.carried:
                sessions[driver.lane.name].append(driver.session)
        return [lane.figures(now, sessions[name]) for name, lane in self.lanes.lanes.items()]

    def _decide(self, decision: Decision) -> None:
        self._state = decision.state
        self.reason = decision.reason or self.reason
        before = self.lanes.choice
        if decision.lane == before.name:
            return
        self.lanes.choice = self.lanes.lanes[decision.lane]
        self._since = time()
        self._changes.append(
            {"time": self._since, "from": before.name, "to": decision.lane, "reason": decision.reason}
        )
        log.info("%s -> %s: %s", before.name, decision.lane, decision.reason)
        self._when_changed()

    def _care(self, driver: SessionDriver, now: float, *, works: bool) -> None:
        """Move an active session to the chosen lane, which may work, or away from a silent stream."""
        lane, choice = driver.lane, self.lanes.choice
        if works and (attempt := driver.attempt) is not None and attempt.lane is not choice:
            attempt.call_off()
        if driver.moving or lane is None:
            return
        if len(self.lanes.lanes) > 1 and now - driver.session.last_data < 2 * LOOK and driver.tells(now):
            driver.session.ping()
        silent = driver.session.silence(now)
        patience = lane.patience(SILENT if now < self._doubtful_until else STUCK) if silent else 0.0
        # Others had their turn since the look began, so that the chosen lane may have died.
        if works and choice.probe.alive and silent > patience:
            driver.rescue(choice)
            return
        if lane is not choice and choice.probe.alive is not False and driver.session.carried:
            # There is no hurry while the old stream carries. A spare stream may date from a time when the
            # network was worse, and may stay slow because of it. So the move uses a fresh stream.
            hurry = silent > lane.patience(SILENT)
            driver.move(choice, fresh=not hurry and not choice.pool.shared)

    def _discard(self, driver: SessionDriver) -> None:
        self._drivers.pop(driver.session, None)
        self._watched.discard(driver)
