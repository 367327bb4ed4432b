"""Reverse forwards: connections to a port of the server reach a target near the client.

Each forward parks a few sessions on the server, so that a new connection finds one without a round trip.
A session that was taken is replaced at once. The sessions come back by themselves after any interruption,
such as a restart of the server or a long loss of the network. While the server is unreachable, only one of
them retries, at growing intervals. The log has one line per change, not per try.
"""

import logging
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Protocol

import gevent
import gevent.socket
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from lane.address import Address
from lane.errors import LaneError, Status, Suspended, TargetError
from lane.inbound.connector import Listening
from lane.supervisor import supervise

PARKED = 8
"""Sessions that wait on the server for each reverse forward."""
MOST = 1024
"""Sessions of a reverse forward, including the waiting ones. There is a limit because anyone may connect."""
FIRST_PAUSE = 0.25
"""Seconds before the first retry to reach the server. Each further pause is twice the one before."""
LONGEST_PAUSE = 10.0
"""The longest pause between two tries, in seconds."""
REFUSED_PAUSE = 60.0
"""Seconds before a server that refused is asked again."""

KIND = "parked"
"""The kind of the parcel of a parked session."""

_FINAL = (Status.NOT_ALLOWED, Status.COMMAND_NOT_SUPPORTED, Status.ADDRESS_NOT_SUPPORTED)

log = logging.getLogger("lane.client")


class Reverser(Protocol):
    """Makes the server listen."""

    def reverse(self, where: Address) -> Listening:
        """Park one session for a connection to `where` on the server. Port 0: the server picks a port.

        Raises TargetError if the server refuses, and another LaneError if it can't be reached.
        """


class ReverseForwarder:
    """Relays connections to `where` on the server, an IP address, to `target`.

    `dial` connects to the target or raises TargetError. `shown`: the server's name in the log. `parked`:
    sessions that wait on the server. `most`: sessions in all, parked or in use; beyond it, new connections
    wait in the server's kernel.
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
        """Where the server listens. Port 0 is replaced by the port that the server picked."""
        self._name = f"{where} -> {target}"
        self._reverser = reverser
        self._target = target
        self._dial = dial
        self._shown = shown
        self._parked = parked
        self._refused_pause = refused_pause
        self._turn = BoundedSemaphore(1)
        self._places = BoundedSemaphore(most)
        self._works = False
        self._told: Status | None = None  # last logged: OK if it works, FAILURE also for a lost server
        self._target_fails = False
        self._pause = FIRST_PAUSE
        self._parkers: list[gevent.Greenlet[..., None]] = []
        self._arrived: deque[Listening] = deque()
        self._free = False  # whether sessions may be parked: not while those of another process come
        self._news = Event()
        self._held = 0

    def __len__(self) -> int:
        """Sessions that are parked or in use."""
        return self._held

    def start(self, *, free: bool = True) -> None:
        """Begin to park sessions. Unless `free`, only those of another process wait, until `resume`."""
        self._free = free
        self._parkers = [supervise(str(self), self._keep_one) for _ in range(self._parked)]

    def pause(self) -> None:
        """Park no more sessions: another process does, and goes on with those that wait."""
        self._free = False

    def resume(self) -> None:
        """Park as many sessions as should wait."""
        self._free = True
        self._news.set()

    def take_over(self, name: str, make: Callable[[], Listening]) -> bool:
        """Go on with a session that another process has parked for the forward `name`, and `make` returns.

        Returns whether that is this one. Raises TargetError.
        """
        if name != self._name:
            return False
        if self._free or len(self._arrived) >= self._parked:  # as many as should wait do so already
            gevent.spawn(self._serve_once, make())
        else:
            self._arrived.append(make())
            self._news.set()
        return True

    def _serve_once(self, listening: Listening) -> None:
        if (arrival := self._wait(listening)) is not None:
            self._serve(*arrival)

    def _go(self) -> tuple[dict[str, Any], list[int]]:
        """What goes to another process with a session that waits."""
        return {"kind": KIND, "forward": self._name}, []

    def close(self) -> None:
        """Park no more sessions. Connections in progress continue."""
        gevent.killall(self._parkers)  # no limit: the parkers reset their sessions and end

    def __str__(self) -> str:
        everyone = self.where.host in ("::", "0.0.0.0")
        at = Address(self._shown, self.where.port) if everyone else f"{self.where} of {self._shown}"
        return f"reverse: {at} -> {self._target}"

    def _keep_one(self) -> None:
        """Keep one session parked as long as the limit on sessions leaves room for it."""
        while True:
            self._places.acquire()  # no limit: peers decide when a place becomes free
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
        """Park a session and wait. Return it and the peer's address, or None if the session was lost."""
        return self._wait(self._park())

    def _wait(self, listening: Listening) -> tuple[Listening, Address] | None:
        self._held += 1
        try:
            return listening, listening.accept(self._go)
        except (LaneError, Suspended) as error:
            self._drop(listening)
            log.debug("%s: a parked session ended: %s", self, error or "it goes on in another process")
            return None
        except BaseException:
            self._drop(listening)
            raise

    def _drop(self, listening: Listening) -> None:
        self._held -= 1
        listening.abort()

    def _park(self) -> Listening:
        """Park a session on the server, and retry until that works; or take one of another process."""
        while True:
            while not self._free and not self._arrived:
                self._news.clear()
                self._news.wait()  # no limit: the other process says when, and its end is noticed
            if self._arrived:
                listening = self._arrived.popleft()
                self._worked(listening.bound.port)
                return listening
            # While nothing works, only one greenlet tries; no limit: it retries until something works.
            with nullcontext() if self._works else self._turn:
                alone = not self._works
                try:
                    listening = self._reverser.reverse(self.where)
                except LaneError as error:
                    self._works = False
                    if alone:  # one failure after a success proves nothing yet
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
            log.info("%s", str(self))  # the text as of now, with the port

    def _failed(self, error: LaneError) -> None:
        trouble = error.status if isinstance(error, TargetError) else Status.FAILURE
        if trouble is not self._told:
            self._told = trouble
            log.warning("%s does not work, and is tried again: %s", str(self), error)

    def _pause_for(self, error: LaneError) -> float:
        """Seconds until the next try. After a refusal, only a change of the server's configuration helps."""
        if isinstance(error, TargetError) and error.status in _FINAL:
            return self._refused_pause
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        return pause

    def _serve(self, listening: Listening, peer: Address) -> None:
        """Relay one connection until it ends, or reset it if the target can't be reached."""
        try:
            self._relay(listening, peer)
        finally:
            self._held -= 1

    def _relay(self, listening: Listening, peer: Address) -> None:
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
