"""All sessions of one side: their number, their memory, and their end at a shutdown.

A client has one registry, and a server has one. It also runs the clock of the sessions: active ones get a
tick eight times a second, and idle ones cost nothing. These are in queues, until they should give up a window
or end, and the clock looks at the head of each queue only.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

import gevent
from gevent.event import Event

from lane import census, heap, memo, tasks
from lane.budget import Budget, Share
from lane.errors import Closed, Status, TargetError
from lane.fair import Walk, this_round
from lane.net.places import network
from lane.net.user_places import UserPlaces
from lane.session.activity import ACTIVE, IDLE
from lane.session.owner import Owner
from lane.session.receive_window import initial_window
from lane.session.session import Session
from lane.supervisor import report, supervise
from lane.tally import SESSIONS, Count, alone

T = TypeVar("T")

TICK = 0.125
"""Seconds between two ticks of the active sessions."""
PEAK = 8 << 20
"""Bytes of a peak in the budget, after which free memory is returned to the system."""
SOME = 32
"""Sessions at once, after which it is returned too when three quarters have ended.

The first windows of each, 512 KB, are not in the budget."""
CROWD = 256
"""Sessions at once, after which it is returned too when a quarter of them has ended."""
AFTERMATH = 10.0
"""Seconds before that in which no eighth of the sessions must end: streams may linger for five."""
LAST_WORDS = 3.0
"""Seconds at a shutdown for peers to hear of the resets of the last sessions."""


class _Held(Generic[T]):
    """A context with `value`, at whose end `leave(*arguments)` is called.

    Each session is in two of them as long as it lives, and a generator takes three times the memory.
    """

    __slots__ = ("_arguments", "_leave", "value")

    def __init__(self, value: T, leave: Callable[..., None], *arguments: Any) -> None:
        self.value = value
        self._leave = leave
        self._arguments = arguments

    def __enter__(self) -> T:
        return self.value

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """End it. This is for those who do without `with`."""
        self._leave(*self._arguments)


class Registry:
    """The sessions of one side.

    `buffer_size`: the largest window, in bytes. `buffer_total`: the budget of all windows, in bytes.
    `idle_timeout`: seconds without data after which a session is reset. `max_per_peer`: the most sessions of
    one network. `many_users`: the users are strangers to each other, so each gets a share of the limits.
    `count` has the sessions of other workers, which count for `max_sessions` too.
    """

    def __init__(
        self,
        buffer_size: int,
        buffer_total: int,
        idle_timeout: float,
        max_sessions: int,
        max_per_peer: int,
        *,
        many_users: bool = False,
        count: Count | None = None,
    ) -> None:
        self.window = initial_window(buffer_size)
        self.budget = Budget(buffer_total)
        self._buffer_size = buffer_size
        self._idle_timeout = idle_timeout
        self._max_sessions = max_sessions
        self._max_per_peer = max_per_peer
        # Each session is in one of these three. The queues have the time of its last data.
        self._active: set[Session] = set()  # they get ticks
        self._resting: OrderedDict[Session, float] = OrderedDict()  # until they give up a window
        self._idle: OrderedDict[Session, float] = OrderedDict()  # until their end
        self._aborting: set[gevent.Greenlet[..., None]] = set()  # they tell peers of an abort
        self._admitted: Counter[str] = Counter()
        self._count = count or alone(SESSIONS)
        places = UserPlaces(max_sessions, 0, "sessions of this user", self._count.elsewhere)
        self._users = places if many_users else None
        self._shares: WeakValueDictionary[str, Share] = WeakValueDictionary()
        self._peak = 0  # the most bytes used of the budget since memory was returned
        self._crowd = 0  # the most sessions since then
        self._return: tuple[float, int] | None = None  # when, unless there are fewer sessions
        self._total = 0
        self._empty = Event()
        self._empty.set()
        self._activity = Event()
        self._round = this_round()
        self._ticker = supervise("the clock of the sessions", self._tick)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`; `budget` is in bytes."""
        number = len(self._active) + len(self._resting) + len(self._idle)
        sessions = {"sessions": number, "active": len(self._active), "admitted": self._total}
        return {**sessions, "aborting": len(self._aborting), "budget": self.budget.used}

    def __len__(self) -> int:
        return self._total

    @property
    def active(self) -> list[Session]:
        """The sessions that get ticks, which includes all that moved data within the last seconds."""
        return [*self._active]

    def admit(self, peer: str = "", user: str = "", *, known: bool = False) -> "_Held[None]":
        """Count one session of `peer` and of `user` for the time of the context.

        Raises TargetError if there are too many, unless it is `known`: one of another process goes on here.
        """
        peer = network(peer)
        if not known and self._total + self._count.elsewhere() >= self._max_sessions:
            raise TargetError(Status.FAILURE, "too many sessions at once")
        if not known and self._admitted[peer] >= self._max_per_peer:
            raise TargetError(Status.FAILURE, "too many sessions from this address")
        if self._users is not None:
            self._users.take(user, sure=known)
        self._total += 1
        self._count.put(self._total)
        if self._total > self._crowd:
            self._crowd = self._total
            if self._crowd == CROWD + 1:
                heap.crowd(True)
        self._admitted[peer] += 1
        self._empty.clear()
        return _Held(None, self._dismiss, peer, user)

    def _dismiss(self, peer: str, user: str) -> None:
        if self._users is not None:
            self._users.give_back(user)
        self._total -= 1
        self._count.put(self._total)
        self._admitted[peer] -= 1
        if not self._admitted[peer]:
            del self._admitted[peer]
        if not self._total:
            self._empty.set()
        if self._is_after_peak:
            self._activity.set()

    def share(self, user: str) -> Budget:
        """The budget of the sessions of `user`, beyond the first window of each."""
        if self._users is None:
            return self.budget
        share = self._shares.get(user)
        if share is None:
            share = self._shares[user] = Share(self.budget)
        return share

    def session(
        self,
        credit: int,
        owner: Owner,
        *,
        resumable: bool = False,
        buffer_size: int | None = None,
        user: str = "",
        frozen: dict[str, Any] | None = None,
    ) -> "_Held[Session]":
        """A session of `owner`. It gets ticks for the time of the context, and is reset if it was not closed.

        `buffer_size`: its largest window, if that is smaller than the registry's. `frozen`: the state of one
        that goes on here.
        """
        size = min(buffer_size or self._buffer_size, self._buffer_size)
        session = Session(
            credit, size, self.share(user), owner, resumable=resumable, wake=self._wake, frozen=frozen
        )
        session.user = user
        self._wake(session)
        return _Held(session, self._end, session)

    def _end(self, session: Session) -> None:
        self._active.discard(session)
        self._resting.pop(session, None)
        self._idle.pop(session, None)
        session.reset()
        session.drop()
        if session.aborting is not None and not session.aborting.ready():
            self._aborting.add(session.aborting)
            session.aborting.rawlink(self._aborting.discard)

    def end(self, users: Mapping[str, int]) -> "list[gevent.Greenlet[..., None]]":
        """Reset the sessions of these users with the code given for each.

        Returns the greenlets that tell the peers of it.
        """
        ending = [session for session in self.sessions if session.user in users]
        for session in ending:
            session.reset(users[session.user])
        return [session.aborting for session in ending if session.aborting is not None]

    def drain(self, grace: float) -> None:
        """Let the sessions finish for `grace` seconds, then reset the others.

        Sessions that wait for their peers have nothing to finish, and are reset at once.
        """
        for session in [session for session in self.sessions if session.waiting_for_peer]:
            session.reset()
        self._empty.wait(grace)
        sessions = self.sessions
        for session in sessions:
            session.reset()
        self._empty.wait(1.0)
        last = {session.aborting for session in sessions if session.aborting} | self._aborting
        gevent.joinall(list(last), timeout=LAST_WORDS)

    def close(self) -> None:
        """Stop the clock."""
        self._ticker.kill(block=False)

    @property
    def sessions(self) -> list[Session]:
        """All of them. Not for what is done often."""
        return [*self._active, *self._resting, *self._idle]

    def _wake(self, session: Session) -> None:
        if session not in self._active:
            self._resting.pop(session, None)
            self._idle.pop(session, None)
            self._active.add(session)
            self._activity.set()

    def _tick(self) -> None:
        self._activity.set()  # after a failure, whatever was left undone
        while True:
            self._activity.wait(self._pause())
            gevent.sleep(TICK)
            self._activity.clear()  # now, since others run in between
            now = self._round.began  # as datagrams are noted: after a long turn, this one may be the last
            self._give_back(now)
            self._wake_due(now)
            walk = Walk()
            for session in [*self._active]:
                walk.step()
                if session in self._active and not self._look_after(session, now):
                    self._active.discard(session)
            if self._active:
                self._activity.set()

    def _pause(self) -> float | None:
        """Seconds until a session at rest is due. None if there is none: then there is nothing to do."""
        due = [next(iter(queue.values())) + rest for queue, rest in self._queues if queue]
        if self._return is not None:
            due.append(self._return[0])
        return max(0.0, min(due) - monotonic()) if due else None

    def _wake_due(self, now: float) -> None:
        """Let the sessions at rest that are due have a tick."""
        for queue, rest in self._queues:
            while queue and next(iter(queue.values())) + rest < now:
                self._active.add(queue.popitem(last=False)[0])

    @property
    def _queues(self) -> tuple[tuple[OrderedDict[Session, float], float], ...]:
        """The sessions at rest, and the seconds until they are due."""
        return (self._resting, IDLE), (self._idle, self._idle_timeout)

    @property
    def _is_after_peak(self) -> bool:
        """Whether much less memory is needed than since it was last returned to the system."""
        left = 3 if self._crowd > CROWD else 1
        fewer = self._crowd > SOME and self._total <= self._crowd * left // 4
        return fewer or (self._peak > PEAK and self.budget.used < self._peak // 4)

    def _give_back(self, now: float) -> None:
        """Some time after a peak, return free memory to the system."""
        self._peak = max(self._peak, self.budget.used)
        if self._return is None:
            if self._is_after_peak:
                self._return = now + AFTERMATH, self._total
            return
        at, sessions = self._return
        if now < at:
            return
        if self._total < sessions * 7 // 8:
            self._return = now + AFTERMATH, self._total
            return
        self._return = None
        crowd = self._crowd > CROWD
        self._peak, self._crowd = self.budget.used, self._total
        if crowd:
            tasks.let_go()
            memo.forget()
            if self._total <= CROWD:
                heap.crowd(False)
                heap.collect()
                gevent.sleep(0)  # either takes some ten milliseconds after a large crowd
        heap.give_back()

    def _look_after(self, session: Session, now: float) -> bool:
        """Give `session` a tick, end it, or let it rest. Returns whether it stays active.

        A fault ends this session only.
        """
        age, more = now - session.last_data, False
        try:
            if age > self._idle_timeout and not session.waiting_for_peer:
                session.reset()
            else:
                more = session.tick(now)
        except Exception as error:
            report("the look after a session", error)
            session.fail(Closed("looking after the session failed"))
        if session.over:
            pass  # its owner ends it
        elif not more:
            self._idle[session] = session.last_data if age < self._idle_timeout else now
        elif ACTIVE < age <= IDLE:  # it only waits to give up its window
            self._resting[session] = session.last_data
        else:
            return True
        return False
