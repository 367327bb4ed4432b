"""The traffic API of Hysteria 2, for panels that know it: what users moved, who is there, and who must go.

https://v2.hysteria.network/docs/advanced/Traffic-Stats-API describes it. Paths and shapes are the same.
`tx` is from the client, `rx` is to it.
"""

import json
from datetime import datetime
from http import HTTPStatus
from time import monotonic
from typing import Any

from lane.admin.cleared import Cleared
from lane.admin.everyone import Everyone
from lane.admin.web import Refusal, Request, Response, Route, Routes
from lane.server import Server
from lane.server.live import LiveSession, LiveSessions

JSON = "application/json; charset=utf-8"
YES = {"1", "t", "T", "TRUE", "true", "True"}
"""Values that turn a parameter on (Go's strconv.ParseBool)."""
MOST_AT_ONCE = 500
"""Names in one message to other workers."""
_LINE = "{:<8} {:<12} {:>12} {:>8} {:>12} {:>12} {:>12} {:>12} {:<16} {}"
_HEADS = (
    "State", "Auth", "Connection", "Stream", "TX-Bytes", "RX-Bytes", "Lifetime", "Last-Active", "Req-Addr",
    "Hooked-Req-Addr",
)  # fmt: skip


class Hysteria:
    """The API, as one worker answers it for all."""

    def __init__(self, everyone: Everyone, server: Server, live: LiveSessions, cleared: Cleared) -> None:
        self._everyone = everyone
        self._cleared = cleared
        self._live = live
        everyone.questions.answer("kick", lambda names: server.kick(frozenset(names)))
        everyone.questions.answer("streams", lambda _: [*map(describe, live)])

    @property
    def routes(self) -> Routes:
        """All paths. Each needs the secret."""
        return {
            ("GET", "/"): Route(lambda request: Response(b"lane: see docs/METRICS.md\n")),
            ("GET", "/traffic"): Route(self._traffic),
            ("GET", "/online"): Route(self._online),
            ("POST", "/kick"): Route(self._kick),
            ("GET", "/dump/streams"): Route(self._streams),
        }

    def _traffic(self, request: Request) -> Response:
        clear = request.query.get("clear", "") in YES
        found = self._cleared.since(self._everyone.total().users, clear=clear)
        return _json({user: {"tx": up, "rx": down} for user, (up, down) in found.items()})

    def _online(self, request: Request) -> Response:
        return _json({user: len(hosts) for user, hosts in self._everyone.total().online.items()})

    def _kick(self, request: Request) -> Response:
        try:
            names = json.loads(request.body)
        except (ValueError, RecursionError) as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"expected a JSON list of names: {error}") from None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Refusal(HTTPStatus.BAD_REQUEST, "expected a JSON list of names")
        for first in range(0, len(names), MOST_AT_ONCE):
            self._everyone.questions.ask("kick", names[first : first + MOST_AT_ONCE])
        return Response(b"")

    def _streams(self, request: Request) -> Response:
        found = [one for answer in self._everyone.questions.ask("streams") for one in answer]
        found.sort(key=lambda one: (one["auth"], one["connection"], one["stream"]))
        if "text/plain" in request.headers.get("accept", ""):
            return Response("".join(map(_text, [_HEADS, *map(_row, found)])).encode())
        return _json({"streams": found})


def describe(live: LiveSession) -> dict[str, Any]:
    """A session, as Hysteria describes a stream."""
    idle = monotonic() - live.session.last_data
    return {
        "state": "connect" if live.session.waiting_for_peer else "estab",
        "auth": live.user,
        "connection": live.connection,
        "stream": live.number,
        "req_addr": "" if live.target is None else str(live.target),
        "hooked_req_addr": "",
        "tx": live.up,
        "rx": live.down,
        "initial_at": _time(live.since),
        "last_active_at": _time(live.since + max(0.0, live.seconds - idle)),
    }


def _time(seconds: float) -> str:
    """RFC 3339, in this machine's zone."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat()


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    began, active = (datetime.fromisoformat(one[name]) for name in ("initial_at", "last_active_at"))
    now = datetime.now().astimezone()
    ages = (f"{max(0.0, (now - then).total_seconds()):.3f}s" for then in (began, active))
    numbers = f"{one['connection']:08X}", str(one["stream"]), str(one["tx"]), str(one["rx"])
    return one["state"].upper(), one["auth"], *numbers, *ages, one["req_addr"] or "-", "-"


def _text(words: tuple[str, ...]) -> str:
    return _LINE.format(*words) + "\n"


def _json(value: Any) -> Response:
    return Response(json.dumps(value).encode(), kind=JSON)
