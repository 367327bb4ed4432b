"""Connections that break while nobody reads them.

A greenlet that has read the end of the data, or that waits until what it read can move on, does not look at
its socket: a reset that comes then would be noticed with the next write, which may never be. The kernel tells
of it without being asked for data, but an event loop asks for data or nothing. So these sockets are known to
an epoll set of their own, which asks for nothing else, and the event loop waits for that set.

Where there is no epoll (outside Linux), such a connection ends with its idle time-out.
"""

import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gevent import get_hub

DELAY = 0.25
"""Seconds until a connection is watched: most are over before that, and to watch one costs system calls."""
_MOST = 256
"""Events that are taken at once; the others come with the next round of the event loop."""


class _Hangups(threading.local):
    """Those of this thread's event loop."""

    def __init__(self) -> None:
        self._new: dict[int, Callable[[], None]] = {}  # not watched yet
        self._calls: dict[int, Callable[[], None]] = {}
        self._set = select.epoll()
        self._timer: Any = None  # while some are new
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
            with suppress(OSError):  # the set is full: as where there is no epoll
                self._set.register(fd, 0)  # which leaves EPOLLERR and EPOLLHUP
                self._calls[fd] = call

    def _look(self) -> None:
        for fd, _ in self._set.poll(0, _MOST):
            call = self._calls.get(fd)
            self.forget(fd)
            if call:
                call()


_hangups: _Hangups | None = None


def watch(fd: int, call: Callable[[], None]) -> None:
    """Have the event loop call `call`, once, when the connection of `fd` is over: it must not block.

    It is over when it broke, or when both directions have ended. `forget` comes before `fd` is closed.
    """
    global _hangups
    if _hangups is None and hasattr(select, "epoll"):
        with suppress(OSError):  # no descriptor for the set: as where there is no epoll
            _hangups = _Hangups()
    if _hangups is not None:
        _hangups.watch(fd, call)


def forget(fd: int) -> None:
    """End the watch of `fd`, if there is one."""
    if _hangups is not None:
        _hangups.forget(fd)
