"""What each user of this process moves, counted while it moves.

A session counts its bytes anyway, for its windows. So nothing is counted here byte by byte: a user's numbers
are those of the sessions that have ended, and of the sessions that live, which are asked when somebody wants
to know. A long download counts while it runs, and moving bytes costs nothing more.

Whoever keeps the usage takes what is new from time to time (`Traffic.drain`). Whoever shows it reads totals.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from lane import census

MOST_IDLE = 1 << 16
"""The most users without a session that are remembered. The one whose last session ended first is forgotten
first; its bytes go to `Traffic.forgotten`."""


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


class Counted(Protocol):
    """The parts of a session that are used here."""

    @property
    def moved_in(self) -> int:
        """Bytes from the peer that have left this process."""

    @property
    def moved_out(self) -> int:
        """Bytes for the peer."""


class UserTraffic:
    """The traffic of one user in this process, since it began to count the user."""

    __slots__ = ("_ended", "_sessions", "_taken", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._sessions: dict[Counted, Bytes] = {}  # with what each had moved before it came here
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
        for session, before in self._sessions.items():
            up += session.moved_in - before.up
            down += session.moved_out - before.down
        return Bytes(up, down)

    @property
    def up(self) -> int:
        """Bytes from the client to targets so far."""
        return self.total.up

    @property
    def down(self) -> int:
        """Bytes from targets to the client so far."""
        return self.total.down

    def _begin(self, session: Counted) -> None:
        before = Bytes(session.moved_in, session.moved_out)
        self._sessions[session] = before if any(before) else NOTHING

    def _end(self, session: Counted) -> None:
        before = self._sessions.pop(session)
        self._ended = self._ended.plus(Bytes(session.moved_in, session.moved_out).minus(before))

    def _take(self) -> Bytes:
        total = self.total
        fresh, self._taken = total.minus(self._taken), total
        return fresh


class Traffic:
    """The users of one process. `most_idle`: see MOST_IDLE."""

    def __init__(self, most_idle: int = MOST_IDLE) -> None:
        self.forgotten = NOTHING
        """The bytes of the users that were forgotten."""
        self._most_idle = most_idle
        self._online: dict[str, UserTraffic] = {}
        self._idle: OrderedDict[str, UserTraffic] = OrderedDict()
        self._fresh: set[str] = set()  # idle users with bytes that were not drained
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

    def session(self, user: str, session: Counted) -> "Counting":
        """Count a session of `user` for the time of the context."""
        return Counting(self, user, session)

    def drain(self) -> dict[str, Bytes]:
        """The bytes of each user since the last call, for those who moved any. For one caller."""
        names, self._fresh = self._fresh, set()
        users = [*self._online.values(), *(self._idle[name] for name in names)]
        return {user.name: fresh for user in users if any(fresh := user._take())}

    def _begin(self, name: str, session: Counted) -> None:
        user = self._online.get(name)
        if user is None:
            user = self._idle.pop(name) if name in self._idle else UserTraffic(name)
            self._online[name] = user
            self._fresh.discard(name)
        user._begin(session)

    def _end(self, name: str, session: Counted) -> None:
        user = self._online[name]
        user._end(session)
        if user.sessions:
            return
        self._idle[name] = self._online.pop(name)
        if user._ended != user._taken:
            self._fresh.add(name)
        if len(self._idle) > self._most_idle:
            oldest, forgotten = self._idle.popitem(last=False)
            self._fresh.discard(oldest)
            self.forgotten = self.forgotten.plus(forgotten.total)


class Counting:
    """The context of one session: see `Traffic.session`."""

    __slots__ = ("_session", "_traffic", "_user")

    def __init__(self, traffic: Traffic, user: str, session: Counted) -> None:
        self._traffic = traffic
        self._user = user
        self._session = session

    def __enter__(self) -> None:
        self._traffic._begin(self._user, self._session)

    def __exit__(self, *_: object) -> None:
        self._traffic._end(self._user, self._session)
