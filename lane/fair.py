"""Fairness between greenlets that never have to wait.

A pump between two fast sockets may not block for seconds. `gevent.sleep(0)` does not help the others:
up to a thousand such callbacks run before the event loop looks at a socket again, and a timer costs a
millisecond of idleness. Waiting for a descriptor that is always ready sends a greenlet exactly once
around the loop, past everything else that is ready.
"""

import os
import threading
from functools import cache
from time import monotonic
from typing import Any

from gevent import get_hub

QUANTUM = 0.0005
"""Seconds that greenlets may run before the event loop looks at what else is ready."""

_ready, _write = os.pipe()  # readable for ever; made now, since there may be no descriptor when it is needed
os.write(_write, b".")


def pass_turn() -> None:
    """Let the event loop go around once."""
    hub: Any = get_hub()
    watcher = hub.loop.io(_ready, 1)
    try:
        hub.wait(watcher)
    finally:
        watcher.close()


class _Round(threading.local):
    """When the event loop of this thread last went around: `loop.now()` is off by up to a second."""

    def __init__(self) -> None:
        self._watcher = get_hub().loop.check(ref=False)
        self._watcher.start(self._note)
        self.began = 0.0

    def _note(self) -> None:
        self.began = monotonic()


@cache
def _round() -> _Round:
    return _Round()


def be_fair() -> None:
    """Pass the turn on if the event loop has not gone around for a quantum; call it in each round of a loop.

    It counts what all greenlets did since: one that has just begun makes way, too.
    """
    if monotonic() - _round().began > QUANTUM:
        pass_turn()
