"""The views of a running client or server, one a second, asked for in a thread, also after a restart."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lane.asking import NotKnown, ask
from lane.errors import LaneError, Unreachable
from lane.top.past import Past

AGAIN = 1.0
"""Seconds between two attempts to reach a process that has gone."""


class Source(NamedTuple):
    """Whom to ask. `named`: see `lane.meeting.connect`."""

    path: Path
    who: str
    named: bool = False

    def views(self, *, follow: bool = True) -> Iterator[dict[str, Any]]:
        """Its views. Raises Unreachable if it does not answer, or can't."""
        try:
            for view in ask(self.path, follow=follow, who=self.who, named=self.named, what="view"):
                if view.get("role") not in ("client", "server"):  # it did not understand the question
                    raise Unreachable(self._old)
                yield view
        except NotKnown:
            raise Unreachable(self._old) from None

    @property
    def _old(self) -> str:
        return f"the {self.who} at {self.path} is of a version of lane that has no view"


class Feed:
    """Follows `source`. `news` is a descriptor that becomes readable with each view, and with each failure.

    Hold `lock` to look at `view`, the newest one (None before the first), `past` and `trouble`: why there
    are no more views now, or an empty text.
    """

    def __init__(self, source: Source) -> None:
        self.news, self._tell = os.pipe()
        for end in (self.news, self._tell):
            os.set_blocking(end, False)
        self.lock = threading.Lock()
        self.view: dict[str, Any] | None = None
        self.past = Past()
        self.trouble = ""
        self._source = source
        self._over = threading.Event()
        # A daemon: it may wait for an answer when the user has left.
        threading.Thread(target=self._follow, name="views", daemon=True).start()

    def heard(self) -> None:
        """Wait for further news."""
        with suppress(BlockingIOError):
            os.read(self.news, 4096)

    def close(self) -> None:
        """Ask no more."""
        self._over.set()

    def _follow(self) -> None:
        while not self._over.is_set():
            fresh = True
            try:
                for view in self._source.views():
                    with self.lock:  # no limit: it is held for the time of a frame
                        self.view, self.trouble = view, ""
                        self.past.take(view, fresh=fresh)
                    fresh = False
                    self._wake()
                    if self._over.is_set():
                        return
            except LaneError as error:
                with self.lock:  # no limit: it is held for the time of a frame
                    self.trouble = str(error)
                self._wake()
            self._over.wait(AGAIN)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # there are enough news
            os.write(self._tell, b".")
