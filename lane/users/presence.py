"""Who is there, in all workers of a server together: devices and sessions by user.

Each worker writes what it has into memory that was mapped before the processes forked, and reads what the
others have: see `lane.tally`. A worker's table has buckets by user. A user who has more devices than a bucket
has free places counts only where it is.
"""

import mmap
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


class Presence:
    """The tables of `workers` workers."""

    def __init__(self, workers: int = 1) -> None:
        size = 8 * BUCKETS * PLACES
        self.users, self.devices, self.numbers = (
            [memoryview(mmap.mmap(-1, size)).cast("Q") for _ in range(workers)] for _ in range(3)
        )
        self.workers = workers

    def clear(self, worker: int) -> None:
        """Forget what a worker had, which has ended."""
        for tables in (self.users, self.devices, self.numbers):
            tables[worker][:] = memoryview(bytes(8 * BUCKETS * PLACES)).cast("Q")

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


class Here:
    """What `worker` has, beside the others."""

    def __init__(self, presence: Presence | None = None, worker: int = 0) -> None:
        self._presence = presence or Presence()
        self._worker = worker
        self._others = [number for number in range(self._presence.workers) if number != worker]
        self._places: dict[str, dict[int, tuple[int | None, int]]] = {}  # by user and device: where, how many
        self._presence.clear(worker)

    def enter(self, user: str, device: bytes) -> None:
        """Another carrier of a user's device has come."""
        self._add(user, _device(device), 1)

    def leave(self, user: str, device: bytes) -> None:
        """A carrier of the device has gone."""
        self._add(user, _device(device), -1)

    def begin(self, user: str) -> None:
        """Another session of a user has begun."""
        self._add(user, _SESSIONS, 1)

    def end(self, user: str) -> None:
        """A session has ended."""
        self._add(user, _SESSIONS, -1)

    def sessions(self, user: str) -> int:
        """The sessions of a user, in all workers."""
        _, own = self._places.get(user, {}).get(_SESSIONS, (None, 0))
        return own + sum(number for device, number in self._elsewhere(user) if device == _SESSIONS)

    def room(self, user: str, device: bytes, most: int) -> bool:
        """Whether a device may be there if a user may have `most`."""
        there = {*self._places.get(user, ()), *(kind for kind, _ in self._elsewhere(user))} - {_SESSIONS}
        return _device(device) in there or len(there) < most

    def _elsewhere(self, user: str) -> list[tuple[int, int]]:
        """The entries of a user in other workers: devices and numbers."""
        if not self._others:
            return []
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

    def _add(self, user: str, device: int, change: int) -> None:
        places = self._places.setdefault(user, {})
        place, number = places.get(device, (None, 0))
        number += change
        if number <= 0:
            del places[device]
            if not places:
                del self._places[user]
            if place is not None:
                self._presence.users[self._worker][place] = 0
            return
        if number == change:
            place = self._take(digest(user), device)
        places[device] = place, number
        if place is not None:
            self._presence.numbers[self._worker][place] = number

    def _take(self, name: int, device: int) -> int | None:
        """A free place for a user. None if there is none."""
        first = name % BUCKETS * PLACES
        users = self._presence.users[self._worker]
        try:
            place = first + users[first : first + PLACES].tolist().index(0)
        except ValueError:
            return None
        self._presence.devices[self._worker][place] = device
        users[place] = name
        return place
