"""Fairness between greenlets that never have to wait.

A pump between two fast sockets may not block for seconds. `gevent.sleep(0)` does not help the others:
up to a thousand such callbacks run before the event loop looks at a socket again, and a timer costs a
millisecond of idleness. Waiting for a descriptor that is always ready sends a greenlet exactly once
around the loop, past everything else that is ready.
"""

import os
from time import time
from typing import Any

from gevent import get_hub

QUANTUM = 0.0005
"""Seconds that greenlets may run before the event loop looks at what else is ready."""

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


def be_fair() -> None:
    """Pass the turn on if the event loop has not gone around for a quantum; call it in each round of a loop.

    It counts what all greenlets did since: one that has just begun makes way, too. The loop's clock is that
    of the wall: where somebody sets it back, the loop has to look at it anew.
    """
    if not 0 <= time() - get_hub().loop.now() <= QUANTUM:
        pass_turn()
