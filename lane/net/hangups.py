"""Notices connections that break while nobody reads them.

A greenlet does not look at its socket after the end of the data, or while the data it has read can't move on.
A reset at that time would be noticed only by the next write, which may never come. The kernel reports a reset
even to a watcher that asks for no data, but an event loop always asks for data. So these sockets are
registered in an epoll set of their own, without any requested event, and the event loop waits for that set.

Without epoll (outside Linux), such a connection ends with its idle time-out.
"""

import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gevent import get_hub

DELAY = 0.25
"""Seconds before a connection is watched. Most end sooner, and each watch costs system calls."""
_MOST = 256
"""Events per poll. The rest follow in the next round of the event loop."""


class _Hangups(threading.local):
    """The watched connections of this thread's event loop."""

    def __init__(self) -> None:
        self._new: dict[int, Callable[[], None]] = {}  # not watched yet
        self._calls: dict[int, Callable[[], None]] = {}
        self._set = select.epoll()
        self._timer: Any = None  # set while some connections are new
        hub: Any = get_hub()
        self._watcher = hub.loop.io(self._set.fileno(), 1, ref=False)
        self._watcher.start(self._look)

    def watch(self, fd: int, call: Callable[[], None]) -> None:
        if self._timer is None:
            hub: Any = get_hub()
            self._timer = hub.loop.timer(DELAY, ref=False)
            self._timer.start(self._begin)
        self._new[fd] = call

    def forget(self, fd: int) -> None:
        if fd in self._new:
            del self._new[fd]
        elif self._calls.pop(fd, None):
            with suppress(OSError):
                self._set.unregister(fd)

    def _begin(self) -> None:
        self._timer.close()
        self._timer = None
        new, self._new = self._new, {}
        for fd, call in new.items():
            with suppress(OSError):  # the set is full: the idle time-out must do
                self._set.register(fd, 0)  # EPOLLERR and EPOLLHUP are always reported
                self._calls[fd] = call

    def _look(self) -> None:
        for fd, _ in self._set.poll(0, _MOST):
            call = self._calls.get(fd)
            self.forget(fd)
            if call:
                call()


_hangups: _Hangups | None = None


def watch(fd: int, call: Callable[[], None]) -> None:
    """Have the event loop call `call` once, when the connection of `fd` is over. `call` must not block.

    A connection is over when it broke, or when both directions have ended. Call `forget` before closing `fd`.
    """
    global _hangups
    if _hangups is None and hasattr(select, "epoll"):
        with suppress(OSError):  # no descriptor for the set: the idle time-out must do
            _hangups = _Hangups()
    if _hangups is not None:
        _hangups.watch(fd, call)


def forget(fd: int) -> None:
    """Stop watching `fd`, if it is watched."""
    if _hangups is not None:
        _hangups.forget(fd)
