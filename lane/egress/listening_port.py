"""A port of the server where sessions wait for connections: for one, or for all that come.

A port for an expected peer serves one session. The port of a reverse forward is shared by the sessions that
are parked there, and each of them takes one connection. Either wait can go on in another process (`freeze`),
since the kernel holds connections meanwhile.
"""

import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent.event import Event

from lane.address import Address
from lane.egress.listener import Arrival, EgressListener
from lane.errors import Closed, Status, Suspended, TargetError
from lane.net.own import REVERSE, OwnPort
from lane.supervisor import supervise

MOST_PARKED = 64
"""Sessions that are parked at one address."""

log = logging.getLogger("lane.server")


class ListeningPort(Protocol):
    """A port where one session waits for one connection."""

    bound: Address
    """The address that peers connect to."""

    def accept(self, able: Callable[[], bool]) -> Arrival:
        """Wait for the connection. `able`: whether the session could take it now; `poke` has it asked again.

        Raises TargetError (TTL_EXPIRED) if the port has a time limit, Closed once the port is closed, and
        Suspended after `suspend`.
        """

    def poke(self) -> None:
        """Ask `able` again, because its answer may have changed."""

    def suspend(self) -> None:
        """Have `accept` raise Suspended, unless a connection has come."""

    def freeze(self) -> tuple[dict[str, Any], list[int]]:
        """What another process needs to go on, as a plain value, and descriptors, which are the caller's now.

        It is closed here.
        """

    def close(self) -> None:
        """End the wait. Never blocks. Idempotent."""


class _Wait:
    """The wait of one session for one connection."""

    def __init__(self, bound: Address) -> None:
        self.bound = bound
        self._settled = Event()
        self._suspended = False
        self._arrival: Arrival | None = None

    def suspend(self) -> None:
        """See `ListeningPort`."""
        self._suspended = True
        self._settled.set()

    def _discard(self) -> None:
        self._settled.set()
        if self._arrival is not None:
            self._arrival[0].close()
            self._arrival = None

    def _take(self) -> Arrival:
        """The connection, once the wait is settled. Raises Closed or Suspended without one."""
        if self._arrival is None:
            raise Suspended if self._suspended else Closed("the port was closed")
        arrival, self._arrival = self._arrival, None
        return arrival


class Expected(_Wait):
    """A `ListeningPort` for one connection from one of `hosts`; if they are None, of those that `passes`."""

    def __init__(
        self,
        listener: EgressListener,
        host: str,
        hosts: list[str] | None,
        passes: Callable[[Address], bool],
        wait: float,
    ) -> None:
        super().__init__(Address(host, listener.address.port))
        self._listener = listener
        self._hosts = hosts
        self._passes = passes
        self._until = monotonic() + wait
        self._acceptor: Any = None

    def accept(self, able: Callable[[], bool]) -> Arrival:
        """See `ListeningPort`."""
        self._acceptor = supervise(f"the wait at {self.bound}", self._serve)
        if not self._settled.wait(max(0.0, self._until - monotonic())):
            self.close()
            raise TargetError(Status.TTL_EXPIRED, "nobody connected in time")
        arrival = self._take()
        self.close()
        return arrival

    def _serve(self) -> None:
        try:
            while True:
                sock, peer = self._listener.accept()
                if peer.host in self._hosts if self._hosts is not None else self._passes(peer):
                    self._arrival = sock, peer
                    break
                sock.close()
                log.debug("a connection from %s to %s was not expected", peer.host, self.bound)
                gevent.sleep(0)  # unexpected connections may come faster than they are closed
        except Closed:
            pass
        self._settled.set()

    def poke(self) -> None:
        """See `ListeningPort`. Nothing to do: a connection is accepted whether the session is able or not."""

    def freeze(self) -> tuple[dict[str, Any], list[int]]:
        """See `ListeningPort`."""
        descriptor = self._listener.share()
        self.close()
        return {"host": self.bound.host, "hosts": self._hosts, "until": self._until}, [descriptor]

    def close(self) -> None:
        """See `ListeningPort`."""
        if self._acceptor is not None:
            self._acceptor.kill(block=False)
        self._listener.close()
        self._discard()


