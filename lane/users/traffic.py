"""What each user of this process moves, counted while it moves.

A session counts its bytes anyway, for its windows. So nothing is counted here byte by byte: a user's numbers
are those of the sessions that have ended, and of the sessions that live, which are asked when somebody wants
to know. A long download counts while it runs, and moving bytes costs nothing more.

Whoever keeps the usage takes what is new from time to time (`Traffic.drain`). Whoever shows it reads totals.
Whoever knows accounts says what each user may (`Limits`), and says so when that changes.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import gevent

from lane import census
from lane.supervisor import supervise
from lane.users.bucket import Bucket, Shared
from lane.users.gate import Gate, Gates
from lane.users.rate_shares import Use
from lane.users.turns import Turns

MOST_IDLE = 1 << 14
"""The most users without a session that are remembered. The one whose last session ended first is forgotten
first; its bytes go to `Traffic.forgotten`."""
LOOK, SHORT_LOOK = 0.25, 0.01
"""Seconds between two looks at the quotas of online users: the longest, and the shortest, close to an end."""


class Bytes(NamedTuple):
    """Bytes of both directions. Packets count as their payload where they go as datagrams."""

    up: int = 0
    """From the client to targets, once the target's socket has taken them."""
    down: int = 0
    """From targets to the client, once the session has taken them."""

    def plus(self, other: "Bytes") -> "Bytes":
        """The sum."""
        return Bytes(self.up + other.up, self.down + other.down)

    def minus(self, other: "Bytes") -> "Bytes":
        """The difference."""
        return Bytes(self.up - other.up, self.down - other.down)


NOTHING = Bytes()


class Limits(NamedTuple):
    """What a user may. None: there is no limit."""

    up: float | None = None
    """Bytes a second from the client, of all sessions and packets together."""
    down: float | None = None
    """Bytes a second to the client."""
    left: int | None = None
    """Bytes, up and down together, that the user may still move beyond all that `Traffic.drain` has given."""


NO_LIMITS = Limits()


class Counted(Protocol):
    """The parts of a session that are used here."""

    @property
    def over(self) -> bool:
        """Whether it needs nothing any more."""

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes from the peer that have left this process, and bytes for the peer."""

    @property
    def moved_elsewhere(self) -> tuple[int, int]:
        """What it had moved before it came to this process."""


class UserTraffic:
    """The traffic of one user in this process, since it began to count the user."""

    __slots__ = ("_ended", "_left", "_sessions", "_taken", "gates", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.gates: Gates | None = None
        """What all bytes of the user's sessions pass; None before the first one."""
        self._left: int | None = None
        self._sessions: set[Counted] = set()
        self._ended = NOTHING  # of the sessions that have ended
        self._taken = NOTHING  # what `Traffic.drain` has given out

    @property
    def sessions(self) -> int:
        """Sessions at present."""
        return len(self._sessions)

    @property
    def total(self) -> Bytes:
        """All bytes so far. It asks each session of the user."""
        up, down = self._ended
        for session in self._sessions:
            (moved_up, moved_down), (before_up, before_down) = session.moved, session.moved_elsewhere
            up += moved_up - before_up
            down += moved_down - before_down
        return Bytes(up, down)

    @property
    def up(self) -> int:
        """Bytes from the client to targets so far."""
        return self.total.up

    @property
    def down(self) -> int:
        """Bytes from targets to the client so far."""
        return self.total.down

    @property
    def left(self) -> int | None:
        """Bytes that the user may still move; None without a quota, below 0 if there were more."""
        return None if self._left is None else self._left - sum(self.total.minus(self._taken))

    def _take(self) -> Bytes:
        total = self.total
        fresh, self._taken = total.minus(self._taken), total
        return fresh


class Owner(Protocol):
    """The owner of a session."""

    gates: Gates


