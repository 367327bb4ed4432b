"""The upgrade of a server of several workers: the parent of new ones takes the place of their parent.

That process has no event loop of gevent, but one that waits with a selector (`lane.cli.workers`).
"""

import logging
import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic

from lane.cli.upgrading import RETRY, Notes, obey, tell
from lane.errors import ConfigError, LaneError
from lane.handover import channel
from lane.handover.notes import DONE, FAILED
from lane.handover.succession import START_TIME, Inheritance, Successor, listen_for_successor
from lane.tally import Tally

LINK_TIME = 5.0
"""Seconds for one message between two parents."""

log = logging.getLogger("lane")


class ForkedUpgrades:
    """Upgrades the server of this parent, whose loop waits with `selector`.

    The others: see `lane.cli.upgrading.Upgrades`.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        before: socket.socket | None,
        leave: Callable[[], Inheritance],
        hurry: Callable[[], None],
        tally: Tally,
    ) -> None:
        self._selector = selector
        self._before = before
        self._leave = leave
        self._hurry = hurry
        self._note = Notes(tally)
        self._wanted = False  # once the process before this one has ended
        self._successor: Successor | None = None
        self._came: Successor | None = None  # it was not started here
        self._listener: socket.socket | None = None
        self._path: Path | None = None
        self._listen_at = inf  # the time of the next try
        self.succeeded = False
        """Whether another process has the place of this one."""
        self.until = inf
        """The time until which `look` must be called."""
        if before is not None:
            before.settimeout(LINK_TIME)
            selector.register(before, selectors.EVENT_READ, self._before_says)

    def serving(self) -> None:
        """Tell the process before this one that all workers serve."""
        if self._before is not None:
            with suppress(OSError):  # its end is noticed
                channel.send(self._before, {"serving": True})

    def begin(self) -> None:
        """Start a new process, which takes the place of this one."""
        if self._successor is not None or self._wanted:
            log.warning("an upgrade is under way already")
            return
        self._note.begin()
        self._wanted, self.until = True, monotonic() + START_TIME
        if self._before is None:
            self._start()
        else:
            with suppress(OSError):
                channel.send(self._before, {"hurry": True})

    def stop(self) -> None:
        """Have the process before this one stop, too."""
        self._unlisten()
        self._path = None
        if self._before is not None:
            with suppress(OSError):
                channel.send(self._before, {"stop": True})

    def listen(self, path: Path) -> None:
        """Let another process take the place of this one, which connects at `path`."""
        self._path = path
        try:
            self._listener = listen_for_successor(path)
        except ConfigError as error:  # the process before this one may still have it
            log.debug("%s", error)
            self._listen_at = self.until = monotonic() + RETRY
        else:
            self._listen_at = self.until = inf
            self._listener.settimeout(LINK_TIME)
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        with suppress(OSError):
            link, _ = self._listener.accept()
            if channel.trusted(link) and self._successor is None and not self._wanted:
                self._came = Successor(link)
                self.begin()
            else:
                link.close()

    def _unlisten(self) -> None:
        self._listen_at = inf
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
            if self._path is not None:
                self._path.unlink(missing_ok=True)

    def look(self) -> None:
        """Give up what takes too long, and try again what failed."""
        now = monotonic()
        if now >= self._listen_at and self._path is not None:
            self.listen(self._path)
        elif now >= self.until:
            self._failed("the new process did not come up in time")

    def _start(self) -> None:
        self._wanted = False
        try:
            self._successor = self._came or Successor.start()
            self._came = None
            self._successor.link.settimeout(LINK_TIME)
            self._selector.register(self._successor.link, selectors.EVENT_READ, self._successor_says)
            self._leave().send(self._successor.link)
        except (OSError, LaneError) as error:
            self._failed(str(error))

    def _before_says(self) -> None:
        """It says nothing, so it has ended."""
        assert self._before is not None
        self._selector.unregister(self._before)
        self._before.close()
        self._before = None
        if self._wanted:
            self._start()

    def _successor_says(self) -> None:
        assert self._successor is not None
        link = self._successor.link
        if not self.succeeded:
            why = self._successor.hear(link)
            if why is not None:
                self._failed(why)
                return
            tell(self._successor)
            self._note.end(f"{DONE}{self._successor.name}")
            self.succeeded, self.until = True, inf
            self._unlisten()
            return
        try:
            obey(channel.receive(link)[0], self._hurry)
        except (OSError, LaneError):
            log.warning("the new process has ended; this one goes on with what it still has")
            self._note.end(f"{FAILED}{self._successor.name} has ended")
            self._forget()
            if self._path is not None:
                self.listen(self._path)

    def _failed(self, why: str) -> None:
        self._wanted, self.until = False, inf
        self._note.end(FAILED + why)
        log.error("no upgrade, this process goes on: %s", why)
        if self._successor is not None:
            self._successor.close()
            self._forget()

    def _forget(self) -> None:
        assert self._successor is not None
        self._selector.unregister(self._successor.link)
        self._successor.link.close()
        self._successor, self.succeeded = None, False