class SharedPort:
    """The port of a reverse forward, and the sessions parked there. The oldest session is served first."""

    def __init__(self, host: str, listener: EgressListener, user: str, linger: float) -> None:
        self.user = user
        self.bound = listener.address
        self.where = Address(host, self.bound.port)
        self.closed: Callable[[], object] = lambda: None
        self._listener = listener
        self._own: OwnPort | None = OwnPort(listener.address, REVERSE)
        self._linger = linger
        self._held: Arrival | None = None  # no session could take it yet
        self._places: deque[Place] = deque()
        self._changed = Event()
        self._last: gevent.Greenlet[..., None] | None = None  # closes the port while no session is parked
        self._acceptor = supervise(f"the port {self.bound}", self._serve)

    def park(self) -> "Place":
        if len(self._places) >= MOST_PARKED:
            stale = next((place for place in self._places if not place.able()), None)
            if stale is None:
                raise TargetError(Status.FAILURE, "too many sessions are parked there")
            stale.close()  # its client was probably restarted and left this session behind
        if self._last is not None:
            self._last.kill(block=False)
            self._last = None
        place = Place(self)
        self._places.append(place)
        return place

    def leave(self, place: "Place") -> None:
        """Remove a session that has its connection or wants none."""
        if place in self._places:
            self._places.remove(place)
            if not self._places and not self._listener.closed:
                self._last = gevent.spawn_later(self._linger, self.close)

    def lend(self) -> int:
        """Another descriptor of the socket, for a process that accepts there from now on, too."""
        return self._listener.share()

    def hand_over(self, place: "Place") -> tuple[int, Arrival | None]:
        """Remove a session that waits in another process from now on.

        Returns a descriptor of the port, and with the last session the connection that waits for one.
        """
        descriptor, held = self._listener.share(), None
        self._places.remove(place)
        if not self._places:  # what comes now is for the other process
            held, self._held = self._held, None
            self.close()
        return descriptor, held

    def changed(self) -> None:
        self._changed.set()

    def close(self) -> None:
        self._acceptor.kill(block=False)
        self._listener.close()
        if self._held is not None:
            self._held[0].close()
            self._held = None
        self._own = None
        self.closed()
        for place in [*self._places]:
            place.close()

    def _serve(self) -> None:
        while True:
            if self._held is None:
                self._able()  # first, since another process may accept here, too, and have somebody who can
                try:
                    self._held = self._listener.accept()
                except Closed:
                    return
            place = self._able()
            arrival, self._held = self._held, None
            place.arrive(arrival)

    def _able(self) -> "Place":
        """Wait for a session that can take a connection now; return the oldest."""
        while True:
            for place in self._places:
                if place.able():
                    return place
            self._changed.clear()
            self._changed.wait()  # no limit: without a parked session, the port closes after LINGER


class Place(_Wait):
    """The `ListeningPort` of one session at a shared port."""

    def __init__(self, shared: SharedPort) -> None:
        super().__init__(shared.bound)
        self.able: Callable[[], bool] = lambda: False
        self._shared = shared

    def accept(self, able: Callable[[], bool]) -> Arrival:
        """See `ListeningPort`."""
        self.able = able
        self.poke()
        self._settled.wait()  # no limit: a parked session waits until a peer connects
        return self._take()

    def poke(self) -> None:
        """See `ListeningPort`."""
        self._shared.changed()

    def freeze(self) -> tuple[dict[str, Any], list[int]]:
        """See `ListeningPort`."""
        port, held = self._shared.hand_over(self)
        state: dict[str, Any] = {"where": [*self._shared.where]}
        if held is None:
            return state, [port]
        return state | {"peer": [*held[1]]}, [port, held[0].detach()]

    def arrive(self, arrival: Arrival) -> None:
        """Hand a connection to the session."""
        self._shared.leave(self)
        self._arrival = arrival
        self._settled.set()

    def close(self) -> None:
        """See `ListeningPort`."""
        self._shared.leave(self)
        self._discard()
