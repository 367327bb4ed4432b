"""Fairness between greenlets that never have to wait.

A pump between two fast sockets may not block for seconds. `gevent.sleep(0)` does not help the others:
up to a thousand such callbacks run before the event loop looks at a socket again, and a timer costs a
millisecond of idleness. Waiting for a descriptor that is always ready sends a greenlet exactly once
around the loop, past everything else that is ready.
"""

import os
from time import monotonic
from typing import Any

from gevent import get_hub

QUANTUM = 0.002
"""Seconds a greenlet may run before it lets the others have a turn."""

_ready: list[int] = []  # the descriptor, made when it is first needed


def _ready_fd() -> int:
    """A descriptor that is readable for ever."""
    if not _ready:
        read, write = os.pipe()
        os.write(write, b".")
        _ready.append(read)
    return _ready[0]


def pass_turn() -> None:
    """Let the event loop go around once."""
    hub: Any = get_hub()
    watcher = hub.loop.io(_ready_fd(), 1)
    try:
        hub.wait(watcher)
    finally:
        watcher.close()


class Turn:
    """Counts how long a loop has run; call `check` in each of its rounds."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = monotonic()

    def check(self) -> None:
        """Pass the turn on if the quantum is used up."""
        if monotonic() - self._since > QUANTUM:
            pass_turn()
            self._since = monotonic()