class Traffic:
    """The users of one process. `shared`: the buckets that it shares with others, of which it is `worker`."""

    def __init__(self, most_idle: int = MOST_IDLE, *, shared: Shared | None = None, worker: int = 0) -> None:
        self.limits: Callable[[str], Limits] = lambda user: NO_LIMITS
        """Says what a user may. Asked when the user comes online, and by `changed`. It must not block."""
        self.spent: Callable[[str], None] = lambda user: None
        """Called when an online user has no bytes left, and then every LOOK seconds. It must not block."""
        self.forgotten = NOTHING
        """The bytes of the users that were forgotten."""
        self._most_idle = most_idle
        self._online: dict[str, UserTraffic] = {}
        self._idle: OrderedDict[str, UserTraffic] = OrderedDict()
        self._fresh: set[str] = set()  # idle users with bytes that were not drained
        self._turns = Turns()
        self._shared = shared
        self._worker = worker
        self._quotas: set[UserTraffic] = set()  # online users who have one
        self._watching = False
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"users_online": len(self._online), "users_idle": len(self._idle)}

    def of(self, user: str) -> UserTraffic:
        """The traffic of a user. One who was never seen, or is forgotten, has moved nothing."""
        return self._online.get(user) or self._idle.get(user) or UserTraffic(user)

    def __iter__(self) -> Iterator[UserTraffic]:
        """All users that are remembered, those with sessions first."""
        yield from [*self._online.values(), *self._idle.values()]

    @property
    def online(self) -> int:
        """Users with sessions."""
        return len(self._online)

    def begin(self, name: str, session: Counted, owner: Owner) -> None:
        """Count and limit a session of the user `name` until `end`. `owner` is given the gates."""
        user = self._online.get(name)
        if user is None:
            user = self._come(name)
        user._sessions.add(session)
        assert user.gates is not None
        owner.gates = user.gates

    def end(self, name: str, session: Counted) -> None:
        """A session has ended, or goes on in another process."""
        user = self._online[name]
        (up, down), (before_up, before_down) = session.moved, session.moved_elsewhere
        ended_up, ended_down = user._ended
        user._ended = Bytes(ended_up + up - before_up, ended_down + down - before_down)
        user._sessions.remove(session)
        if not user._sessions:
            self._go(name)

    def changed(self, *names: str) -> None:
        """Ask for the limits of these users again, or of all online users. Running sessions keep to them."""
        for name in names or [*self._online]:
            if user := self._online.get(name):
                self._limit(user)

    def drain(self) -> dict[str, Bytes]:
        """The bytes of each user since the last call, for those who moved any. For one caller."""
        names, self._fresh = self._fresh, set()
        users = [*self._online.values(), *(self._idle[name] for name in names)]
        return {user.name: fresh for user in users if any(fresh := user._take())}

    def uses(self) -> dict[str, Use]:
        """What online users with rates have used of them since the last call. For one caller."""
        found = {}
        for name, user in self._online.items():
            assert user.gates is not None
            up, down = user.gates.up, user.gates.down
            if up.limited or down.limited:
                found[name] = Use(up.spent, down.spent, up.waited, down.waited)
                for gate in (up, down):
                    gate.spent, gate.waited = 0, bool(gate.waiting)
        return found

    def _limit(self, user: UserTraffic) -> None:
        assert user.gates is not None
        limits = self.limits(user.name)
        user.gates.up.limit(limits.up)
        user.gates.down.limit(limits.down)
        user._left = limits.left
        if limits.left is None:
            self._quotas.discard(user)
            return
        self._quotas.add(user)
        if not self._watching:
            self._watching = True
            supervise("the quotas of users", self._watch)

    def _watch(self) -> None:
        """Look at quotas, and the sooner again the sooner the first one ends at the present pace."""
        before: dict[UserTraffic, int] = {}
        pause = LOOK
        while self._quotas:
            seen, longest = {}, LOOK
            for user in [*self._quotas]:
                if user not in self._quotas or (left := user.left) is None:
                    continue
                if left <= 0:
                    self.spent(user.name)
                elif (moved := before.get(user, left) - left) > 0:
                    longest = min(longest, pause * left / moved / 2)
                seen[user] = left
            before, pause = seen, max(longest, SHORT_LOOK)
            gevent.sleep(pause)
        self._watching = False

    def _gate(self, name: str) -> Gate:
        shared = self._shared
        if shared is None:
            return Gate()
        return Gate(lambda: shared.bucket(name, self._worker) or Bucket(), shared=True)

    def _come(self, name: str) -> UserTraffic:
        """A user comes online."""
        user = self._idle.pop(name) if name in self._idle else UserTraffic(name)
        self._online[name] = user
        self._fresh.discard(name)
        if user.gates is None:
            user.gates = Gates(self._gate(f"up {name}"), self._gate(f"down {name}"), self._turns)
        self._limit(user)
        return user

    def _go(self, name: str) -> None:
        """The last session of a user has ended."""
        user = self._idle[name] = self._online.pop(name)
        self._quotas.discard(user)
        if user._ended != user._taken:
            self._fresh.add(name)
        if len(self._idle) > self._most_idle:
            oldest, forgotten = self._idle.popitem(last=False)
            self._fresh.discard(oldest)
            self.forgotten = self.forgotten.plus(forgotten.total)
