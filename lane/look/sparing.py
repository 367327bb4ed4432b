"""What a look costs, kept small: a result is kept for longer, the more it took to find it.

To find out what moves takes time for each session that does, and several may look at once. So whoever looks
gets the same for a while, and all of them together take no more than a fixed part of a core.
"""

from collections.abc import Callable
from time import monotonic, thread_time
from typing import Generic, TypeVar

T = TypeVar("T")

SHARE = 1 / 300
"""The part of a core that looking may take."""


class Sparing(Generic[T]):
    """Calls `find`, which must not let other greenlets run, as seldom as SHARE wants."""

    def __init__(self, find: Callable[[], T]) -> None:
        self._find = find
        self._kept: list[T] = []
        self._until = 0.0

    def look(self) -> T:
        """What `find` has found, now or a moment ago."""
        if not self._kept or monotonic() >= self._until:
            began = thread_time()
            self._kept = [self._find()]
            self._until = monotonic() + (thread_time() - began) / SHARE
        return self._kept[0]

    def forget(self) -> None:
        """Keep nothing longer than it counts: nobody may look any more."""
        if monotonic() >= self._until:
            self._kept.clear()
