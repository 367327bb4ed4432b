"""Direct connections: they leave from this machine and join two sockets without a session.

A session keeps the sent data until the other side has consumed it. That takes greenlets, frames and windows.
Between two sockets of one machine the kernel does all of this. So the relay passes on bytes as they arrive,
an end of data as an end of data, and a reset as a reset.
"""

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic

import gevent
from gevent.event import Event
from gevent.socket import socket as Socket  # noqa: N812  (the name of the type, not of a function)

from lane import census
from lane.address import Address
from lane.egress.dialer import Dialer
from lane.egress.policy import Policy
from lane.egress.udp import UdpEgress
from lane.errors import Failure, LaneError
from lane.fair import maybe_yield, this_round
from lane.inbound.connector import Buffer
from lane.net.resolver import Resolver
from lane.session.relay import FIRST_READ, LARGEST_READ, LOOK, STALLED
from lane.session.sockets import SocketStream
from lane.stream import Stream
from lane.supervisor import supervise
from lane.tasks import start

SWEEP = 0.125
"""The shortest interval between two checks for idle connections, in seconds."""

log = logging.getLogger("lane.inbound")


class Direct:
    """A TargetConnector for direct connections to the targets that `policy` allows.

    `idle_timeout`: seconds without data after which a connection is reset.
    """

    def __init__(self, policy: Policy, resolver: Resolver, idle_timeout: float) -> None:
        self._policy = policy
        self._resolver = resolver
        self._dial = Dialer(policy, resolver).connect
        self._idle_timeout = idle_timeout
        self._running: set[DirectConnection] = set()
        self._none = Event()
        self._none.set()
        self._sweeper = supervise("the sweeper of direct connections", self._sweep)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"direct": len(self._running)}

    def __len__(self) -> int:
        return len(self._running)

    def connect(self, target: Address) -> "DirectConnection":
        """Connect to `target` from this machine. Raises TargetError with the exact reason."""
        return DirectConnection(self._dial(target), self)

    def associate(self, deliver: Callable[[Address, Buffer], None], *, anyone: bool = False) -> UdpEgress:
        """Open a UDP association from this machine: see `TargetConnector.associate`."""
        egress = UdpEgress(self._policy, self._resolver, None, anyone=anyone)
        egress.deliver = deliver
        return egress

    def drain(self, grace: float) -> None:
        """Give the connections `grace` seconds to finish, then reset the rest."""
        self._none.wait(grace)
        self._sweeper.kill(block=False)
        for connection in list(self._running):
            connection.reset()

    def began(self, connection: "DirectConnection") -> None:
        """Count `connection` as running: its data flows from now on."""
        self._running.add(connection)
        self._none.clear()

    def ended(self, connection: "DirectConnection") -> None:
        """Count `connection` as running no more."""
        self._running.discard(connection)
        if not self._running:
            self._none.set()

    def _sweep(self) -> None:
        while True:
            gevent.sleep(max(SWEEP, self._idle_timeout / 8))
            now = monotonic()
            for connection in list(self._running):
                maybe_yield()
                if now - connection.last > self._idle_timeout:
                    connection.reset()


class _DirectTarget(SocketStream):
    """A target's socket that records when it last moved data."""

    def __init__(self, sock: Socket) -> None:
        super().__init__(sock)
        self.last = monotonic()

    def recv(self, limit: int = 262144) -> bytes:
        data = super().recv(limit)
        self.last = monotonic()
        return data

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        super().sendall(data)
        self.last = monotonic()


class DirectConnection:
    """A direct connection to one target, before and while data flows."""

    def __init__(self, sock: Socket, owner: Direct) -> None:
        self.bound = Address(*sock.getsockname()[:2])
        self._target = _DirectTarget(sock)
        self._app: SocketStream | None = None
        self._owner = owner
        self._over = False
        self._failure: Failure[LaneError] | None = None

    @property
    def last(self) -> float:
        """When data last moved, by the monotonic clock."""
        return self._target.last

    def begin(self) -> Stream:
        """See `TargetConnection`. From now on the connection counts as running."""
        self._owner.began(self)
        return self._target

    def run(self, sock: Socket, early: bytes) -> None:
        """Relay between the application's socket and the target until both directions have ended."""
        app = self._app = SocketStream(sock)
        self._owner.began(self)
        app.watch(partial(start, self._broke, self._target))
        self._target.watch(partial(start, self._broke, app))
        back = gevent.spawn(self._pump, self._target, app, b"")
        try:
            self._pump(app, self._target, early)
            back.get()  # no limit: the sweeper resets a connection that is idle for too long
            if self._failure is None:
                app.close()
                self._target.close()
        finally:
            back.kill(block=False)
            self._over = True
            self.reset()  # closes what an error, or a kill of this greenlet, left open
            self._owner.ended(self)
        if self._failure:
            log.debug("a direct connection ended: %s", self._failure)

    def abort(self) -> None:
        """Drop the target."""
        self._target.reset()
        self._owner.ended(self)

    def reset(self) -> None:
        """Abort both sides. Never blocks. Does nothing to a socket that is already closed."""
        self._target.reset()
        if self._app:
            self._app.reset()

    def _broke(self, sink: SocketStream) -> None:
        """Reset the connection once it can make no progress. Runs after the source of `sink` has broken.

        Nobody may be reading the broken socket at that time: see `relay`.
        """
        while not self._over:
            if (not sink.unsent) if sink.finished else (monotonic() - self.last > STALLED):
                self.reset()
            gevent.sleep(LOOK)

    def _pump(self, source: SocketStream, sink: SocketStream, data: bytes) -> None:
        """Copy `data`, then the data from `source`, to `sink` until the end of the data."""
        size, loop = FIRST_READ, this_round()
        try:
            if data:
                sink.sendall(data)
            data = b""  # hold no data while blocked in `recv`
            waited_in = loop.began
            while data := source.recv(size):
                size = min(2 * size, LARGEST_READ) if len(data) == size else max(len(data), FIRST_READ)
                sink.sendall(data)
                data = b""
                maybe_yield(waited_in)
                waited_in = loop.began
            sink.finish()
        except LaneError as error:
            self._failure = self._failure or Failure.of(error)
            if source.broken:
                self.reset()  # otherwise `sink` broke, and data that it sent before is still to be delivered
