"""The sessions that clients may come back to, by what their clients call them.

A session lives on here when its stream is lost, for a while and within limits: the client opens another
stream, over whatever transport works, and goes on. What is late is recognised by its generation. A session
that has ended is remembered for as long, because its client may not have heard of it: the last
acknowledgement can be lost, too. There can be many of those, so little is kept of each.
"""

from collections import OrderedDict, deque
from sys import intern
from time import monotonic

import gevent
from gevent.event import Event

from lane import census
from lane.address import Address
from lane.errors import Closed, Status, TargetError
from lane.proto.hello import MAX_TEXT
from lane.session.session import Session
from lane.supervisor import report, supervise

SWEEP = 1.0
"""Seconds between two looks at the sessions that nothing carries."""
MOST_ENDED = 65536
"""Ended sessions that are remembered; the one that ended first is forgotten first. Some 300 bytes are kept of
each, 500 where it was refused with the longest of texts: 33 MB."""

_STALE = "a newer request for this session was here before"
_CROWDED = "too many sessions wait for their clients"
_COMPLETE = "the session is complete"
NOWHERE = Address("0.0.0.0", 0)
"""Stands in a REPLY that has no address to tell."""
_SETTLED = Event()
"""For all that have ended: an event of its own is larger than the rest of an entry."""
_SETTLED.set()

Key = tuple[str, bytes]
"""User, and what he calls the session."""


class Entry:
    """A session from its first request on. `settled` is set once its target was reached, or was not."""

    __slots__ = ("bound", "generation", "key", "session", "settled", "since", "text", "verdict")

    def __init__(self, key: Key, generation: int) -> None:
        self.key = key
        self.generation = generation
        self.settled = Event()
        self.session: Session | None = None
        self.bound = NOWHERE
        """Where its target sees it from, or its port is: each good REPLY tells, for the first may be lost."""
        self.verdict: Status | None = None
        """What a request for it is answered with, and in which words: it failed, or has ended."""
        self.text = ""
        self.since = 0.0
        """Since when nothing carries it, or it has ended, where that is so."""

    def begin(self, session: Session, bound: Address) -> None:
        """Its target was reached."""
        self.session, self.bound = session, bound
        self.settled.set()

    def join(self, generation: int) -> Session:
        """Wait until the target was reached, and take the session over. Raises TargetError."""
        self.settled.wait()  # no limit: who connects to the target has one, and settles it whatever happens
        if self.generation != generation:
            raise TargetError(Status.STALE, _STALE)
        if self.verdict is not None:
            raise TargetError(self.verdict, self.text)
        assert self.session is not None
        if self.session.complete:
            raise TargetError(Status.COMPLETE, _COMPLETE)
        return self.session

    def end(self, refusal: TargetError | None) -> None:
        """It is over, and failed unless that is None: whoever asks for it is told."""
        self.session, self.bound = None, NOWHERE
        self.verdict = Status.COMPLETE if refusal is None else refusal.status
        # What a REPLY has room for, and one copy of what is said of many.
        self.text = intern(_COMPLETE if refusal is None else str(refusal)[:MAX_TEXT])
        self.since = monotonic()
        self.settled.set()
        self.settled = _SETTLED


class Resumption:
    """`grace`: seconds that a session waits for its client. `most` may wait, and hold `most_bytes`.

    One user has half of that at most. Room is made by the sessions of who has the most, the oldest first.
    """

    def __init__(self, grace: float, most: int, most_bytes: int) -> None:
        self._grace = grace
        self._most = most
        self._most_bytes = most_bytes
        self._entries: dict[Key, Entry] = {}
        self._orphans: dict[str, OrderedDict[Key, Entry]] = {}  # by user; who waits for longest comes first
        self._waiting = 0
        self._ended: deque[Entry] = deque()
        self._sweeper = supervise("the sweeper of sessions that wait", self._sweep)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"resumable": len(self._entries), "orphans": self._waiting, "ended": len(self._ended)}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def waiting(self) -> int:
        """Sessions that nothing carries."""
        return self._waiting

    def close(self) -> None:
        """Stop looking after them."""
        self._sweeper.kill(block=False)

    def find(self, key: Key, generation: int) -> Entry | None:
        """The session that a request asks for, of which it is the newest one. Raises TargetError."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if generation <= entry.generation:
            raise TargetError(Status.STALE, _STALE)
        entry.generation = generation
        return entry

    def begin(self, key: Key, generation: int) -> Entry:
        """A session that nobody knows yet."""
        entry = self._entries[key] = Entry(key, generation)
        return entry

    def carried(self, entry: Entry) -> None:
        """Something carries the session."""
        own = self._orphans.get(entry.key[0])
        if own is not None and own.pop(entry.key, None) is not None:
            self._waiting -= 1
            if not own:
                del self._orphans[entry.key[0]]

    def orphaned(self, entry: Entry) -> None:
        """Nothing carries the session, as far as that stream knows."""
        session = entry.session
        if session is None or session.over or session.carried:
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
        """The session is over; None: in good order. `known`: its client knows, and asked once only."""
        self.carried(entry)
        entry.end(refusal)
        if known and not entry.generation:
            self._entries.pop(entry.key, None)
            return
        self._ended.append(entry)
        if len(self._ended) > MOST_ENDED:
            self._forget()

    def _forget(self) -> None:
        self._entries.pop(self._ended.popleft().key, None)

    def _sweep(self) -> None:
        while True:
            gevent.sleep(SWEEP)
            oldest = monotonic() - self._grace
            for own in list(self._orphans.values()):
                for entry in [entry for entry in own.values() if entry.since <= oldest]:
                    self._give_up(entry, "its client did not come back in time")
                self._make_room([own], self._most_bytes // 2)
            while self._ended and self._ended[0].since <= oldest:
                self._forget()
            self._make_room(list(self._orphans.values()), self._most_bytes)

    def _make_room(self, users: list[OrderedDict[Key, Entry]], most: int) -> None:
        """Have the sessions of `users` hold `most` bytes at most: those of who holds the most go first."""
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
            except Exception as error:  # that one's fault is not the others'
                report("giving a session up", error)


def _oldest(own: OrderedDict[Key, Entry]) -> Entry:
    return next(iter(own.values()))


def _held(entry: Entry) -> int:
    return entry.session.retained if entry.session else 0
