"""The view of a client."""

import os
from collections import Counter
from math import nan
from time import monotonic, time
from typing import Any

from lane import __version__
from lane.carriers.path_control import PathControl
from lane.carriers.session_driver import SessionDriver
from lane.heap import resident
from lane.look.clock import Clock
from lane.look.history import History, Sample
from lane.look.rates import Pair, Rates
from lane.look.sessions import choose, name_of
from lane.look.sparing import Sparing

_OF_LANES = "why", "rtt", "best_rtt", "delay", "loss", "goodput", "cost"


class ClientView:
    """Records the lanes of `paths`, and tells the view, until `close`."""

    def __init__(self, paths: PathControl) -> None:
        self._paths = paths
        self._since = time()
        self._history = History([*paths.lanes.lanes])
        self._rates: Rates[int] = Rates()
        self._some = Sparing(self._sessions)
        self._clock = Clock(self._sample)

    def close(self) -> None:
        """Stop the record."""
        self._clock.close()

    def tell(self, since: float = 0.0) -> dict[str, Any]:
        """The view, with the history that is newer than `since`. Other greenlets may run meanwhile."""
        paths, now = self._paths, time()
        paths.lanes.ask_all(0.0)  # so that the next view knows them also while no data move
        history = self._history.tell(since, now)
        state = paths.snapshot(recent=True)
        sessions, carried = self._some.look()
        return {
            "role": "client",
            "version": __version__,
            "pid": os.getpid(),
            "since": self._since,
            "now": now,
            "headline": _headline(state),
            "lanes": [_lane(row, carried[row["name"]]) for row in state["lanes"]],
            "history": history,
            "moves": state["changes"],
            "session_count": state["sessions"],
            "sessions": sessions,
            "users": None,
            "workers": None,
            "process": {"memory": resident(), "lag": self._clock.lag},
        }

    def _sessions(self) -> tuple[list[dict[str, Any]], Counter[str]]:
        """Those that are shown, and how many each lane carries."""
        paths, now = self._paths, monotonic()
        moving = paths.moving
        rates = self._rates.look(now, {one.number: one.session.moved for one in moving})  # down, and up
        found = choose(moving, paths.newest, rates)
        carried = Counter(driver.lane.name for driver in paths.newest() if driver.lane is not None)
        return [_session(one, now, rates.get(one.number, (0.0, 0.0))) for one in found], carried

    def _sample(self, second: int) -> None:
        now, lanes = monotonic(), self._paths.lanes
        self._rates.forget(now)
        self._some.forget()
        out = lanes.outage(now) is not None
        samples = {}
        for name, lane in lanes.lanes.items():
            rtt = lane.meter.rtt or lane.probe.rtt
            loss = lane.meter.loss(now)
            samples[name] = Sample(
                goodput=lane.meter.goodput(now),
                loss=nan if loss is None else loss,
                rtt=nan if rtt is None else rtt,
                carries=float(lane is lanes.choice and not out),
            )
        self._history.record(0, second, samples)


def _headline(state: dict[str, Any]) -> str:
    if state["outage"]:
        return f"not reached: {state['outage']['reason']}"
    if state["failure"]:
        return f"the server was not reached: {state['failure']['reason']}"
    return f"carried by {state['choice']}: {state['reason']}"


def _lane(row: dict[str, Any], sessions: int) -> dict[str, Any]:
    state = None
    if row["alive"] is False:
        state = "silent"
    elif row["carries"]:
        state = "carries"
    elif row["alive"]:
        state = "answers"
    return {"name": row["name"], "state": state, "sessions": sessions} | {key: row[key] for key in _OF_LANES}


def _session(one: SessionDriver, now: float, rate: Pair) -> dict[str, Any]:
    (down, up), (down_rate, up_rate) = one.session.moved, rate
    return {
        "id": str(one.number),
        "target": name_of(one.target),
        "user": None,
        "transport": None if one.lane is None else one.lane.name,
        "age": round(now - one.began, 1),
        "up": up,
        "down": down,
        "up_rate": round(up_rate),
        "down_rate": round(down_rate),
    }
