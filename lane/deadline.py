"""Deadlines for what a greenlet does.

They do what is used here of gevent.Timeout, at a fraction of its cost: a new connection has a dozen, and most
of them never expire. So the error is made only when one does.
"""

from collections.abc import Callable
from typing import Any

from gevent import get_hub
from greenlet import getcurrent


class deadline:  # noqa: N801  (it is used as a function is)
    """A context in which this greenlet gets the exception of `late` where it waits, after `seconds`.

    The exception passes through the code that waits, as that of gevent.Timeout does.
    """

    __slots__ = ("_late", "_seconds", "_timer")

    def __init__(self, seconds: float, late: Callable[[], Exception]) -> None:
        self._seconds = seconds
        self._late = late

    def __enter__(self) -> None:
        hub: Any = get_hub()
        self._timer = hub.loop.timer(self._seconds)
        self._timer.start(_expire, getcurrent(), self._late)

    def __exit__(self, *_: object) -> None:
        self._timer.close()


def _expire(greenlet: Any, late: Callable[[], Exception]) -> None:
    greenlet.throw(late())
