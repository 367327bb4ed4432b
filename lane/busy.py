"""How busy this thread is: the part of the time in which it runs or would run.

The time that it waits for a CPU counts as well. So a thread is busy that uses all that it gets of a crowded
machine, or of a container's quota, however little that is. Linux says that; elsewhere only CPU time counts.
"""

import threading
from contextlib import suppress
from time import monotonic, thread_time


class Busy:
    """The work of the thread that makes this."""

    def __init__(self) -> None:
        self._file = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        self._at, self._worked = monotonic(), self._work()

    def take(self) -> float:
        """The part of the time since the last call, 0 to 1."""
        now, worked = monotonic(), self._work()
        part = (worked - self._worked) / max(now - self._at, 1e-6)
        self._at, self._worked = now, worked
        return min(part, 1.0)

    def _work(self) -> float:
        """Seconds so far."""
        with suppress(OSError, ValueError), open(self._file, "rb") as file:
            running, waiting, _ = map(int, file.read().split())
            return (running + waiting) / 1e9
        return thread_time()
