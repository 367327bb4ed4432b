"""Idle sessions that came from another process, as it froze them, until somebody needs them.

When a process takes the place of another one, most sessions are idle, and their clients come back over some
seconds. Until then, a session is a kilobyte and the descriptor of its target's socket here, which costs a
tenth of one that lives. It goes on as soon as its client asks for it, something comes from its target, or it
has to end.
"""

import os
import select
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any, NamedTuple

from gevent import get_hub

from lane.fair import maybe_yield
from lane.supervisor import report
from lane.tasks import start

Key = tuple[str, bytes]
"""See `lane.server.resumption`."""

MOST_BYTES = 4096
"""The longest state. One of an idle session has a quarter of that."""
MOST_UNKNOWN = 2048
"""The most bytes of an idle session that its client may not have: it may be dead, or has not said so yet."""
_AT_ONCE = 64
"""Sessions whose targets speak that go on in one turn of the event loop."""


class Frozen(NamedTuple):
    """A session that is not thawed."""

    key: Key
    generation: int
    peer: str
    """The address of the client's first carrier."""
    state: bytes
    """A `lane.session.parcel.Parcel` of a session, as MessagePack."""
    descriptor: int
    """Of the target's socket."""


class FrozenSessions:
    """At most `most` frozen sessions. `thaw` is called with the key of one that has to go on."""

    def __init__(self, most: int) -> None:
        self.thaw: Callable[[Key], None] = lambda key: None
        """May be replaced at any time."""
        self._most = most
        # With the time at which each came, the oldest first, and what it calls when it leaves.
        self._here: OrderedDict[Key, tuple[Frozen, float, Callable[[], None]]] = OrderedDict()
        self._keys: dict[int, Key] = {}  # by descriptor
        self._set: Any = None
        self._watcher: Any = None

    def __len__(self) -> int:
        return len(self._here)

    def __contains__(self, key: Key) -> bool:
        return key in self._here

    def __iter__(self) -> Iterator[Key]:
        return iter([*self._here])

    def takes(self, one: Frozen) -> bool:
        """Whether there is room for one more."""
        return len(self._here) < self._most and len(one.state) <= MOST_BYTES and one.key not in self._here

    def put(self, one: Frozen, leave: Callable[[], None]) -> None:
        """Keep one that it `takes`. `leave` is called once it leaves. Raises OSError if it can't be seen."""
        if self._set is None:
            self._set = select.epoll()  # Linux, as all that hands sessions over
            loop: Any = get_hub().loop
            self._watcher = loop.io(self._set.fileno(), 1, ref=False)
            self._watcher.start(self._look)
        self._set.register(one.descriptor, select.EPOLLIN)
        self._keys[one.descriptor] = one.key
        self._here[one.key] = one, monotonic(), leave

    def get(self, key: Key) -> Frozen | None:
        """Look at one."""
        found = self._here.get(key)
        return found[0] if found is not None else None

    def take(self, key: Key) -> Frozen:
        """Take one out. Its descriptor is the caller's."""
        one, _, leave = self._here.pop(key)
        del self._keys[one.descriptor]
        self._set.unregister(one.descriptor)
        leave()
        return one

    def before(self, oldest: float) -> Iterator[Key]:
        """Those that came up to this time. The caller takes each out."""
        while self._here and (key := next(iter(self._here))) and self._here[key][1] <= oldest:
            yield key

    def of(self, users: Iterable[str]) -> list[Key]:
        """Those of `users`."""
        names = {*users}
        return [key for key in self._here if key[0] in names]

    def close(self) -> None:
        """End all: their targets get a reset. Idempotent."""
        for key in self:
            os.close(self.take(key).descriptor)
        if self._set is not None:
            self._watcher.close()
            self._set.close()
            self._set = None

    def _look(self) -> None:
        self._watcher.stop()
        start(self._thaw_ready)

    def _thaw_ready(self) -> None:
        """Thaw those whose targets speak, or have ended."""
        while self._set is not None:
            found = self._set.poll(0, _AT_ONCE)
            if not found:
                self._watcher.start(self._look)
                return
            for descriptor, _ in found:
                if (key := self._keys.get(descriptor)) is not None:
                    try:
                        self.thaw(key)
                    except Exception as error:  # it costs this session, and the others are still looked at
                        report("going on with a frozen session", error)
                    maybe_yield()
