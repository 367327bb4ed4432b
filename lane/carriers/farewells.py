"""Ends of sessions that the server may not know of. Until it does, it keeps these sessions.

The stream that carries a session also carries its end: an abort, or END once all was consumed. If there is no
such stream, or it was lost before the server received the end, the client says it on another stream. It sends
only a few at a time, because nobody waits for them.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic

from lane.supervisor import report
from lane.tasks import start

MOST = 1024
"""Maximum number of waiting ends. Beyond it the oldest is dropped; the server then ends it by a timeout."""
AT_ONCE = 4
"""Number of ends that are sent at the same time."""

Say = Callable[[float], None]
"""Sends one end. Its argument is the time of `time.monotonic` at which it gives up."""


class Farewells:
    """The waiting ends of one client."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Say, float]] = deque(maxlen=MOST)
        self._running = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting) + self._running

    def add(self, say: Say, within: float) -> None:
        """Queue `say`. It is dropped if it did not start `within` seconds."""
        if self._closed:
            return
        self._waiting.append((say, monotonic() + within))
        if self._running < AT_ONCE:
            self._running += 1
            start(self._run)

    def close(self) -> None:
        """Drop all that wait."""
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
                        report("telling the server of the end of a session", error)
        finally:
            self._running -= 1
