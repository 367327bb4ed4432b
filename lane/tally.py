"""Numbers that the workers of a server share, so that its limits hold for all of them together.

Each worker writes its own numbers into memory that was mapped before the processes forked, and reads those
of the others. There is no lock: no number has two writers at once. So a limit is exact, except for what
begins in several workers at the same instant.
"""

import mmap
from collections.abc import Callable

MOST_WORKERS = 128
"""The most workers of a server: each has at least two of the values of a byte (`lane.net.siblings`)."""
PID, SINCE, RESTARTS, SESSIONS, CARRIERS = FIELDS = range(5)
"""The numbers of a worker: its process, when that started (seconds since the epoch), how often a worker took
the place of one that had died, and what it has now."""


NOTE_SIZE = 1000
"""Bytes of a note."""


class Tally:
    """The numbers of `workers` workers, all 0 at first."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._cells = memoryview(mmap.mmap(-1, 8 * (workers * len(FIELDS) + 1))).cast("q")
        self._note = mmap.mmap(-1, NOTE_SIZE + 2)

    def get(self, worker: int, field: int) -> int:
        """A number of a worker."""
        return self._cells[worker * len(FIELDS) + field]

    def put(self, worker: int, field: int, value: int) -> None:
        """Set a number of a worker."""
        self._cells[worker * len(FIELDS) + field] = value

    def total(self, field: int) -> int:
        """The sum over all workers."""
        return sum(self._cells[field : self.workers * len(FIELDS) : len(FIELDS)])

    @property
    def note(self) -> str:
        """A text that the parent, or the only process, leaves for all."""
        size = int.from_bytes(self._note[:2], "big")
        return self._note[2 : 2 + size].decode(errors="replace")

    @note.setter
    def note(self, text: str) -> None:
        data = text.encode()[:NOTE_SIZE]
        self._note[: 2 + len(data)] = len(data).to_bytes(2, "big") + data

    @property
    def stopping(self) -> bool:
        """Whether the whole server ends. Its parent sets it."""
        return bool(self._cells[-1])

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self._cells[-1] = value


class Count:
    """One number of this worker, beside the same number of the others."""

    def __init__(self, tally: Tally, worker: int, field: int) -> None:
        self._tally = tally
        self._worker = worker
        self._field = field
        self.elsewhere: Callable[[], int] = self._elsewhere if tally.workers > 1 else int
        """The number in all other workers together."""

    def put(self, value: int) -> None:
        """Set this worker's number."""
        self._tally.put(self._worker, self._field, value)

    def _elsewhere(self) -> int:
        return self._tally.total(self._field) - self._tally.get(self._worker, self._field)


def alone(field: int) -> Count:
    """The number of a process without others."""
    return Count(Tally(), 0, field)
