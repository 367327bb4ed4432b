"""A local UDP port that stands for one target: for name servers, games and others that know no proxy.

Each address that sends to it gets an association of its own, so that the target tells them apart and its
answers find back. There is no connection whose end would end one: it ends when nothing moves for a while, or
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
from lane.errors import Closed, LaneError
from lane.inbound.connector import Buffer, TargetConnector
from lane.inbound.later import Later
from lane.log import Throttle
from lane.net.listen import bind_udp
from lane.net.own import UDP, OwnPort
from lane.net.udp import UdpSocket
from lane.supervisor import supervise

SWEEP = 1.0
"""Seconds between two looks for associations that are idle."""

log = logging.getLogger("lane.inbound")


class _Source:
    """Who sends to the port, and its association. `failed` hears why it has none."""

    def __init__(
        self,
        port: UdpSocket,
        where: Any,
        connector: TargetConnector,
        failed: Callable[[Any, LaneError], None],
    ) -> None:
        self.last = monotonic()
        self.association = Later(partial(connector.associate, self.deliver), partial(failed, self))
        self._port = port
        self.key, self.where = (port, where), where

    def deliver(self, _: Address, payload: Buffer) -> None:
        """Send it what the target says; packets have come from nobody else, unless that is wanted."""
        self.last = monotonic()
        self._port.send(payload, self.where)


class UdpForward:
    """Listens on `address` for packets to `target`. Raises ConfigError if it can't listen.

    An association without packets for `idle_timeout` seconds ends. `most` sources have one at a time.
    """

    def __init__(
        self, address: Address, target: Address, connector: TargetConnector, *, idle_timeout: float, most: int
    ) -> None:
        self._target = target
        self._connector = connector
        self._idle_timeout = idle_timeout
        self._most = most
        # By the port that they send to and where they are; who was not heard for longest comes first.
        self._sources: OrderedDict[tuple[UdpSocket, Any], _Source] = OrderedDict()
        self._greenlets: list[gevent.Greenlet[..., None]] = []
        self._stopped = Event()
        self._throttle = Throttle()
        self._ports = [UdpSocket(sock, answers=True) for sock in bind_udp(address)]
        self.address = Address(normal_host(address.host), self._ports[0].port)
        """Where it listens, as it was given."""
        self.addresses = [Address(normal_host(port.host), port.port) for port in self._ports]
        """Where it listens."""
        self._own = [OwnPort(Address(port.host, port.port), UDP) for port in self._ports]
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"sources": len(self)}

    def __len__(self) -> int:
        return len(self._sources)

    def start(self) -> None:
        """Begin to take packets."""
        name = f"the forward to {self._target}"
        receivers = [supervise(f"a port of {name}", self._receive, port) for port in self._ports]
        self._greenlets = [*receivers, supervise(f"the sweeper of {name}", self._sweep)]

    def close(self) -> None:
        """Take no more packets, and end what there is. Idempotent."""
        self._stopped.set()
        for port in self._ports:
            port.close()
        self._own = []
        for source in self._sources.values():
            source.association.close()
        self._sources.clear()

    def kill(self) -> None:
        """Wait until it has ended."""
        gevent.joinall(self._greenlets)  # no limit: the port is closed, and the sweeper looks each second

    def _receive(self, port: UdpSocket) -> None:
        try:
            while True:
                payload, where = port.recv()
                source = self._sources.get((port, where))
                if source is None or source.association.over.is_set():
                    source = self._welcome(port, where, source)
                source.last = monotonic()
                self._sources.move_to_end((port, where))
                source.association.send(self._target, payload)
        except Closed:
            return

    def _welcome(self, port: UdpSocket, where: Any, before: _Source | None) -> _Source:
        """A source that is new, or whose association of `before` is over."""
        if before is not None:
            before.association.close()
        source = self._sources[port, where] = _Source(port, where, self._connector, self._failed)
        if len(self._sources) > self._most:
            self._sources.popitem(last=False)[1].association.close()
        return source

    def _failed(self, source: _Source, error: LaneError) -> None:
        """Its next packet is that of a new source. Addresses of packets may be faked, so many may fail."""
        if self._throttle.allows("failed") is not None:
            log.info("%s: no packets from %s: %s", self._target, source.where[0], error)
        if self._sources.get(source.key) is source:  # else another one has its place meanwhile
            del self._sources[source.key]

    def _sweep(self) -> None:
        while not self._stopped.wait(SWEEP):
            oldest = monotonic() - self._idle_timeout
            for key, source in list(self._sources.items()):
                if source.last < oldest:
                    del self._sources[key]
                    source.association.close()
