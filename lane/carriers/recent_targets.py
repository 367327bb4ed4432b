"""Which destinations were reached lately: those an application need not wait for again.

An inbound must tell its application that it is connected before the application says anything. For a
destination that answered a moment ago that may be said at once, and saves the application a round trip;
for any other it would be a guess, and wrong too often to be worth it.
"""

from collections import OrderedDict
from collections.abc import Hashable
from time import monotonic

LIFE = 600.0
"""Seconds that a success counts."""
MOST = 4096
"""Destinations that are remembered; the one that was not used for longest is forgotten first."""


class RecentTargets:
    """The destinations, host and port as the application names them, or what stands for several of them."""

    def __init__(self) -> None:
        self._until: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, target: Hashable) -> bool:
        return self._until.get(target, 0.0) > monotonic()

    def note(self, target: Hashable, reached: bool) -> None:
        """What became of a request."""
        if not reached:
            self._until.pop(target, None)
            return
        self._until[target] = monotonic() + LIFE
        self._until.move_to_end(target)
        if len(self._until) > MOST:
            self._until.popitem(last=False)
