"""The view of a server. Any of its workers tells that of all."""

import json
from collections import Counter
from collections.abc import Iterable
from math import nan
from statistics import median
from time import monotonic, time
from typing import Any

from lane import __version__
from lane.heap import resident
from lane.look.clock import Clock
from lane.look.history import History, Sample, known
from lane.look.rates import Pair, Rates
from lane.look.sessions import MOST, MOST_TEXT, busiest_first, choose, name_of
from lane.look.sparing import Sparing
from lane.net.questions import Questions
from lane.net.shelf import Shelf
from lane.server import Server
from lane.server.live import LiveSession, LiveSessions
from lane.session.registry import Registry
from lane.tally import CARRIERS, PID, RESTARTS, SESSIONS, SINCE, Tally
from lane.users.users import Users

ENOUGH = 30_000
"""Bytes that must have been sent in a second for a measurement of loss."""
_LOOK = "look"
_NOTHING = 0.0, 0.0


class Board:
    """What the workers of a server share for their views, made before they fork."""

    def __init__(self, transports: tuple[str, ...], workers: int = 1) -> None:
        self.history = History(transports, workers)
        self.views = Shelf(workers) if workers > 1 else None
        self.answers = Shelf(workers) if workers > 1 else None
        """For `lane.net.questions`."""


