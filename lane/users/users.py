"""The users of a running server: who they are, what their accounts allow now, and when that ends.

A user whose account was removed, has expired or is disabled is told so: sessions that run end with the
reason, and further requests are refused with it. Only a stranger, whose key is unknown, learns nothing.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from time import time

import gevent
from gevent.lock import BoundedSemaphore

from lane import census, hookimpl
from lane.address import Address
from lane.errors import Status, TargetError
from lane.supervisor import FAULTS, report, supervise
from lane.users.account import Account, refusal
from lane.users.book import Changes
from lane.users.ending import Ending
from lane.users.presence import Here
from lane.users.rate_shares import Use
from lane.users.source import Fixed, Source

COUNT = 3.0
"""Seconds between two times that usage is kept. A process that is killed loses at most these counts."""
LOOK = 1.0
"""The longest time between two looks for accounts that expire, seconds."""
SHARE = 0.5
"""Seconds between two times that rates are shared out among servers."""
LAST_COUNT = 5.0
"""Seconds that the last counts may take to be kept."""
MOST_PENDING = 1 << 17
"""Users whose counts are held while they can't be kept."""

log = logging.getLogger("lane.users")


class Visit:
    """A carrier of a user. `device`: what the client calls itself, or its address."""

    __slots__ = ("admitted", "device", "user")

    def __init__(self, user: str, device: bytes, *, admitted: bool) -> None:
        self.user = user
        self.device = device
        self.admitted = admitted
        """Whether the device is one of those that the account allows."""


