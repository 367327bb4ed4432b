"""A reader that sleeps, while the event loop passes on what is short.

To switch to a greenlet and back, for each message of a chat, costs more than to pass the message on. So the
event loop itself looks at what has come, and wakes the reader only for what is long, or might block.
"""

from collections.abc import Callable
from typing import Any

from gevent.hub import Waiter

SHORT = 4096
"""Bytes below which a read is short. It has probably emptied the socket, too."""


class _Sleeper(Waiter):  # type: ignore[misc]  # gevent has no types
    """A waiter whose `throw` gevent's hub calls when it cancels the wait."""

    def __init__(self, look: Callable[[], Any]) -> None:
        super().__init__()
        self._look = look

    def ready(self) -> None:
        try:
            found = self._look()
        except BaseException as error:  # the event loop would stop the watcher, and the reader sleep for ever
            self.throw(error)
        else:
            if found is not None:
                self.switch(found)


def sleep(watcher: Any, look: Callable[[], Any]) -> Any:
    """Wait until `look` returns something, and return it, or raise what `look` raises.

    The event loop calls `look`, which must not block, each time that `watcher`, which is idle, is ready.
    None: wait on. Only the bytes of a view that `look` returns are valid until another greenlet runs.
    """
    sleeper = _Sleeper(look)
    watcher.start(sleeper.ready)
    try:
        return sleeper.get()  # no limit: the caller has one
    finally:
        watcher.stop()
