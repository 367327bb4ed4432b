"""An attempt of a session to go on over one lane. It can be called off, since a lane may die meanwhile.

A dial on a dead lane lasts until its deadline, ten seconds. A session must not stand still for so long
while another lane works, and `lane.carriers.path_control` knows when that is so.
"""

from types import TracebackType
from typing import Any

from gevent import get_hub, getcurrent

from lane.carriers.lanes import Lane
from lane.errors import Unreachable


class Attempt:
    """An attempt of the present greenlet on `lane`, for the time of the context."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._greenlet: Any = getcurrent()

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._greenlet = None

    def call_off(self) -> None:
        """Raise Unreachable in the greenlet that makes the attempt, unless it has ended. Idempotent."""
        get_hub().loop.run_callback(self._interrupt)

    def _interrupt(self) -> None:
        greenlet, self._greenlet = self._greenlet, None
        if greenlet is not None:
            greenlet.throw(Unreachable("the attempt was called off: the network has changed, or the choice"))
