"""The sessions that clients may resume, by user and session identifier.

When a session loses its stream, it waits here for some time and within limits. The client opens another
stream over any transport, and resumes the session. A late request is recognised by its generation. An ended
session is remembered for the same time, because its client may not know of the end: the last acknowledgement
can be lost too. There can be many ended sessions, so an entry for one is small.
"""

from collections import OrderedDict, deque
from sys import intern
from time import monotonic

import gevent
from gevent.event import Event

from lane import census
from lane.errors import Closed, Status, TargetError
from lane.fair import Walk, maybe_yield
from lane.proto.hello import MAX_TEXT
from lane.server.frozen import FrozenSessions
from lane.server.hosted import HostedSession
from lane.session.session import Session
from lane.supervisor import report, supervise

SWEEP = 1.0
"""Seconds between two sweeps over the waiting and the ended sessions."""
MOST_ENDED = 65536
"""Maximum number of ended sessions that are remembered; the oldest is forgotten first. An entry takes about
300 bytes, or 500 with the longest text of a refusal: at most 33 MB in all."""

_STALE = "a newer request for this session was here before"
_CROWDED = "too many sessions wait for their clients"
_LATE = "its client did not come back in time"
_COMPLETE = "the session is complete"
_SETTLED = Event()
"""Shared by all ended sessions: one event is larger than the rest of an entry."""
_SETTLED.set()

Key = tuple[str, bytes]
"""The user's name and the session identifier that the client chose."""


class Entry:
    """A session from its first request on. `settled` is set once the connection to its target is decided."""

    __slots__ = ("generation", "hosted", "key", "settled", "since", "text", "verdict")

    def __init__(self, key: Key, generation: int) -> None:
        self.key = key
        self.generation = generation
        self.settled = Event()
        self.hosted: HostedSession | None = None
        self.verdict: Status | None = None
        """The answer to a further request, once the session has failed or ended. None until then."""
        self.text = ""
        """The words that go with `verdict`."""
        self.since = 0.0
        """The time at which it lost its stream or ended, if it did."""

    @property
    def session(self) -> Session | None:
        """The session, from the time its target was reached to its end."""
        return self.hosted.session if self.hosted is not None else None

    @property
    def leaves(self) -> bool:
        """Whether it is on its way to another process."""
        return self.hosted is not None and self.hosted.stopping

    def begin(self, hosted: HostedSession) -> None:
        """Note that the target was reached."""
        self.hosted = hosted
        self.settled.set()

    def join(self, generation: int) -> HostedSession:
        """Wait until the target was reached. Returns the session. Raises TargetError.

        `generation`: the request's. A newer request that arrives during the wait makes this one stale.
        """
        self.settled.wait()  # no limit: the connection to the target has one, and always settles the entry
        if self.generation != generation:
            raise TargetError(Status.STALE, _STALE)
        if self.verdict is not None:
            raise TargetError(self.verdict, self.text)
        assert self.hosted is not None
        if self.hosted.session.complete:
            raise TargetError(Status.COMPLETE, _COMPLETE)
        return self.hosted

    def end(self, refusal: TargetError | None) -> None:
        """Note the end of the session and the answer to later requests. `refusal`: None after a clean end."""
        self.hosted = None
        self.verdict = Status.COMPLETE if refusal is None else refusal.status
        # Cut to the room in a REPLY, and interned, because many sessions have the same text.
        self.text = intern(_COMPLETE if refusal is None else str(refusal)[:MAX_TEXT])
        self.since = monotonic()
        self.settled.set()
        self.settled = _SETTLED


