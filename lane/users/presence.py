"""Who is there, in all workers of a server together: devices and sessions by user.

Each worker writes what it has into memory that was mapped before the processes forked, and reads what the
others have: see `lane.tally`. A worker's table has buckets by user. A user who has more devices than a bucket
has free places counts only where it is.

The memory goes to the processes that take the place of a server (`lane.handover`). It has tables for them as
well, so while an upgrade lasts, both count together.
"""

import mmap
import os
from collections import Counter
from hashlib import blake2b

BUCKETS = 512
PLACES = 64
"""Entries in a bucket. A worker's table takes 768 KB, for 32,768 devices and users."""
_SESSIONS = 1
"""In the place of a device: the entry has the number of the user's sessions."""


def digest(name: str) -> int:
    """A user in these tables: a number from 1 to 2**64 - 1."""
    return int.from_bytes(blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()) or 1


def _device(text: bytes) -> int:
    return max(int.from_bytes(blake2b(text, digest_size=8).digest()), _SESSIONS + 1)


Lent = tuple[int, int]
"""The descriptor of the memory, and the half that is in use."""


class Presence:
    """The tables of `workers` workers. `lends`: for the processes that take the place of this server, too.

    `before`: of the server whose place this one takes, which has lent them. There are two halves of tables:
    that of this server, and that of the one before or after it.
    """

    def __init__(self, workers: int = 1, before: Lent | None = None, *, lends: bool = False) -> None:
        table = BUCKETS * PLACES
        size = 8 * table * 3 * 2 * workers
        self.workers = workers
        self._descriptor, self._half = -1, 0
        if before is not None and os.fstat(before[0]).st_size == size:
            self._descriptor, self._half = before[0], 1 - before[1]
        elif lends and hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("lane-presence")
            os.ftruncate(self._descriptor, size)
        cells = memoryview(mmap.mmap(self._descriptor, size)).cast("Q")
        self.users, self.devices, self.numbers = (
            [cells[start : start + table] for start in range(first, first + 2 * workers * table, table)]
            for first in range(0, 3 * 2 * workers * table, 2 * workers * table)
        )

    def lend(self) -> Lent | None:
        """What the processes that take the place of this server need. The descriptor stays its own."""
        return (self._descriptor, self._half) if self._descriptor >= 0 else None

    def table(self, worker: int) -> int:
        """The number of a worker's table."""
        return self._half * self.workers + worker

    def clear(self, worker: int, *, other: bool = False) -> None:
        """Forget what a worker had, which has ended. `other`: one of the server before or after this one."""
        number = self.table(worker)
        if other:
            number = (number + self.workers) % (2 * self.workers)
        for tables in (self.users, self.devices, self.numbers):
            tables[number][:] = memoryview(bytes(8 * BUCKETS * PLACES)).cast("Q")

    @property
    def leaving(self) -> int:
        """Sessions that the server before or after this one still has."""
        tables = range((1 - self._half) * self.workers, (2 - self._half) * self.workers)
        return sum(
            self.numbers[table][place]
            for table in tables
            for place, user in enumerate(self.users[table].tolist())
            if user and self.devices[table][place] == _SESSIONS
        )

    def online(self) -> dict[int, tuple[int, int]]:
        """The sessions and devices of each user who is there, by `digest`."""
        sessions: Counter[int] = Counter()
        devices: set[tuple[int, int]] = set()
        for users, kinds, numbers in zip(self.users, self.devices, self.numbers, strict=True):
            for place, user in enumerate(users.tolist()):
                if user and kinds[place] == _SESSIONS:
                    sessions[user] += numbers[place]
                elif user:
                    devices.add((user, kinds[place]))
        counted = Counter(user for user, _ in devices)
        return {user: (sessions[user], counted[user]) for user in sessions.keys() | counted.keys()}


class _There:
    """What a user has in this worker. `place`: the entry of the sessions; None if there was no room."""

    __slots__ = ("devices", "place", "sessions")

    def __init__(self, place: int | None) -> None:
        self.place = place
        self.sessions = 0
        self.devices: dict[int, tuple[int | None, int]] = {}  # the entry of each, and its carriers


class Here:
    """What `worker` has, beside the others."""

    def __init__(self, presence: Presence | None = None, worker: int = 0) -> None:
        self._presence = presence or Presence()
        self._table = self._presence.table(worker)
        self._others = [number for number in range(2 * self._presence.workers) if number != self._table]
        self._there: dict[str, _There] = {}
        self._presence.clear(worker)
        self._numbers = self._presence.numbers[self._table]

    def enter(self, user: str, device: bytes) -> None:
        """Another carrier of a user's device has come."""
        devices, kind = (self._there.get(user) or self._come(user)).devices, _device(device)
        if kind in devices:
            place, number = devices[kind]
        else:
            place, number = self._take(digest(user), kind), 0
        devices[kind] = place, number + 1

    def leave(self, user: str, device: bytes) -> None:
        """A carrier of the device has gone."""
        there, kind = self._there[user], _device(device)
        place, number = there.devices[kind]
        if number > 1:
            there.devices[kind] = place, number - 1
            return
        del there.devices[kind]
        self._free(place)
        self._look_after(user, there)

    def begin(self, user: str) -> None:
        """Another session of a user has begun."""
        there = self._there.get(user) or self._come(user)
        there.sessions += 1
        if there.place is not None:
            self._numbers[there.place] = there.sessions

    def end(self, user: str) -> None:
        """A session has ended."""
        there = self._there[user]
        there.sessions -= 1
        if there.place is not None:
            self._numbers[there.place] = there.sessions
        if not there.sessions:
            self._look_after(user, there)

    def has(self, user: str) -> bool:
        """Whether anything of a user is here."""
        return user in self._there

    def sessions(self, user: str) -> int:
        """The sessions of a user, in all workers."""
        there = self._there.get(user)
        own = there.sessions if there else 0
        return own + sum(number for device, number in self._elsewhere(user) if device == _SESSIONS)

    def room(self, user: str, device: bytes, most: int) -> bool:
        """Whether a device may be there if a user may have `most`."""
        own = there.devices if (there := self._there.get(user)) else ()
        all_of_it = {*own, *(kind for kind, _ in self._elsewhere(user))} - {_SESSIONS}
        return _device(device) in all_of_it or len(all_of_it) < most

    def _elsewhere(self, user: str) -> list[tuple[int, int]]:
        """The entries of a user in other workers: devices and numbers."""
        name = digest(user)
        first = name % BUCKETS * PLACES
        found = []
        for other in self._others:
            users = self._presence.users[other][first : first + PLACES].tolist()
            found += [
                (self._presence.devices[other][first + place], self._presence.numbers[other][first + place])
                for place, one in enumerate(users)
                if one == name
            ]
        return found

    def _come(self, user: str) -> _There:
        """A user who was not here."""
        there = self._there[user] = _There(self._take(digest(user), _SESSIONS))
        return there

    def _look_after(self, user: str, there: _There) -> None:
        """Forget a user who has nothing here any more."""
        if not there.sessions and not there.devices:
            del self._there[user]
            self._free(there.place)

    def _take(self, name: int, device: int) -> int | None:
        """A free place for a user. None if there is none."""
        first = name % BUCKETS * PLACES
        users = self._presence.users[self._table]
        try:
            place = first + users[first : first + PLACES].tolist().index(0)
        except ValueError:
            return None
        self._presence.devices[self._table][place] = device
        self._presence.numbers[self._table][place] = 0
        users[place] = name
        return place

    def _free(self, place: int | None) -> None:
        if place is not None:
            self._presence.users[self._table][place] = 0
