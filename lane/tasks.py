"""A pool of greenlets for background tasks, and what is done in threads.

A session starts several tasks at each end, and most take less than a millisecond. A new greenlet costs more
than that: Python maps memory for its frames and unmaps it at its end. So some greenlets that have finished
a task wait for the next one.
"""

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from gevent import get_hub
from gevent.threadpool import ThreadPool
from greenlet import GreenletExit, greenlet

T = TypeVar("T")

MOST_IDLE = 64
"""The most greenlets that wait for a task. Each holds about 20 KB."""


class _Idle(threading.local):
    """The waiting greenlets of this thread."""

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
            except BaseException:  # no caller waits for it
                hub.handle_error(self, *sys.exc_info())
            self.task = None  # it may refer to much memory
            if len(_idle.runners) < MOST_IDLE:
                _idle.runners.append(self)
                hub.switch()


def idle() -> int:
    """The number of greenlets that wait for a task in this thread."""
    return len(_idle.runners)


def let_go() -> None:
    """End the greenlets that wait for a task in this thread. After a peak they would hold up its memory."""
    hub: Any = get_hub()
    for runner in _idle.runners:
        if runner.parent is hub:
            hub.loop.run_callback(runner.switch)  # without a task it ends; its own frame holds a reference
    _idle.runners.clear()


def start(task: Callable[..., object], *arguments: object) -> None:
    """Run `task(*arguments)` soon, in another greenlet. An exception is reported and ends only the task."""
    hub: Any = get_hub()
    runners = _idle.runners
    while runners and runners[-1].parent is not hub:  # its hub has ended
        runners.pop()
    runner = runners.pop() if runners else _Runner(hub)
    runner.task = partial(task, *arguments) if arguments else task
    hub.loop.run_callback(runner.switch)


def aside(room: ThreadPool, work: Callable[[], T]) -> T:
    """The result of `work`, which may block, in a thread of `room`. Its exception is raised here.

    gevent's own `apply` reports it in the thread as well, with a traceback, as if nobody waited for it.
    """
    error, result = room.apply(_outcome, (work,))
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback has this frame
    found: T = result
    return found


def _outcome(work: Callable[[], T]) -> tuple[Exception | None, T | None]:
    try:
        return None, work()
    except Exception as error:
        return error, None
