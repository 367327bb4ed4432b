"""What users had moved when a panel cleared the counts, for all workers of a server.

The counters themselves never fall. So a panel's counts are what came since then.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from time import monotonic

import gevent

from lane.admin.web import Refusal
from lane.net.shelf import Shelf, memory_file

with suppress(ImportError):  # a server needs Unix: see `lane.state`
    import fcntl

PATIENCE = 5.0
"""Seconds to wait for another worker that clears the counts."""

Moved = Mapping[str, tuple[int, int]]
"""Bytes up and down by user."""


class Cleared:
    """What users had moved. It is made before the workers fork."""

    def __init__(self) -> None:
        self._shelf = Shelf(1)
        self._lock = memory_file("lane-cleared")

    def since(self, moved: Moved, *, clear: bool) -> dict[str, tuple[int, int]]:
        """What each user has moved since the counts were cleared, of those who have; `clear` them now.

        Raises Refusal if another worker takes too long with that.
        """
        until = monotonic() + PATIENCE
        while not self._enter():
            if monotonic() > until:
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "another request clears the counts")
            gevent.sleep(0.01)
        try:
            before = json.loads(self._shelf.get(0) or b"{}")
            if clear:
                self._shelf.put(0, json.dumps(moved).encode())
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)
        found = {}
        for user, (up, down) in moved.items():
            was_up, was_down = before.get(user, (0, 0))
            if up + down < was_up + was_down:  # the user was forgotten meanwhile, and is counted anew
                was_up = was_down = 0
            if (up, down) != (was_up, was_down):
                found[user] = max(up - was_up, 0), max(down - was_down, 0)
        return found

    def _enter(self) -> bool:
        """Keep other processes out. Greenlets of this one do not switch before they leave."""
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
