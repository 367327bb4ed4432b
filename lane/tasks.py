"""Tasks with a life of their own, without a new greenlet for each.

A session begins several of them at each end, and most end within a millisecond. What a new greenlet costs
is more than most of them do: Python maps memory for its frames and gives it back at its end. So greenlets
that have finished a task wait for another one, some of them.
"""

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from gevent import get_hub
from greenlet import GreenletExit, greenlet

MOST_IDLE = 64
"""Greenlets that wait for another task; each holds some 20 KB."""


class _Idle(threading.local):
    """Those of this thread."""

    def __init__(self) -> None:
        self.runners: list[_Runner] = []


_idle = _Idle()


class _Runner(greenlet):  # type: ignore[misc]  # greenlet has no types
    """Runs tasks one after the other."""

    __slots__ = ("task",)

    def __init__(self, hub: Any) -> None:
        super().__init__(parent=hub)
        self.task: Callable[[], object] | None = None

    def run(self) -> None:
        hub = self.parent
        while self.task:
            try:
                self.task()
            except GreenletExit:
                raise
            except BaseException:  # nobody is there to be told
                hub.handle_error(self, *sys.exc_info())
            self.task = None  # it may hold much
            if len(_idle.runners) < MOST_IDLE:
                _idle.runners.append(self)
                hub.switch()


def start(task: Callable[..., object], *arguments: object) -> None:
    """Have `task(*arguments)` run soon, beside the caller. Its exception is reported, and ends only it."""
    hub: Any = get_hub()
    runners = _idle.runners
    while runners and runners[-1].parent is not hub:  # of one that has ended
        runners.pop()
    runner = runners.pop() if runners else _Runner(hub)
    runner.task = partial(task, *arguments) if arguments else task
    hub.loop.run_callback(runner.switch)
