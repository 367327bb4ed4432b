"""Sessions that were aborted here, of which the server may not know: it would keep their targets waiting.

An abort is said on the stream that carries the session. Where there is none, or it was lost before anybody
heard, another stream has to say it: a few at a time, and behind everything else, since nobody waits for it.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic

from lane.supervisor import report
from lane.tasks import start

MOST = 1024
"""That wait; for more, the oldest is left to the server, which gives up what nobody comes back for."""
AT_ONCE = 4

Say = Callable[[float], None]
"""Tells the server, or tries to until then (of `time.monotonic`)."""


class Farewells:
    """Those of one client."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Say, float]] = deque(maxlen=MOST)
        self._running = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting) + self._running

    def add(self, say: Say, within: float) -> None:
        """Have `say` called, within so many seconds."""
        if self._closed:
            return
        self._waiting.append((say, monotonic() + within))
        if self._running < AT_ONCE:
            self._running += 1
            start(self._run)

    def close(self) -> None:
        """Forget them."""
        self._closed = True
        self._waiting.clear()

    def _run(self) -> None:
        try:
            while self._waiting:
                say, until = self._waiting.popleft()
                if monotonic() < until:
                    try:
                        say(until)
                    except Exception as error:
                        report("telling the server of an abort", error)
        finally:
            self._running -= 1
