"""A local UDP port that forwards to one fixed target, for DNS, games and others without proxy support.

Each source address gets an association of its own. So the target can tell the sources apart, and its replies
reach the right one. No connection marks the end of an association. It ends after a while without packets, or
when a new one needs its place.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event

from lane import census
from lane.address import Address, normal_host
from lane.carriers.lanes import Leased
from lane.errors import LaneError
from lane.fair import maybe_yield
from lane.inbound.connector import Association, Buffer, TargetConnector
from lane.inbound.later import Later
from lane.log import Throttle
from lane.net.listen import bind_udp
from lane.net.own import UDP, OwnPort
from lane.net.udp import UdpSocket
from lane.session.parcel import Parcel
from lane.supervisor import supervise

SWEEP = 1.0
"""Seconds between two checks for idle associations."""

KIND = "source"
"""The kind of the parcel of a source."""

log = logging.getLogger("lane.inbound")

Deliver = Callable[[Address, Buffer], None]


def _hashable(where: Any) -> Any:
    """The address of a peer, as it was before it became a plain value."""
    return tuple(map(_hashable, where)) if isinstance(where, list) else where


class _Source:
    """One source address, and its association. `failed` gets the error if there can be no association.

    `arrived`: the association goes on here, as the call that makes it with a way to deliver packets.
    """

    def __init__(
        self,
        port: UdpSocket,
        where: Any,
        connector: TargetConnector,
        failed: Callable[["_Source", LaneError], None],
        arrived: Callable[[Deliver], Association] | None = None,
    ) -> None:
        self.last = monotonic()
        self._port = port
        self.key, self.where = (port, where), where
        association = arrived(self.deliver) if arrived else None
        ask = partial(connector.associate, self.deliver)
        self.association = Later(ask, partial(failed, self), association)

    def deliver(self, _: Address, payload: Buffer) -> None:
        """Send a packet to the source. The association delivers only packets from the target."""
        self.last = monotonic()
        self._port.send(payload, self.where)


class UdpForward:
    """Listens on `address` for packets to `target`. Raises ConfigError if it can't listen.

    An association ends after `idle_timeout` seconds without packets. At most `most` sources have an
    association at once.
    """

    def __init__(
        self, address: Address, target: Address, connector: TargetConnector, *, idle_timeout: float, most: int
    ) -> None:
        self._target = target
        self._connector = connector
        self._idle_timeout = idle_timeout
        self._most = most
        # The key is our port and the source address. The source that was silent for longest comes first.
        self._sources: OrderedDict[tuple[UdpSocket, Any], _Source] = OrderedDict()
        self._sweeper: gevent.Greenlet[..., None] | None = None
        self._stopped = Event()
        self._throttle = Throttle()
        self._ports = [UdpSocket(sock, answers=True) for sock in bind_udp(address)]
        self.address = Address(normal_host(address.host), self._ports[0].port)
        """The address that it listens on, with the host as given."""
        self.addresses = [Address(normal_host(port.host), port.port) for port in self._ports]
        """The addresses that it listens on."""
        self._own = [OwnPort(Address(port.host, port.port), UDP) for port in self._ports]
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"sources": len(self)}

    def __len__(self) -> int:
        return len(self._sources)

    def take_over(self, parcel: Parcel, leased: Leased | None) -> bool:
        """Go on with a source of another process. Returns whether its port is here. Raises TargetError."""
        host, number, where = parcel.state["source"]
        for port in self._ports:
            if (port.host, port.port) == (host, number):
                self._welcome(
                    port,
                    _hashable(where),
                    None,
                    lambda deliver: self._connector.associate_again(parcel, leased, deliver),
                )
                return True
        return False

    def _go(self, source: _Source) -> tuple[dict[str, Any], list[int]]:
        """What goes to another process with a source's association."""
        port, where = source.key
        if self._sources.get(source.key) is source:
            del self._sources[source.key]
        return {"kind": KIND, "source": [port.host, port.port, where]}, []

    def pause(self) -> None:
        """Receive no packets for now: another process does."""
        for port in self._ports:
            port.pause()

    def resume(self) -> None:
        """Receive packets again, after `pause`."""
        for port in self._ports:
            port.receive(f"a port of the forward to {self._target}", partial(self._take, port))

    def start(self) -> None:
        """Begin to receive packets."""
        self.resume()
        self._sweeper = supervise(f"the sweeper of the forward to {self._target}", self._sweep)

    def close(self) -> None:
        """Receive no more packets, and end all associations. Idempotent."""
        self._stopped.set()
        for port in self._ports:
            port.close()
        self._own = []
        for source in self._sources.values():
            source.association.close()
        self._sources.clear()

    def kill(self) -> None:
        """Wait until the sweeper has ended."""
        if self._sweeper is not None:
            self._sweeper.join()  # no limit: it checks each second

    def _take(self, port: UdpSocket, payload: bytes, where: Any) -> None:
        source = self._sources.get((port, where))
        if source is None or source.association.over.is_set():
            source = self._welcome(port, where, source)
        source.last = monotonic()
        self._sources.move_to_end((port, where))
        source.association.send(self._target, payload)

    def _welcome(
        self,
        port: UdpSocket,
        where: Any,
        before: _Source | None,
        arrived: Callable[[Deliver], Association] | None = None,
    ) -> _Source:
        """Register a new source, or replace `before`, whose association is over. `arrived`: see `_Source`."""
        if before is not None:
            before.association.close()
        source = _Source(port, where, self._connector, self._failed, arrived)
        self._sources[port, where] = source
        source.association.leaves(partial(self._go, source))
        if len(self._sources) > self._most:
            self._sources.popitem(last=False)[1].association.close()
        return source

    def _failed(self, source: _Source, error: LaneError) -> None:
        """Forget a source without an association; its next packet starts anew.

        Source addresses can be forged, so many may fail: the log line is throttled.
        """
        if self._throttle.allows("failed") is not None:
            log.info("%s: no packets from %s: %s", self._target, source.where[0], error)
        if self._sources.get(source.key) is source:  # otherwise a newer source has the key
            del self._sources[source.key]

    def _sweep(self) -> None:
        while not self._stopped.wait(SWEEP):
            oldest = monotonic() - self._idle_timeout
            for key, source in list(self._sources.items()):
                maybe_yield()
                if source.last < oldest and self._sources.pop(key, None) is source:
                    source.association.close()
