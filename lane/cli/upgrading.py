"""The upgrade of a server that is one process: on SIGUSR2 a new one takes its place.

The parent of several workers does the same without an event loop (`lane.cli.workers`).
"""

import logging
import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket as gsocket

from lane.cli.service import notify
from lane.errors import Fatal, LaneError
from lane.handover import channel
from lane.handover.succession import DONE, FAILED, START_TIME, STARTING, Inheritance, Successor
from lane.supervisor import report

log = logging.getLogger("lane.server")


class Upgrades:
    """Upgrades this process. `leave` makes what the next one gets, and `hurry` ends this one sooner.

    `before`: the link to the process before this one. `note` is told how it goes.
    """

    def __init__(
        self,
        before: socket.socket | None,
        leave: Callable[[], Inheritance],
        hurry: Callable[[], None],
        note: Callable[[str], None],
    ) -> None:
        self._before: Any = before and gsocket.socket(fileno=before.detach())
        self._leave = leave
        self._hurry = hurry
        self._note = note
        self._running: Any = None

    def serving(self) -> None:
        """Tell the process before this one that this one serves."""
        if self._before is not None:
            try:
                channel.send(self._before, {"serving": True})
            except OSError as error:
                raise Fatal(f"the running server has gone: {error.strerror}") from None

    def begin(self) -> None:
        """Start a new process, which takes the place of this one. Never blocks."""
        if self._running is not None and not self._running.ready():
            log.warning("an upgrade is under way already")
            return
        self._running = gevent.spawn(self._run)

    def _run(self) -> None:
        self._note(STARTING)
        try:
            self._end_before()
            successor = Successor()
            link: Any = gsocket.socket(fileno=successor.link.detach())
            with link:
                self._start(successor, link)
                # no limit: the new process lives as long as it likes, and closes the link at its end
                while channel.receive(link)[0] == {"hurry": True}:
                    self._hurry()
        except (OSError, LaneError) as error:
            log.debug("the link to the new process: %s", error)
        except Exception as error:
            report("an upgrade", error)
            self._note(f"{FAILED}{error}")

    def _start(self, successor: Successor, link: Any) -> None:
        try:
            with gevent.Timeout(START_TIME, Fatal("the new process did not come up in time")):
                self._leave().send(link)
                why = successor.hear(link)
        except (OSError, LaneError) as error:
            why = str(error)
        if why is None:
            log.info("process %d takes the place of this one", successor.process.pid)
            self._note(f"{DONE}{successor.process.pid}")
            notify(f"MAINPID={successor.process.pid}")
            return
        successor.close()
        self._note(FAILED + why)
        log.error("no upgrade, this process goes on: %s", why)
        raise Fatal(why)

    def _end_before(self) -> None:
        """Wait until the process before this one has ended."""
        if self._before is None:
            return
        try:
            with gevent.Timeout(START_TIME, Fatal("the process before this one does not end")):
                channel.send(self._before, {"hurry": True})
                while channel.receive(self._before):
                    pass
        except Fatal as error:
            self._note(f"{FAILED}{error}")
            raise
        except (OSError, LaneError):
            pass  # it has ended
        self._before.close()
        self._before = None
