"""Fairness between greenlets that never block.

A greenlet that copies between two fast sockets may run for seconds without blocking. `gevent.sleep(0)` does
not help the others: up to a thousand such callbacks run before the event loop checks a socket again. A
timer wastes a millisecond. If a greenlet waits for a descriptor that is always ready, the event loop serves
everything else that is ready exactly once before it.
"""

import os
import threading
from functools import cache
from time import monotonic
from typing import Any

from gevent import get_hub

QUANTUM = 0.0005
"""Seconds that greenlets may run before the event loop checks its sockets again."""
AT_ONCE = 8
"""Short steps of a loop that may follow each other without a look at that time. Most loops wait before they
have made so many, and a turn before that would be one more for each new connection."""
MOST_UNUSED = 64
"""The most watchers that are kept for further turns."""

_ready, _write = os.pipe()  # always readable; opened early, since descriptors may run out later
os.write(_write, b".")


class Round:
    """The current iteration of one thread's event loop. Other threads may read it."""

    def __init__(self) -> None:
        self.began = 0.0
        """The start time of the iteration. `loop.now()` is off by up to a second."""
        self._watcher = get_hub().loop.check(ref=False)
        self._watcher.start(self._note)

    def _note(self) -> None:
        self.began = monotonic()


class _Rounds(threading.local):
    def __init__(self) -> None:
        self.round = Round()
        self.watchers: list[Any] = []  # unused watchers of `_ready`; a new one costs a third of a turn


@cache
def _rounds() -> _Rounds:
    return _Rounds()


def this_round() -> Round:
    """The iteration of this thread's event loop. The object is updated by itself."""
    return _rounds().round


def pass_turn() -> None:
    """Let the event loop run once."""
    hub: Any = get_hub()
    unused = _rounds().watchers
    if unused and unused[-1].loop is not hub.loop:
        unused.clear()  # their loop has ended
    watcher = unused.pop() if unused else hub.loop.io(_ready, 1)
    try:
        hub.wait(watcher)  # no limit: it is ready now
    finally:
        if len(unused) < MOST_UNUSED:
            unused.append(watcher)
        else:
            watcher.close()


class Walk:
    """Turns for a loop over many small things, of which nobody waits for one. Call `step` before each.

    Only the loop's own time counts. Under load each iteration of the event loop takes more than a quantum, so
    that `maybe_yield` would give way before every single thing.
    """

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = monotonic()

    def step(self) -> None:
        """Let the event loop run if the loop has run for a quantum since the last time."""
        if monotonic() - self._since > QUANTUM:
            pass_turn()
            self._since = monotonic()


def maybe_yield(waited_in: float = 0.0) -> None:
    """Let the event loop run if its last iteration was more than a quantum ago. Call it in each loop step.

    The time of all greenlets counts, so a greenlet that has just begun may give way too. A step that began
    with a wait has done so already: `waited_in` is the `began` of the round in which the wait began.
    """
    began = _rounds().round.began
    if (waited_in == began or not waited_in) and monotonic() - began > QUANTUM:
        pass_turn()