class Users:
    """The users of one process. `source` has their accounts, `here` counts those who are there.

    `drain` gives the bytes (up, down) that users have moved since its last call.
    """

    def __init__(
        self,
        source: Source | None = None,
        here: Here | None = None,
        drain: Callable[[], Mapping[str, tuple[int, int]]] = dict,
    ) -> None:
        self.source = Fixed() if source is None else source  # an empty one has a length of 0
        self.ends: Callable[[Mapping[str, Ending]], None] = lambda _: None
        """Ends all that users have at the server, with the reasons."""
        self.rekeyed: Callable[[], None] = lambda: None
        """Called when the key of a user who is there has changed."""
        self.changed: Callable[..., None] = lambda *names: None
        """Called with the users whose `limits` may have changed."""
        self.uses: Callable[[], Mapping[str, Use]] = dict
        """What users have used of their rates since the last call."""
        self._parts: Mapping[str, tuple[float, float]] = {}  # of their rates, that this server may use
        self._here = here or Here()
        self.end: Callable[[str], None] = self._here.end
        """A session of a user has ended: see `begin`."""
        self._drain = drain
        self._visits: Counter[str] = Counter()
        self._known: dict[str, Account | None] = {}  # the accounts of those who are there
        self._expiring: dict[str, float] = {}  # of those who are there
        self._removed: set[str] = set()  # users who are there still
        self._seen: set[str] = set()  # since counts were kept
        self._pending: dict[str, tuple[int, int]] = {}  # bytes that are not kept yet
        self._spent: dict[str, int] = {}  # of those with a quota who are there: bytes this month, as kept
        self._exhausted: set[str] = set()  # those who have nothing left, before that is kept
        self._keeping = BoundedSemaphore(1)
        self._loops = [
            supervise("the watch over accounts that expire", self._expire),
            supervise("the keeper of what users have used", self._keep),
            supervise("the sharing of rates among servers", self._share),
        ]
        self.source.start(self._told, self._visits.__contains__)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"users": len(self._visits), "uncounted": len(self._pending)}

    def close(self) -> None:
        """Keep the last counts, and stop."""
        try:
            with gevent.Timeout(LAST_COUNT, False):
                self.keep()  # after one that is under way: the same counts must not be kept twice
        except FAULTS as error:
            log.warning("the last counts of what users have used are lost: %s", error)
        for loop in self._loops:
            loop.kill(block=False)
        self.source.close()

    # The hooks.

    @hookimpl(trylast=True)
    def lane_authenticate(self, token: bytes, binding: bytes, peer: str) -> str | None:
        """The user whose key made `token` for this carrier."""
        account = self.source.find(token, binding, peer)
        return None if account is None else account.name

    @hookimpl(trylast=True)
    def lane_authorize(self, request: Address, identity: str) -> bool:
        """Allow every target. The egress policy checks the target's address later."""
        return True

    # For the server.

    def enter(self, user: str, device: bytes) -> Visit:
        """A carrier has proven the user's key."""
        self._visits[user] += 1
        self._seen.add(user)
        if self._visits[user] == 1:
            self._learn(user, self.source.get(user))
            if self._left(user) is not None:
                self._ask_spent(user)
            self.changed(user)  # sessions may have been here before: from another process, or waiting
        visit = Visit(user, device, admitted=False)
        self._admit(visit)
        return visit

    def leave(self, visit: Visit) -> None:
        """The carrier has ended."""
        user = visit.user
        self._seen.add(user)
        if visit.admitted:
            self._here.leave(user, visit.device)
        self._visits[user] -= 1
        if not self._visits[user]:
            del self._visits[user]
            for table in (self._known, self._expiring, self._spent):
                table.pop(user, None)
            for names in (self._removed, self._exhausted):
                names.discard(user)

    def check(self, visit: Visit) -> None:
        """Raise TargetError with the reason if the user may begin nothing now."""
        user = visit.user
        ending = Ending.REMOVED if user in self._removed else None
        if (account := self._known.get(user)) is not None:
            ending = account.refusal(time())
            if ending is None and account.quota is not None and self._is_spent(user):
                ending = Ending.SPENT
        if ending is not None:
            raise TargetError(Status.NOT_ALLOWED, ending.text)
        if not visit.admitted and not self._admit(visit):
            most = account.devices if account else 0
            raise TargetError(Status.NOT_ALLOWED, f"your account allows {_some(most, 'device')} at once")

    def begin(self, user: str, *, known: bool = False) -> None:
        """A session begins: call `end` at its end. Raises TargetError if the account allows no more.

        `known`: it began in another process, and goes on here.
        """
        account = self._known.get(user)
        most = account.sessions if account else None
        if not known and most is not None and self._here.sessions(user) >= most:
            raise TargetError(Status.NOT_ALLOWED, f"your account allows {_some(most, 'session')} at once")
        self._here.begin(user)

    def limits(self, user: str) -> tuple[float | None, float | None, int | None]:
        """What a user who is there may: bytes a second up and down, and the bytes that are left of its quota.

        What is left is without the bytes that `drain` has not given yet.
        """
        account = self._known.get(user)
        if account is None:
            return None, None, None
        rate = account.rate
        if rate is None:
            return None, None, self._left(user)
        up, down = self._parts.get(user, (1.0, 1.0))
        return rate * up, rate * down, self._left(user)

    @property
    def there(self) -> list[str]:
        """The users who have a carrier here."""
        return [*self._visits]

    def standing(self, user: str) -> tuple[Account | None, int | None]:
        """The account of a user, as far as it is known, and the bytes that are used of its quota this month.

        None: they are unknown here.
        """
        if user not in self._visits:
            return self.source.get(user), None
        account, left = self._known.get(user), self._left(user)
        used = account.quota - left if account and account.quota is not None and left is not None else None
        return account, used

    def exhausted(self, user: str) -> None:
        """The user has moved all that was left: end its sessions."""
        ending = {user: Ending.SPENT}
        if user in self._visits and user not in self._exhausted:
            self._exhausted.add(user)
            self._end(ending)
        else:
            self.ends(ending)

    def keep(self) -> None:
        """Have the source keep what users have used, and ask it what those with a quota have used."""
        with self._keeping:  # no limit: as long as the source takes
            for name, (up, down) in self._drain().items():
                before = self._pending.get(name)
                if before is not None or len(self._pending) < MOST_PENDING:
                    self._pending[name] = (before[0] + up, before[1] + down) if before else (up, down)
            limited = [name for name, one in self._known.items() if one is not None and one.quota is not None]
            if limited:
                self.changed(*limited)
            seen, self._seen, now = self._seen | self._pending.keys(), set(), time()
            try:
                if seen:
                    self.source.count(self._pending, seen, now)
            except BaseException:
                self._seen |= seen
                raise
            for name in self._spent.keys() & self._pending.keys():
                self._spent[name] += sum(self._pending[name])
            self._pending = {}
            if limited:
                found = self.source.spent(limited, now)
                self._spent.update({name: found.get(name, 0) for name in limited if name in self._visits})
                self._exhausted = {name for name in self._exhausted if (self._left(name) or 0) <= 0}
                self.changed(*limited)

    def _left(self, user: str) -> int | None:
        account = self._known.get(user)
        if account is None or account.quota is None:
            return None
        return account.quota - self._spent.get(user, 0) - sum(self._pending.get(user, ()))

    def _is_spent(self, user: str) -> bool:
        return user in self._exhausted or (self._left(user) or 0) <= 0

    # Changes.

    def _admit(self, visit: Visit) -> bool:
        account = self._known.get(visit.user)
        most = account.devices if account else None
        if most is None or self._here.room(visit.user, visit.device, most):
            visit.admitted = True
            self._here.enter(visit.user, visit.device)
        return visit.admitted

    def _learn(self, user: str, account: Account | None) -> None:
        """Note the account of a user who is there."""
        self._known[user] = account
        if account is not None and account.expires is not None and not account.refusal(time()):
            self._expiring[user] = account.expires
        else:
            self._expiring.pop(user, None)

    def _ask_spent(self, user: str) -> None:
        """Ask what a user has spent before it may begin anything."""
        try:
            found = self.source.spent([user], time())
        except FAULTS as error:
            report("the look at what a user has used", error)
        else:
            self._spent[user] = max(found.get(user, 0), self._spent.get(user, 0))

    def _told(self, changes: Changes) -> None:
        """Act on what has changed, for the users who are there."""
        endings: dict[str, Ending] = {}
        rekeyed = False
        for name, account in changes.accounts.items():
            if name not in self._visits:
                if self._here.has(name) and (ending := refusal(account, time())):  # sessions that wait for it
                    endings[name] = ending
                continue
            before = self._known.get(name)
            self._learn(name, account)
            if ending := refusal(account, time()):
                endings[name] = ending
            if account is None:
                self._removed.add(name)
                continue
            self._removed.discard(name)
            rekeyed = rekeyed or (before is not None and before.key != account.key)
        for name in changes.kicked:
            if self._here.has(name) or name in self._visits:
                endings.setdefault(name, Ending.KICKED)
        if rekeyed:
            self.rekeyed()
        if there := [name for name in changes.accounts if name in self._visits]:
            self._exhausted.difference_update(there)
            self.changed(*there)
        self._end(endings)

    def _end(self, endings: Mapping[str, Ending]) -> None:
        for name, ending in endings.items():
            log.info("%s: %s", name, ending.text)
        if endings:
            self.ends(endings)

    def _expire(self) -> None:
        while True:
            now = time()
            due = [name for name, at in self._expiring.items() if at <= now]
            for name in due:
                del self._expiring[name]
            self._end(dict.fromkeys(due, Ending.EXPIRED))
            next_one = min(self._expiring.values(), default=now + LOOK)
            gevent.sleep(min(max(next_one - time(), 0.01), LOOK))

    def _share(self) -> None:
        while True:
            known = [*self._known.items()]
            rates = {name: float(one.rate) for name, one in known if one is not None and one.rate is not None}
            parts = self.source.share(self.uses(), rates)
            if parts is None:
                return
            before, self._parts = self._parts, parts
            if changed := [name for name, part in parts.items() if part != before.get(name)]:
                self.changed(*changed)
            gevent.sleep(SHARE)

    def _keep(self) -> None:
        failed = False
        while True:
            gevent.sleep(COUNT)
            try:
                self.keep()
            except FAULTS as error:
                if not failed:
                    log.warning("what users have used can't be kept yet: %s", error)
                failed = True
            else:
                if failed:
                    log.info("what users have used is kept again, with what waited")
                failed = False


def _some(number: int | None, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