class ServerView:
    """Records what this `worker` of `server` carries, and tells the view of all, until `close`.

    `pid` is the process to send signals to.
    """

    def __init__(
        self,
        server: Server,
        live: LiveSessions,
        registry: Registry,
        users: Users,
        *,
        board: Board,
        questions: Questions,
        tally: Tally,
        worker: int,
        pid: int,
    ) -> None:
        self._server = server
        self._live = live
        self._registry = registry
        self._users = users
        self._tally = tally
        self._worker = worker
        self._board = board
        self._questions = questions
        self._pid = pid
        self._since = min(tally.get(one, SINCE) for one in range(tally.workers))
        self._carried: dict[str, int] = {}  # bytes, by transport, at the last sample
        self._sampled = monotonic()
        self._links: dict[int, tuple[int, int]] = {}  # bytes sent and lost by the carriers in use then
        self._session_rates: Rates[int] = Rates()
        self._user_rates: Rates[str] = Rates()
        self._part = Sparing(self._own)
        self._left: dict[str, Any] = {}
        questions.answer(_LOOK, lambda _: self._leave())
        self._clock = Clock(self._sample)

    def close(self) -> None:
        """Stop the record."""
        self._clock.close()

    def tell(self, since: float = 0.0) -> dict[str, Any]:
        """The view, with the history that is newer than `since`. Other greenlets may run meanwhile."""
        parts, now, tally = self._everybody(), time(), self._tally
        workers = [
            {
                "pid": tally.get(one, PID),
                "since": tally.get(one, SINCE),
                "sessions": tally.get(one, SESSIONS),
                "carriers": tally.get(one, CARRIERS),
                "restarts": tally.get(one, RESTARTS),
            }
            for one in range(tally.workers)
        ]
        sessions, carriers = tally.total(SESSIONS), tally.total(CARRIERS)
        users = _users([part["users"] for part in parts])
        return {
            "role": "server",
            "version": __version__,
            "pid": self._pid,
            "since": self._since,
            "now": now,
            "headline": f"{_some(sum(bool(one['pid']) for one in workers), 'process', 'es')},"
            f" {_some(sessions, 'session')}, {_some(carriers, 'connection')}",
            "lanes": self._lanes(parts, int(now)),
            "history": self._board.history.tell(since, now),
            "moves": [],
            "moved": sum(part["moved"] for part in parts),
            "session_count": sessions,
            "sessions": busiest_first([row for part in parts for row in part["sessions"]]),
            "users": users,
            "workers": workers,
            "process": {
                "memory": sum(part["memory"] for part in parts),
                "lag": max(part["lag"] for part in parts),
            },
        }

    def _lanes(self, parts: list[dict[str, Any]], second: int) -> list[dict[str, Any]]:
        """One for each transport, by the last second: the present one may not be whole in all processes."""
        history = self._board.history
        samples = history.at(second - 1) or history.at(second) or {}
        unknown = dict.fromkeys(("state", "why", "best_rtt", "delay", "cost"))
        return [
            {
                "name": name,
                "goodput": known(samples[name].goodput, 0) if name in samples else None,
                "rtt": known(samples[name].rtt) if name in samples else None,
                "loss": known(samples[name].loss) if name in samples else None,
                "sessions": sum(part["carried"].get(name, 0) for part in parts),
                "carriers": sum(part["carriers"].get(name, 0) for part in parts),
                **unknown,
            }
            for name in history.lanes
        ]

    # All processes.

    def _everybody(self) -> list[dict[str, Any]]:
        """What each process has, this one's first."""
        views = self._board.views
        if views is None:
            return [self._part.look()]
        self._questions.ask(_LOOK)
        found = []
        for worker in range(self._tally.workers):
            part = json.loads(views.get(worker) or b"{}")
            if part and part["pid"] == self._tally.get(worker, PID):  # else it is of one that has died
                found.append(part)
        return found

    def _leave(self) -> None:
        """Leave what this process has for the one that asks. It is the same for all who ask."""
        if self._board.views is not None and (part := self._part.look()) is not self._left:
            self._board.views.put(self._worker, json.dumps(part).encode())
            self._left = part

    # This process.

    def _own(self) -> dict[str, Any]:
        now, live = monotonic(), self._live
        moving = live.of(self._registry.active)
        rates = self._session_rates.look(now, {one.number: one.session.moved for one in moving})
        return {
            "pid": self._tally.get(self._worker, PID),
            "sessions": [
                self._session(one, rates.get(one.number, _NOTHING))
                for one in choose(moving, live.newest, rates)
            ],
            "users": self._own_users(now, moving, rates),
            "carried": Counter(one.transport for one in live.newest()),
            "carriers": self._server.carriers.by_transport,
            "moved": sum(live.numbers.moves.values()),
            "memory": resident(),
            "lag": self._clock.lag,
        }

    def _session(self, one: LiveSession, rate: Pair) -> dict[str, Any]:
        (up, down), (up_rate, down_rate) = one.session.moved, rate
        return {
            "id": f"{self._worker + 1}-{one.number}",
            "target": name_of(one.target),
            "user": one.user[:MOST_TEXT],
            "transport": one.transport,
            "age": round(one.seconds, 1),
            "up": up,
            "down": down,
            "up_rate": round(up_rate),
            "down_rate": round(down_rate),
        }

    def _own_users(self, now: float, moving: list[LiveSession], rates: Any) -> list[dict[str, Any]]:
        """The users of this process: those who move most, those with sessions, those who are there, more."""
        busy: Counter[str] = Counter()
        for one in moving:
            busy[one.user] += sum(rates.get(one.number, _NOTHING))
        traffic, there = self._server.traffic, {*self._users.there}
        names = dict.fromkeys(name for name, _ in busy.most_common(MOST))
        for name in (*(user.name for user in traffic), *there):
            if len(names) >= MOST:
                break
            names.setdefault(name)
        totals = {name: traffic.of(name).total for name in names}
        speeds = self._user_rates.look(now, totals)
        return [self._user(name, name in there, totals[name], speeds.get(name, _NOTHING)) for name in names]

    def _user(self, name: str, there: bool, total: Pair, rate: Pair) -> dict[str, Any]:
        account, used = self._users.standing(name)
        return {
            "name": name[:MOST_TEXT],
            "online": there,
            "sessions": self._server.traffic.of(name).sessions,
            "up": total[0],
            "down": total[1],
            "up_rate": round(rate[0]),
            "down_rate": round(rate[1]),
            "rate_up": account.rate if account else None,
            "rate_down": account.rate if account else None,
            "quota": account.quota if account else None,
            "used": used,
            "expires": account.expires if account else None,
        }

    # The record.

    def _sample(self, second: int) -> None:
        """Record a second. It looks only at the sessions that move data, as their clock does more often."""
        now, live = monotonic(), self._live
        self._session_rates.forget(now)
        self._user_rates.forget(now)
        self._part.forget()
        moving = live.of(self._registry.active)
        live.settle(moving)
        links = {one.connection: one for one in moving if one.connection}
        samples = {name: self._carriage(name, links.values()) for name in self._board.history.lanes}
        self._links = {
            number: (one.session.protocol.liveness.link.sent, one.session.protocol.liveness.link.lost)
            for number, one in links.items()
        }
        self._board.history.record(self._worker, second, samples)
        self._sampled = now

    def _carriage(self, name: str, links: Iterable[LiveSession]) -> Sample:
        """What a transport has carried since the last sample. `links`: one session of each carrier in use."""
        numbers, sent, lost, rtts = self._live.numbers, 0, 0, []
        moved = numbers.bytes[name, "up"] + numbers.bytes[name, "down"]
        before, self._carried[name] = self._carried.get(name, moved), moved
        for one in links:
            if one.transport != name:
                continue
            link = one.session.protocol.liveness.link
            was_sent, was_lost = self._links.get(one.connection, (link.sent, link.lost))
            sent += max(0, link.sent - was_sent)
            lost += max(0, link.lost - was_lost)
            if link.rtt:
                rtts.append(link.rtt)
        seconds = max(monotonic() - self._sampled, 0.1)
        return Sample(
            goodput=(moved - before) / seconds,
            loss=min(1.0, lost / sent) if sent > ENOUGH else nan,
            sent=sent,
            rtt=median(rtts) if rtts else nan,
        )


def _users(parts: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The users of all processes, those that move most first, then those with most sessions."""
    found: dict[str, dict[str, Any]] = {}
    for row in (row for part in parts for row in part):
        if (mine := found.setdefault(row["name"], row)) is row:
            continue
        for name in ("sessions", "up", "down", "up_rate", "down_rate"):
            mine[name] += row[name]
        mine["online"] |= row["online"]
        mine["used"] = max((one for one in (mine["used"], row["used"]) if one is not None), default=None)
    order = sorted(
        found.values(), key=lambda one: (-one["up_rate"] - one["down_rate"], -one["sessions"], one["name"])
    )
    return order[:MOST]


def _some(number: int, what: str, more: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else more}"
