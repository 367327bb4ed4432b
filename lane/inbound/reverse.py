"""Reverse forwards: what connects to a port of the server reaches a target near the client.

A few sessions are parked on the server for each, so that a connection finds one without a round trip; the
one that it took is replaced at once. They come back by themselves after whatever ended them: a restart of
the server, a network that was away for long. While nothing works only one of them tries, less and less
often, and the log has a line for each change, not for each try.
"""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import Protocol

import gevent
import gevent.socket
from gevent.lock import BoundedSemaphore

from lane.address import Address
from lane.errors import LaneError, Status, TargetError
from lane.inbound.connector import Listening
from lane.supervisor import supervise

PARKED = 8
"""Sessions that wait on the server for a reverse forward."""
MOST = 1024
"""Sessions of a reverse forward, those that wait included: who connects there can be anyone."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Seconds between two tries to reach the server; each pause is twice the one before."""
REFUSED_PAUSE = 60.0
"""Seconds until a server is asked again that refused."""

_FINAL = (Status.NOT_ALLOWED, Status.COMMAND_NOT_SUPPORTED, Status.ADDRESS_NOT_SUPPORTED)

log = logging.getLogger("lane.client")


class Reverser(Protocol):
    """Who has the server listen."""

    def reverse(self, where: Address) -> Listening:
        """One of the connections to `where` on the server; port 0: the server picks one.

        Raises TargetError where that is refused, another LaneError where it can't be asked.
        """


class ReverseForwarder:
    """Carries what connects to `where` on the server, an IP address, to `target`.

    `dial` reaches the target or raises TargetError. `shown`: how people call the server. `parked`: sessions
    that wait there, `most` of them with those that are served: then others wait in the server's kernel.
    """

    def __init__(
        self,
        reverser: Reverser,
        where: Address,
        target: Address,
        dial: Callable[[Address], gevent.socket.socket],
        *,
        shown: str,
        parked: int = PARKED,
        most: int = MOST,
        refused_pause: float = REFUSED_PAUSE,
    ) -> None:
        self.where = where
        """Where the server listens; with the port that it picked, once it has."""
        self._reverser = reverser
        self._target = target
        self._dial = dial
        self._shown = shown
        self._parked = parked
        self._refused_pause = refused_pause
        self._turn = BoundedSemaphore(1)
        self._places = BoundedSemaphore(most)
        self._works = False
        self._told: Status | None = None  # what was logged: OK where it works, FAILURE for a lost server, too
        self._target_fails = False
        self._pause = FIRST_PAUSE
        self._parkers: list[gevent.Greenlet[..., None]] = []

    def start(self) -> None:
        """Begin to park."""
        self._parkers = [supervise(str(self), self._keep_one) for _ in range(self._parked)]

    def close(self) -> None:
        """Park no more; what is connected goes on."""
        gevent.killall(self._parkers)  # no limit: they reset what they have, and end

    def __str__(self) -> str:
        everyone = self.where.host in ("::", "0.0.0.0")
        at = Address(self._shown, self.where.port) if everyone else f"{self.where} of {self._shown}"
        return f"reverse: {at} -> {self._target}"

    def _keep_one(self) -> None:
        """Have one session parked, whenever there may be one."""
        while True:
            self._places.acquire()  # no limit: when one is free depends on who connects
            try:
                arrival = self._arrival()
            except BaseException:
                self._places.release()
                raise
            if arrival is None:
                self._places.release()
                gevent.sleep(FIRST_PAUSE)
            else:
                gevent.spawn(self._serve, *arrival).rawlink(lambda _: self._places.release())

    def _arrival(self) -> tuple[Listening, Address] | None:
        """The next connection to a parked session, and whom it is from; None where the session was lost."""
        listening = self._park()
        try:
            return listening, listening.accept()
        except LaneError as error:
            listening.abort()
            log.debug("%s: a parked session ended: %s", self, error)
            return None
        except BaseException:
            listening.abort()
            raise

    def _park(self) -> Listening:
        """A session that waits on the server, as soon as there is one."""
        while True:
            # While nothing works, one tries for all; no limit: it goes on until something does.
            with nullcontext() if self._works else self._turn:
                alone = not self._works
                try:
                    listening = self._reverser.reverse(self.where)
                except LaneError as error:
                    self._works = False
                    if alone:  # else it may be an accident
                        self._failed(error)
                        gevent.sleep(self._pause_for(error))
                else:
                    self._worked(listening.bound.port)
                    return listening

    def _worked(self, port: int) -> None:
        self.where = Address(self.where.host, port)
        self._works, self._pause = True, FIRST_PAUSE
        if self._told is not Status.OK:
            self._told = Status.OK
            log.info("%s", str(self))  # as it is now

    def _failed(self, error: LaneError) -> None:
        trouble = error.status if isinstance(error, TargetError) else Status.FAILURE
        if trouble is not self._told:
            self._told = trouble
            log.warning("%s does not work, and is tried again: %s", str(self), error)

    def _pause_for(self, error: LaneError) -> float:
        """Seconds until the next try: after a refusal somebody has to change the server's configuration."""
        if isinstance(error, TargetError) and error.status in _FINAL:
            return self._refused_pause
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        return pause

    def _serve(self, listening: Listening, peer: Address) -> None:
        """One connection, to its end. Where the target can't be reached, it is reset."""
        try:
            sock = self._dial(self._target)
        except BaseException as error:
            listening.abort()
            if not isinstance(error, LaneError):
                raise
            if not self._target_fails:
                self._target_fails = True
                log.warning("%s: %s (connections to it are reset)", self, error)
            return
        self._target_fails = False
        log.debug("%s: a connection from %s", self, peer)
        listening.run(sock, b"")
