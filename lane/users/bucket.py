"""The budget of a rate: a token bucket whose tokens are seconds of the rate.

A piece may go when the bucket is not empty. Then all of it is paid for, so the bucket may owe a little. This
is the virtual scheduling of GCRA (ITU-T I.371). Seconds, and not bytes, because the rate may change at any
time, and in each process at another moment.

Several processes share a bucket without a lock. Each writes only what it has spent itself, and reads the sum.
So nothing that was spent is ever forgotten: two that spend in the same instant owe more afterwards. All
write when the bucket was full, but they compute the same time from the same numbers.
"""

import mmap
from collections.abc import MutableSequence
from hashlib import blake2b
from time import monotonic
from typing import Any

DEPTH = 0.040
"""Seconds of the rate that a full bucket holds: what may go at once after a pause."""
LATE = 0.25
"""Seconds that are made good after this process was too busy to let a piece go when it was due."""
LEAST_DEPTH = 3 * 1460
"""Bytes that it holds at least: a few packets."""
BUCKETS, PLACES = 8192, 8
"""Hash buckets of `Shared`, and the places in each of them."""
RESTED = 1.0
"""Seconds without use after which the place of a user may be given to another one. The bucket is full then,
as a new one is."""

_NS = 1_000_000_000


class Bucket:
    """`cells`: when it was full, and what each of the processes has spent (ns), if they are shared.

    This process is `worker`.
    """

    __slots__ = ("_cells", "_mine")

    def __init__(self, cells: MutableSequence[int] | None = None, worker: int = 0) -> None:
        self._cells: Any = [0, 0] if cells is None else cells
        self._mine = 1 + worker

    def wait(self, now: float, rate: float, *, late: bool = False) -> float:
        """Seconds until a piece may go at `rate` (bytes a second); 0 if it may go now.

        `late`: pieces waited for it of late, so time that has passed since was not theirs to use.
        """
        cells = self._cells
        spent: int = sum(cells[1:])
        credit: int = int(now * _NS) - cells[0] - spent
        depth = int(max(LATE if late else DEPTH, LEAST_DEPTH / rate) * _NS)
        if credit > depth:
            cells[0] += credit - depth
        return max(0.0, -credit / _NS)

    def spend(self, size: int, rate: float) -> None:
        """Pay for `size` bytes."""
        self._cells[self._mine] += int(size / rate * _NS)

    @property
    def lost(self) -> bool:
        """Whether its place went to another user."""
        return False

    @property
    def used_at(self) -> float:
        """About when it was used last."""
        at: int = sum(self._cells)
        return at / _NS


class Shared:
    """The buckets of users in several processes. It is made before they fork.

    A user who has a limit has a place here, found by the hash of the name. The places of users at rest go to
    others. So a bucket may be lost, and its user looks for another one.
    """

    def __init__(self, workers: int) -> None:
        self._width = 1 + workers
        self._keys = memoryview(mmap.mmap(-1, 8 * BUCKETS * PLACES)).cast("Q")
        self._cells = memoryview(mmap.mmap(-1, 8 * BUCKETS * PLACES * self._width)).cast("q")

    def bucket(self, what: str, worker: int) -> Bucket | None:
        """The bucket called `what`. None if too many are in use at once, which takes thousands of users."""
        name = what.encode(errors="surrogatepass")  # a plugin may name its users as it likes
        key = int.from_bytes(blake2b(name, digest_size=8).digest()) or 1  # 0 is an empty place
        first = key % BUCKETS * PLACES
        found = self._keys[first : first + PLACES].tolist()
        if key in found:
            return self._at(first + found.index(key), key, worker)
        for place in sorted(range(first, first + PLACES), key=lambda one: self._keys[one] != 0):
            if not self._keys[place] or monotonic() - self._at(place, 0, 0).used_at > RESTED:
                self._keys[place] = key
                return self._at(place, key, worker)
        return None

    def _at(self, place: int, key: int, worker: int) -> Bucket:
        start = place * self._width
        return _Placed(self._cells[start : start + self._width], worker, self._keys, place, key)


class _Placed(Bucket):
    """A bucket in a place of `Shared`."""

    __slots__ = ("_key", "_keys", "_place")

    def __init__(self, cells: Any, worker: int, keys: memoryview, place: int, key: int) -> None:
        super().__init__(cells, worker)
        self._keys = keys
        self._place = place
        self._key = key

    @property
    def lost(self) -> bool:
        """See `Bucket`."""
        return self._keys[self._place] != self._key
