"""The control loop over the lanes: it measures them, has the policy choose one, and moves the sessions there.

With one lane there is nothing to choose, but sessions still survive the loss of a carrier: they go on over
the next one. With several, the policy (`select_path`) says which one is better now, and the sessions follow.
Sessions that move data follow at once. The others follow one after the other, so that a thousand sessions do
not dial at the same time.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from time import monotonic, time
from typing import Any, TypeVar

import gevent
from gevent.event import Event

from lane import census
from lane.carriers.lanes import RATE, SILENT, STUCK, Lanes
from lane.carriers.path_selection import Decision, SelectionState, select_path
from lane.carriers.path_signals import Figures
from lane.carriers.pool import Pool
from lane.carriers.session_driver import SessionDriver
from lane.errors import Closed
from lane.session.activity import ACTIVE
from lane.session.registry import Registry
from lane.session.session import Session
from lane.supervisor import report, supervise

log = logging.getLogger("lane.client")

LOOK = 0.125
"""Seconds between two looks at the lanes while sessions move data."""
REST = 1.0
"""Seconds between two looks while all sessions are idle."""
REMEMBERED = 50
"""Changes that `lane why` can tell of."""

Result = TypeVar("Result")
SelectionPolicy = Callable[[float, Sequence[Figures], SelectionState], Decision]


class PathControl:
    """`pools`: by name, the cost and the carriers of each transport, the cheapest first.

    The first one carries at the beginning; `reason`: why, for people. `policy` decides from then on, and
    `rate` sessions a second go to another stream. `registry` has all sessions, and knows the active ones.
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
        self._watched: set[SessionDriver] = set()  # those that were active at the last look at all of them
        self._swept = 0.0
        self._since = time()
        self._changes: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._when_changed: Callable[[], None] = lambda: None
        self._wake = Event()
        self.lanes = Lanes(pools, self, rate)
        self._state = SelectionState(self.lanes.choice.name)
        self._looker = supervise("the look at the lanes", self._run)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"drivers": len(self._drivers)}

    def __len__(self) -> int:
        return len(self._drivers)

    def add(self, driver: SessionDriver) -> None:
        """Look after a session until it is over."""
        self._drivers[driver.session] = driver
        self._watched.add(driver)
        self.paths_changed()
        driver.session.when_over(partial(self._discard, driver))

    def when_changed(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever another lane carries. One caller is enough: the control socket."""
        self._when_changed = call

    def close(self) -> None:
        """Stop looking, and close the carriers of all lanes."""
        self._looker.kill(block=False)
        self.lanes.close()

    def snapshot(self) -> dict[str, Any]:
        """What `lane why` shows; times are seconds since 1970."""
        now, lanes = monotonic(), self.lanes
        out = lanes.outage(now)
        rows = []
        for figures in self._figures(now, self._active(now)):
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

    # What the lanes tell.

    def paths_changed(self) -> None:
        """See `PathObserver`: do not wait for the next look."""
        self._wake.set()

    def server_restarted(self, server_epoch: bytes) -> None:
        """See `PathObserver`: the sessions of the process before are lost."""
        known = (None, server_epoch)
        for driver in [driver for driver in self._drivers.values() if driver.server_epoch not in known]:
            driver.session.fail(Closed("the server was restarted"))

    # The loop.

    def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._look():
                gevent.sleep(LOOK)
            elif self._drivers:
                self._wake.wait(REST)
            else:
                self._wake.wait()  # no limit: there is no session to look after

    def _look(self) -> bool:
        """Measure, decide, and have the sessions follow; whether any of them is active."""
        now, lanes = monotonic(), self.lanes
        active = self._active(now)
        waiting = any(driver.waiting(now) for driver in active)
        counted = dict(self._each(active, lambda driver: driver.count()))
        for lane in lanes.lanes.values():
            if self._drivers:
                lane.probe.want(active=bool(active), waited_for=waiting)
            lane.meter.take(now, {d: counts for d, counts in counted.items() if d.lane is lane})
        lanes.wake_waiting()
        figures = self._figures(now, active)
        if len(lanes.lanes) > 1 and self._drivers:
            self._decide(self._policy(now, figures, self._state))
        for _ in self._each(active, lambda driver: self._care(driver, now)):
            pass
        return bool(active)

    def _each(
        self, drivers: Iterable[SessionDriver], look: Callable[[SessionDriver], Result]
    ) -> Iterator[tuple[SessionDriver, Result]]:
        """Look at each session. A fault in that ends the session, and not the look at the others."""
        for driver in list(drivers):
            try:
                result = look(driver)
            except Exception as error:
                report("the look after a session", error)
                driver.session.fail(Closed("looking after the session failed"))
            else:
                yield driver, result

    def _active(self, now: float) -> list[SessionDriver]:
        """The sessions that move data, or wait to. All of them are looked at only once a second."""
        if now - self._swept >= REST:
            self._swept = now
            self._watched = set(self._only_active(self._drivers.values()))
        fresh = [session for session in self._registry.active if now - session.last_data < ACTIVE]
        awake = {self._drivers[session] for session in fresh if session in self._drivers}
        return self._only_active(self._watched | awake)

    def _only_active(self, drivers: Iterable[SessionDriver]) -> list[SessionDriver]:
        return [driver for driver, active in self._each(drivers, lambda driver: driver.active) if active]

    def _figures(self, now: float, active: Iterable[SessionDriver]) -> list[Figures]:
        """Of each lane."""
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

    def _care(self, driver: SessionDriver, now: float) -> None:
        """Have an active session follow the choice, or leave a stream that is silent."""
        lane, choice = driver.lane, self.lanes.choice
        if driver.moving or lane is None:
            return
        if len(self.lanes.lanes) > 1 and now - driver.session.last_data < 2 * LOOK:
            driver.session.ping()  # how long an answer takes tells what the lane makes of the data
        silent = driver.session.silence(now)
        works = choice.probe.alive and choice.probe.silence(now) <= choice.patience(SILENT)
        if silent > lane.patience(STUCK) and works:
            driver.rescue(choice)
            return
        if lane is not choice and choice.probe.alive is not False and driver.session.carried:
            # Nothing hurries while the stream carries. Streams that stood by since the network was worse
            # may have been slowed down by that for good, so the move gets a fresh one.
            driver.move(choice, fresh=not silent and not choice.pool.shared)

    def _discard(self, driver: SessionDriver) -> None:
        self._drivers.pop(driver.session, None)
        self._watched.discard(driver)
