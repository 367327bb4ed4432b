"""Which sessions the workers of a server have begun, so that no data reach a target twice.

A client that gets no answer to a request repeats it, with a higher generation. It sends its data again only
if the server does not know the session (docs/PROTOCOL.md). One process remembers the sessions that it began.
Of several workers, another one may have begun it, or one that has died since. So each of them writes down
every session before it begins it, in memory that all share and that outlives a worker.

A worker has a table that only it writes: buckets by the hash of the session. A new entry takes the place of
the oldest one in its bucket. Should that be younger than the time for which sessions must be known, then the
table has too few places for the load, and for that time every repeated request is refused.
"""

import mmap
import os
from collections.abc import Callable
from hashlib import blake2b
from time import monotonic

BUCKETS = 8192
PLACES = 16
"""Entries in a bucket. A worker's table takes 2 MB, for 1,000 new sessions a second within a minute."""
LEAST_TIME = 60.0
"""The shortest time in seconds for which a session is known. Clients repeat a request within 30 s."""

Begin = Callable[[str, bytes, int], bool]
"""Notes that a user's session begins with a request of this generation. False: it must not begin here."""


def always(user: str, session: bytes, generation: int) -> bool:
    """A `Begin` for a server that is one process: its sessions are all in `lane.server.resumption`."""
    return True


class Begun:
    """The tables of `workers` workers. It is made before they fork. `known_for` is in seconds."""

    def __init__(self, workers: int, known_for: float) -> None:
        self._known_for = max(known_for, LEAST_TIME)
        self._key = os.urandom(16)
        size = 8 * BUCKETS * PLACES
        self._marks = [memoryview(mmap.mmap(-1, size)).cast("Q") for _ in range(workers)]
        self._times = [memoryview(mmap.mmap(-1, size)).cast("d") for _ in range(workers)]
        self._crowded = memoryview(mmap.mmap(-1, 8 * workers)).cast("d")
        """When each worker last forgot a session too early, or `lost` some; 0 if never."""

    def lost(self, worker: int) -> None:
        """Called by `worker`: a process has died that may have begun sessions these tables do not have."""
        self._crowded[worker] = monotonic()

    def begin(self, worker: int, user: str, session: bytes, generation: int) -> bool:
        """See `Begin`. Called by `worker`."""
        name = user.encode(errors="surrogatepass")  # a plugin may name its users as it likes
        digest = blake2b(name + b"\0" + session, digest_size=8, key=self._key).digest()
        mark = int.from_bytes(digest) or 1  # 0 is an empty place
        first = mark % BUCKETS * PLACES
        bucket = slice(first, first + PLACES)
        if any(mark in marks[bucket] for marks in self._marks):
            return False
        now = monotonic()
        if generation and any(now - when < self._known_for for when in self._crowded if when):
            return False
        times = self._times[worker]
        place = min(range(first, first + PLACES), key=times.__getitem__)
        if times[place] and now - times[place] < self._known_for:
            self._crowded[worker] = now
        times[place], self._marks[worker][place] = now, mark
        # Only now look for one that begins elsewhere at the same time: one of the two sees the other.
        others = (marks for number, marks in enumerate(self._marks) if number != worker)
        return not any(mark in marks[bucket] for marks in others)
