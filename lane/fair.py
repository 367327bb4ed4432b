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
        hub.wait(watcher)  # no limit: it is ready now
    finally:
        watcher.close()


class Round:
    """The present turn of one thread's event loop. Other threads may look at it."""

    def __init__(self) -> None:
        self.began = 0.0
        """When it began: `loop.now()` is off by up to a second."""
        self._watcher = get_hub().loop.check(ref=False)
        self._watcher.start(self._note)

    def _note(self) -> None:
        self.began = monotonic()


class _Rounds(threading.local):
    def __init__(self) -> None:
        self.round = Round()


@cache
def _rounds() -> _Rounds:
    return _Rounds()


def this_round() -> Round:
    """That of this thread, which keeps itself up to date."""
    return _rounds().round


def be_fair() -> None:
    """Pass the turn on if the event loop has not gone around for a quantum; call it in each round of a loop.

    It counts what all greenlets did since: one that has just begun makes way, too.
    """
    if monotonic() - _rounds().round.began > QUANTUM:
        pass_turn()
