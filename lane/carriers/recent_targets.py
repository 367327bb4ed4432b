"""The targets that were reached lately, for which an application need not wait again.

An application sends nothing before its inbound has told it that it is connected. For a target that was
reached a moment ago, the inbound may say so at once, which saves a round trip. For any other target that
would be a guess, and wrong too often.
"""

from collections import OrderedDict
from collections.abc import Hashable
from time import monotonic

LIFE = 600.0
"""Seconds that a success counts."""
MOST = 4096
"""Maximum number of targets that are remembered; the least recently noted is forgotten first."""


class RecentTargets:
    """Targets by host and port as the application names them, or a value that stands for several of them."""

    def __init__(self) -> None:
        self._until: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, target: Hashable) -> bool:
        return self._until.get(target, 0.0) > monotonic()

    def note(self, target: Hashable, reached: bool) -> None:
        """Note the outcome of a request."""
        if not reached:
            self._until.pop(target, None)
            return
        self._until[target] = monotonic() + LIFE
        self._until.move_to_end(target)
        if len(self._until) > MOST:
            self._until.popitem(last=False)
