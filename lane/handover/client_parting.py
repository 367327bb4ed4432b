"""How a client parts with its connections when another process takes its place: it offers them.

The new process fetches each as soon as it has a stream to the server for it, so the connection stands still
for one round trip only (`lane.handover.arrivals`). What can't leave stays until it ends, or until the time is
over: connections that lane makes directly, those whose request is not complete, and exchanges of plain HTTP.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent.event import Event

from lane.carriers.departures import Departures
from lane.handover import channel
from lane.handover.retirement import SEND_TIME
from lane.session.parcel import Parcel

NEW = "new"
"""The kind of the parcel of a connection that has not begun a request."""
LOOK = 0.1
"""Seconds between two looks for what can leave."""
LOOK_SOON = 0.02
"""The same while packets wait in the kernel."""

log = logging.getLogger("lane.handover")


class Pauses(Protocol):
    """A port of a client."""

    def pause(self) -> None:
        """Take nothing that comes."""

    def resume(self) -> None:
        """Take it again."""


class ClientParting:
    """Parts a client from its connections: see `lane.handover.retirement.Parting`.

    `ports` take new connections. `forwards` take packets, until the sources of these have left: a packet of
    one that is on its way waits in the kernel. `waiting` gives the sockets of applications without a request
    (`lane.inbound.openings`). `count` says how many connections there are, those in `departures` included.
    `timeout`: seconds for what stays, and for a new process that fetches nothing.
    """

    def __init__(
        self,
        departures: Departures,
        *,
        ports: Sequence[Pauses],
        forwards: Sequence[Pauses],
        waiting: Callable[[], Iterator[int]],
        count: Callable[[], int],
        timeout: float,
    ) -> None:
        self.departures = departures
        self._ports = ports
        self._forwards = forwards
        self._waiting = waiting
        self._count = count
        self._timeout = timeout
        self._until = 0.0

    def hurry(self) -> None:
        """See `Parting`."""
        self._until = 0.0

    def rest(self) -> Iterator[Parcel]:
        """See `Parting`."""
        yield from self.departures.rest()
        if left := self._count():
            log.warning("%d connections end here: they could not go along, and their time is over", left)

    def pause(self) -> None:
        """See `Parting`."""
        for port in self._ports:
            port.pause()

    def resume(self) -> None:
        """See `Parting`."""
        for port in (*self._ports, *self._forwards):
            port.resume()

    def leave(self, sock: Any, lost: Event, keeper: str) -> None:
        """See `Parting`."""
        self._until = monotonic() + self._timeout
        offered: set[bytes] = set()
        self._pass_waiting(sock)
        staying = self._count() - len(self.departures)
        if staying:
            log.info("%d connections stay here until they end, at most %g s", staying, self._timeout)
        self._say(sock, {"staying": staying})
        for forward in self._forwards:
            forward.pause()
        free = False
        while not lost.is_set():
            ready = self.departures.ready()
            if len(offered & ready.keys()) < len(offered):  # the new process fetches them
                self._until = max(self._until, monotonic() + self._timeout) if self._until else 0.0
            if new := [[key, *how] for key, how in ready.items() if key not in offered]:
                new.sort(key=_urgency)
                self._say(sock, {"offer": new})
            offered = {*ready}
            if not free and not any(at_once for _, at_once in ready.values()):
                free = True
                self._say(sock, {"free": True})
            if monotonic() >= self._until or not self._count():
                return
            lost.wait(LOOK if free else LOOK_SOON)
            self._pass_waiting(sock)

    def _pass_waiting(self, sock: Any) -> None:
        for descriptor in self._waiting():
            parcel = Parcel({"kind": NEW}, [descriptor])
            try:
                self._say(sock, {"parcel": parcel.state}, parcel.descriptors)
            finally:
                parcel.close()

    @staticmethod
    def _say(sock: Any, value: dict[str, Any], descriptors: list[int] | None = None) -> None:
        with gevent.Timeout(SEND_TIME):
            channel.send(sock, value, descriptors)


def _urgency(offer: list[Any]) -> tuple[bool, bool]:
    """What is offered first: what others wait for, then what moves data."""
    _, active, at_once = offer
    return not at_once, not active