class Resumption:
    """All resumable sessions. `grace`: seconds that a session waits for its client.

    At most `most` sessions wait, and they buffer at most `most_bytes`. One user may have half of each. To
    make room, the user who has the most loses the session that has waited longest. `frozen` has as many
    more, which came from another process.
    """

    def __init__(self, grace: float, most: int, most_bytes: int) -> None:
        self._grace = grace
        self._most = most
        self._most_bytes = most_bytes
        self._entries: dict[Key, Entry] = {}
        self._orphans: dict[str, OrderedDict[Key, Entry]] = {}  # by user; the longest wait first
        self._waiting = 0
        self._ended: deque[Entry] = deque()
        # What went to another process, or must begin there: the generation, when, and whether it was here.
        self._moved: OrderedDict[Key, tuple[int, float, bool]] = OrderedDict()
        self.frozen = FrozenSessions(most)
        self._sweeper = supervise("the sweeper of sessions that wait", self._sweep)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        gone = {"ended": len(self._ended), "moved": len(self._moved)}
        waiting = {"orphans": self._waiting, "frozen": len(self.frozen)}
        return {"resumable": len(self._entries), **waiting, **gone}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def waiting(self) -> int:
        """Number of sessions without a stream."""
        return self._waiting + len(self.frozen)

    def close(self) -> None:
        """Stop the sweeper, and end what is frozen."""
        self._sweeper.kill(block=False)
        self.frozen.close()

    def find(self, key: Key, generation: int, *, again: bool = False) -> Entry | None:
        """The entry of the requested session, or None. Raises TargetError if a newer request came before.

        `again`: another process may ask for it more than once, for one request.
        """
        entry = self._entries.get(key)
        if entry is None:
            if key in self._moved and generation < self._moved[key][0] + (not again):
                raise TargetError(Status.STALE, _STALE)
            if (frozen := self.frozen.get(key)) is not None and generation <= frozen.generation:
                raise TargetError(Status.STALE, _STALE)
            return None
        if generation <= entry.generation:
            raise TargetError(Status.STALE, _STALE)
        entry.generation = generation
        return entry

    def knows(self, key: Key) -> bool:
        """Whether the session is or was here."""
        return key in self._entries or key in self.frozen

    def get(self, key: Key) -> Entry | None:
        """The entry of the session, if it has one."""
        return self._entries.get(key)

    def was_here(self, key: Key) -> bool:
        """Whether the session went from here to another process lately."""
        return key in self._moved and self._moved[key][2]

    def moved(self, key: Key, generation: int, *, frozen: bool = False) -> None:
        """Note that the session, known or not, is in another process from this generation on.

        `frozen`: it was so here.
        """
        entry, was_here = self._entries.pop(key, None), frozen or self.was_here(key)
        if entry is not None:
            self.carried(entry)
        self._moved.pop(key, None)
        self._moved[key] = generation, monotonic(), was_here or entry is not None
        if len(self._moved) > MOST_ENDED:
            self._moved.popitem(last=False)

    def forget(self, entry: Entry, refusal: TargetError) -> None:
        """Drop the entry of a session that is not here. Those who wait for it get `refusal`."""
        self._entries.pop(entry.key, None)
        entry.end(refusal)

    @property
    def entries(self) -> list[Entry]:
        """All of them."""
        return [*self._entries.values()]

    def begin(self, key: Key, generation: int) -> Entry:
        """Add an entry for a new session."""
        self._moved.pop(key, None)
        entry = self._entries[key] = Entry(key, generation)
        return entry

    def carried(self, entry: Entry) -> None:
        """Note that a stream carries the session, or that it need not wait any more."""
        own = self._orphans.get(entry.key[0])
        if own is not None and own.pop(entry.key, None) is not None:
            self._waiting -= 1
            if not own:
                del self._orphans[entry.key[0]]

    def orphaned(self, entry: Entry) -> None:
        """Let the session wait for its client, unless it is over or another stream carries it."""
        session = entry.session
        if session is None or session.over or session.carried or self._entries.get(entry.key) is not entry:
            return
        self.carried(entry)
        entry.since = monotonic()
        own = self._orphans.setdefault(entry.key[0], OrderedDict())
        own[entry.key] = entry
        self._waiting += 1
        if len(own) > max(1, self._most // 2):
            self._give_up(_oldest(own), _CROWDED)
        elif self._waiting > self._most:
            self._give_up(_oldest(max(self._orphans.values(), key=len)), _CROWDED)

    def ended(self, entry: Entry, refusal: TargetError | None, *, known: bool) -> None:
        """Note that the session is over. `refusal`: None after a clean end. `known`: its client knows."""
        self.carried(entry)
        entry.end(refusal)
        if known and not entry.generation:
            self._entries.pop(entry.key, None)
            return
        self._ended.append(entry)
        if len(self._ended) > MOST_ENDED:
            self._forget()

    def _forget(self) -> None:
        entry = self._ended.popleft()
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]

    def _sweep(self) -> None:
        while True:
            gevent.sleep(SWEEP)
            oldest = monotonic() - self._grace
            for key in self.frozen.before(oldest):
                self.frozen.thaw(key)
                if (late := self._entries.get(key)) is not None:
                    self._give_up(late, _LATE)
                maybe_yield()
            walk = Walk()  # all that a client had may be too late at once
            for own in list(self._orphans.values()):
                while own and (entry := _oldest(own)).since <= oldest:
                    self._give_up(entry, _LATE)
                    walk.step()
            while self._ended and self._ended[0].since <= oldest:
                self._forget()
            while self._moved and next(iter(self._moved.values()))[1] <= oldest:
                self._moved.popitem(last=False)
            held = 0
            for own in list(self._orphans.values()):
                of_user = _sum(own)
                held += of_user
                if of_user > self._most_bytes // 2:
                    self._make_room([own], self._most_bytes // 2)
            if held > self._most_bytes:
                self._make_room(list(self._orphans.values()), self._most_bytes)

    def _make_room(self, users: list[OrderedDict[Key, Entry]], most: int) -> None:
        """Give up sessions until those of `users` buffer at most `most` bytes: of the largest user first."""
        held = [sum(map(_held, own.values())) for own in users]
        while sum(held) > most:
            fullest = max(range(len(users)), key=held.__getitem__)
            entry = _oldest(users[fullest])
            held[fullest] -= _held(entry)
            self._give_up(entry, _CROWDED)

    def _give_up(self, entry: Entry, why: str) -> None:
        self.carried(entry)
        if entry.session is not None:
            try:
                entry.session.fail(Closed(why))
            except Exception as error:  # it must not affect the other sessions
                report("giving a session up", error)


def _oldest(own: OrderedDict[Key, Entry]) -> Entry:
    return next(iter(own.values()))


def _sum(own: OrderedDict[Key, Entry]) -> int:
    """Bytes that the sessions of one user buffer, about: others run meanwhile."""
    held = 0
    for entry in list(own.values()):
        maybe_yield()
        held += _held(entry)
    return held


def _held(entry: Entry) -> int:
    return entry.session.retained if entry.session else 0
