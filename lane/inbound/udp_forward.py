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
from lane.errors import Closed, LaneError
from lane.fair import maybe_yield
from lane.inbound.connector import Buffer, TargetConnector
from lane.inbound.later import Later
from lane.log import Throttle
from lane.net.listen import bind_udp
from lane.net.own import UDP, OwnPort
from lane.net.udp import UdpSocket
from lane.supervisor import supervise

SWEEP = 1.0
"""Seconds between two checks for idle associations."""

log = logging.getLogger("lane.inbound")


class _Source:
    """One source address, and its association. `failed` gets the error if there can be no association."""

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
        self._greenlets: list[gevent.Greenlet[..., None]] = []
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

    @property
    def sessions(self) -> int:
        """The sources with an association."""
        return len(self)

    def pause(self) -> None:
        """Receive no packets for now: another process does."""
        gevent.killall(self._greenlets)  # no limit: they only receive, and sweep
        self._greenlets.clear()

    def resume(self) -> None:
        """Receive packets again."""
        self.start()

    def start(self) -> None:
        """Begin to receive packets."""
        name = f"the forward to {self._target}"
        receivers = [supervise(f"a port of {name}", self._receive, port) for port in self._ports]
        self._greenlets = [*receivers, supervise(f"the sweeper of {name}", self._sweep)]

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
        """Wait until the greenlets have ended."""
        gevent.joinall(self._greenlets)  # no limit: the ports are closed, and the sweeper checks each second

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
        """Register a new source, or replace `before`, whose association is over."""
        if before is not None:
            before.association.close()
        source = self._sources[port, where] = _Source(port, where, self._connector, self._failed)
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
