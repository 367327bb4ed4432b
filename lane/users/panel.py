"""Accounts of a panel that speaks Hysteria's HTTP authentication.

The server asks the panel for each client that it does not know yet (v2.hysteria.network, "HTTP
authentication"):

    POST {"addr": "192.0.2.7:50123", "auth": "876c...", "tx": 0}
    200 {"ok": true, "id": "anna"}      or {"ok": false, "id": ""}

`auth` is the token of the client's HELLO, in hex: HMAC-SHA256(key, "lane/1" + binding). So a panel that knows
the key of a user computes the same. Answers are kept for a while, good ones and bad ones. Those who are there
are asked for again when their answer is old. If the panel gives no answer, whoever was known stays known.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.pool import Pool

from lane import census
from lane.errors import Closed, LaneError, UsageError
from lane.link import KEY_SIZE
from lane.log import Throttle
from lane.supervisor import supervise
from lane.users.account import Account
from lane.users.book import Changes
from lane.users.http_post import Endpoint, post
from lane.users.source import Source

GOOD_FOR = 60.0
"""Seconds for which a user is known without asking again."""
BAD_FOR = 10.0
"""Seconds for which a stranger is a stranger."""
STALE_FOR = 86400.0
"""Seconds for which a user is known while the panel gives no answer."""
TIMEOUT = 5.0
"""Seconds that the panel has to answer."""
AT_ONCE = 16
"""Questions at once."""
MOST_GOOD, MOST_BAD = 1 << 17, 1 << 14
"""Answers that are kept. The one that was used least lately is forgotten first."""
LOOK = 1.0
"""Seconds between two looks for answers that are old."""

log = logging.getLogger("lane.users")


@dataclass(slots=True)
class _Answer:
    account: Account
    since: float
    asked: float
    """When it was last asked for again."""
    peer: str


class Panel(Source):
    """The accounts of the panel at `endpoint`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._good: OrderedDict[bytes, _Answer] = OrderedDict()  # by token, which no other binding gives
        self._bad: OrderedDict[bytes, float] = OrderedDict()
        self._names: dict[str, set[bytes]] = {}  # the good tokens of each user
        self._asking: dict[bytes, Event] = {}
        self._places = BoundedSemaphore(AT_ONCE)
        self._told: Callable[[Changes], None] = lambda _: None
        self._online: Callable[[str], bool] = lambda _: False
        self._throttle = Throttle()
        self._watcher: Any = None
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"panel_good": len(self._good), "panel_bad": len(self._bad), "panel_asked": len(self._asking)}

    def get(self, name: str) -> Account | None:
        """See `Source`."""
        tokens = self._names.get(name)
        return self._good[next(iter(tokens))].account if tokens else None

    def start(self, told: Callable[[Changes], None], online: Callable[[str], bool]) -> None:
        """See `Source`."""
        self._told, self._online = told, online
        self._watcher = supervise("the watch over a panel's answers", self._watch)

    def close(self) -> None:
        """See `Source`."""
        if self._watcher is not None:
            self._watcher.kill(block=False)

    def find(self, token: bytes, binding: bytes, peer: str) -> Account | None:
        """See `Source`. Raises Closed if the panel gives no answer, and the user was not known."""
        while True:
            now = monotonic()
            if (answer := self._good.get(token)) and now - answer.since < GOOD_FOR:
                self._good.move_to_end(token)
                return answer.account
            if now - self._bad.get(token, -BAD_FOR) < BAD_FOR:
                return None
            if (other := self._asking.get(token)) is None:
                break
            other.wait()  # no limit: the question has one
        done = self._asking[token] = Event()
        try:
            return self._ask(token, peer)
        except LaneError as error:
            if answer is None:
                raise
            answer.since = max(answer.since, now - GOOD_FOR + BAD_FOR)  # do not make each stream wait
            self._complain(error)
            return answer.account
        finally:
            del self._asking[token]
            done.set()

    def _ask(self, token: bytes, peer: str) -> Account | None:
        """Ask the panel, and keep its answer. Raises Closed if it gives none."""
        with self._places:  # no limit: each question has one
            found = post(self._endpoint, {"addr": peer, "auth": token.hex(), "tx": 0}, TIMEOUT)
        if not isinstance(found, dict) or not isinstance(found.get("ok"), bool):
            raise Closed(f"{self._endpoint.shown} answers without ok")
        before = self._good.get(token)
        if not found["ok"]:
            self._forget(token)
            self._bad[token] = monotonic()
            if len(self._bad) > MOST_BAD:
                self._bad.popitem(last=False)
            if before is not None and before.account.name not in self._names:
                self._told(Changes(0, {before.account.name: None}))
            return None
        try:
            account = Account(found.get("id") or "", bytes(KEY_SIZE))
        except (UsageError, TypeError):
            raise Closed(f"{self._endpoint.shown} answers with an id that no user can have") from None
        self._forget(token)
        self._bad.pop(token, None)
        now = monotonic()
        self._good[token] = _Answer(account, now, now, peer)
        self._names.setdefault(account.name, set()).add(token)
        if len(self._good) > MOST_GOOD:
            self._forget(next(iter(self._good)))
        return account

    def _forget(self, token: bytes) -> None:
        answer = self._good.pop(token, None)
        if answer is not None:
            tokens = self._names[answer.account.name]
            tokens.discard(token)
            if not tokens:
                del self._names[answer.account.name]

    def _watch(self) -> None:
        """Ask again for those who are there, and forget the others, when their answers are old."""
        pool = Pool(AT_ONCE)
        while True:
            gevent.sleep(LOOK)
            now = monotonic()
            for token, answer in list(self._good.items()):
                if now - answer.since > STALE_FOR:
                    self._forget(token)
                    if answer.account.name not in self._names:
                        self._told(Changes(0, {answer.account.name: None}))
                elif now - answer.asked > GOOD_FOR and self._online(answer.account.name):
                    answer.asked = now
                    pool.spawn(self._ask_again, token, answer)
            for token, since in list(self._bad.items()):
                if now - since > BAD_FOR:
                    self._bad.pop(token, None)

    def _ask_again(self, token: bytes, answer: _Answer) -> None:
        if token in self._asking:
            return
        try:
            self._ask(token, answer.peer)
        except LaneError as error:
            answer.asked = monotonic() - GOOD_FOR + BAD_FOR
            self._complain(error)

    def _complain(self, error: LaneError) -> None:
        if (missed := self._throttle.allows("panel")) is not None:
            log.warning("users stay as they are (%s times): %s", missed + 1, error)
