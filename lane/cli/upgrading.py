"""The upgrade of a server or a client that is one process: on SIGUSR2 a new process takes its place.

`lane.cli.forked_upgrading` has that of several workers.
"""

import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
from gevent import socket as gsocket

from lane.cli.service import notify
from lane.errors import ConfigError, Fatal, LaneError
from lane.handover import channel
from lane.handover.notes import DONE, FAILED, STARTING
from lane.handover.succession import START_TIME, Inheritance, Successor, listen_for_successor
from lane.supervisor import report, supervise
from lane.tally import Tally

RETRY = 0.25
"""Seconds until a socket is tried again that the process before this one may still have."""

log = logging.getLogger("lane")


class Notes:
    """The notes on the upgrades of a process in its `tally`."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._count = 0

    def begin(self) -> None:
        """Note that an upgrade begins."""
        self._count += 1
        self.end(STARTING)

    def end(self, how: str) -> None:
        """Note how it goes."""
        self._tally.note = f"{self._count} {how}"


class Upgrades:
    """Upgrades this process. `leave` makes what the next one gets, and `hurry` ends this one sooner.

    `before`: the link to the process before this one. `tally` gets a note on how it goes.
    """

    def __init__(
        self,
        before: socket.socket | None,
        leave: Callable[[], Inheritance],
        hurry: Callable[[], None],
        tally: Tally,
    ) -> None:
        # A copy: `lane.handover.succession.fail` still uses the link.
        self._before: Any = before and gsocket.socket(fileno=os.dup(before.fileno()))
        self._leave = leave
        self._hurry = hurry
        self._note = Notes(tally)
        self._running: Any = None
        self._listener: Any = None
        self._path: Path | None = None
        self._watching: Any = None

    def listen(self, path: Path) -> None:
        """Let another process take the place of this one, which connects at `path`."""
        self._path = path
        self._watching = supervise("the socket for the next process", self._accept, path)

    def _accept(self, path: Path) -> None:
        while self._listener is None:
            try:
                self._listener = gsocket.socket(fileno=listen_for_successor(path).detach())
            except ConfigError as error:  # the process before this one may still have it
                log.debug("%s", error)
                gevent.sleep(RETRY)
        while True:
            sock, _ = self._listener.accept()  # no limit: until another process comes
            if not channel.trusted(sock) or not self._is_free:
                sock.close()
            else:
                self._running = gevent.spawn(self._run, Successor(sock))

    @property
    def _is_free(self) -> bool:
        return self._running is None or self._running.ready()

    def _unlisten(self) -> None:
        if self._watching is not None:
            self._watching.kill(block=False)
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            if self._path is not None:
                self._path.unlink(missing_ok=True)

    def serving(self) -> None:
        """Tell the process before this one that this one serves."""
        if self._before is not None:
            try:
                channel.send(self._before, {"serving": True})
            except OSError as error:
                raise Fatal(f"the running process has gone: {error.strerror}") from None

    def stop(self) -> None:
        """Have the process before this one stop, too."""
        self._unlisten()
        self._path = None
        if self._before is not None:
            with suppress(OSError):
                channel.send(self._before, {"stop": True})

    def begin(self) -> None:
        """Start a new process, which takes the place of this one. Never blocks."""
        if not self._is_free:
            log.warning("an upgrade is under way already")
            return
        self._running = gevent.spawn(self._run)

    def _run(self, successor: Successor | None = None) -> None:
        self._note.begin()
        try:
            self._end_before()
            successor = successor or Successor.start()
            link: Any = gsocket.socket(fileno=successor.link.detach())
            with link:
                self._start(successor, link)
                self._follow(successor, link)
        except (OSError, LaneError) as error:
            log.debug("the link to the new process: %s", error)
        except Exception as error:
            report("an upgrade", error)
            self._note.end(f"{FAILED}{error}")

    def _start(self, successor: Successor, link: Any) -> None:
        try:
            with gevent.Timeout(START_TIME, Fatal("the new process did not come up in time")):
                self._leave().send(link)
                why = successor.hear(link)
        except (OSError, LaneError) as error:
            why = str(error)
        if why is None:
            tell(successor)
            self._note.end(f"{DONE}{successor.name}")
            self._unlisten()
            return
        successor.close()
        self._note.end(FAILED + why)
        log.error("no upgrade, this process goes on: %s", why)
        raise Fatal(why)

    def _follow(self, successor: Successor, link: Any) -> None:
        """Do what the new process asks for. If it ends before this one does, this one has its place again."""
        try:
            # no limit: the new process lives as long as it likes, and closes the link at its end
            while True:
                obey(channel.receive(link)[0], self._hurry)
        finally:
            self._note.end(f"{FAILED}{successor.name} has ended")
            if self._path is not None:
                self.listen(self._path)

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
            self._note.end(f"{FAILED}{error}")
            raise
        except (OSError, LaneError):
            pass  # it has ended
        self._before.close()
        self._before = None


def tell(successor: Successor) -> None:
    """Tell of a new process that serves."""
    log.info("%s takes the place of this one", successor.name)
    if successor.pid is not None:
        notify(f"MAINPID={successor.pid}")


def obey(message: Any, hurry: Callable[[], None]) -> None:
    """Do what the next process asks for on the link."""
    if message == {"hurry": True}:
        hurry()
    elif message == {"stop": True}:  # it is stopped itself
        os.kill(os.getpid(), signal.SIGTERM)
