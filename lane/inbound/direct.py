"""Connections that leave from this machine: the application's socket and the target's, and no session.

A session keeps what it sent until the other side has consumed it, and needs greenlets, frames and windows
for that. Between two sockets of one machine the kernel does all this: bytes are handed over as they come,
an end as an end, and a reset as a reset.
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
from lane.fair import maybe_yield
from lane.inbound.connector import Buffer
from lane.net.resolver import Resolver
from lane.session.relay import FIRST_READ, LARGEST_READ, LOOK, STALLED
from lane.session.sockets import SocketStream
from lane.stream import Stream
from lane.supervisor import supervise
from lane.tasks import start

SWEEP = 0.125
"""Seconds between two looks for idle connections, at least."""

log = logging.getLogger("lane.inbound")


class Direct:
    """Ways to what `policy` allows. `idle_timeout`: seconds without data until a connection is reset."""

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
        """A connection to `target` from here. Raises TargetError with the true reason."""
        return DirectConnection(self._dial(target), self)

    def associate(self, deliver: Callable[[Address, Buffer], None], *, anyone: bool = False) -> UdpEgress:
        """Packets from here, as `TargetConnector.associate` has them."""
        egress = UdpEgress(self._policy, self._resolver, lambda target: None, anyone=anyone)
        egress.deliver = deliver
        return egress

    def drain(self, grace: float) -> None:
        """Let the connections finish for `grace` seconds, then reset those that have not."""
        self._none.wait(grace)
        self._sweeper.kill(block=False)
        for connection in list(self._running):
            connection.reset()

    def began(self, connection: "DirectConnection") -> None:
        """Bytes flow from now on."""
        self._running.add(connection)
        self._none.clear()

    def ended(self, connection: "DirectConnection") -> None:
        """They do not any more."""
        self._running.discard(connection)
        if not self._running:
            self._none.set()

    def _sweep(self) -> None:
        while True:
            gevent.sleep(max(SWEEP, self._idle_timeout / 8))
            now = monotonic()
            for connection in list(self._running):
                if now - connection.last > self._idle_timeout:
                    connection.reset()


class _DirectTarget(SocketStream):
    """A target's socket, which knows when data moved last."""

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
    """A target's socket, before and while its bytes flow."""

    def __init__(self, sock: Socket, owner: Direct) -> None:
        self.bound = Address(*sock.getsockname()[:2])
        self._target = _DirectTarget(sock)
        self._app: SocketStream | None = None
        self._owner = owner
        self._over = False
        self._failure: Failure[LaneError] | None = None

    @property
    def last(self) -> float:
        """When data moved."""
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
            back.get()  # no limit: a connection that is idle for too long is reset
            if self._failure is None:
                app.close()
                self._target.close()
        finally:
            back.kill(block=False)
            self._over = True
            self.reset()  # what is not closed: an error, or this greenlet was killed
            self._owner.ended(self)
        if self._failure:
            log.debug("a direct connection ended: %s", self._failure)

    def abort(self) -> None:
        """Drop the target."""
        self._target.reset()
        self._owner.ended(self)

    def reset(self) -> None:
        """Abort both sides. Never blocks, and does nothing to what was closed."""
        self._target.reset()
        if self._app:
            self._app.reset()

    def _broke(self, sink: SocketStream) -> None:
        """What feeds `sink` was reset, and nobody may be reading it: see `relay`."""
        while not self._over:
            if (not sink.unsent) if sink.finished else (monotonic() - self.last > STALLED):
                self.reset()
            gevent.sleep(LOOK)

    def _pump(self, source: SocketStream, sink: SocketStream, data: bytes) -> None:
        """What `source` says, `data` before it, up to its end."""
        size = FIRST_READ
        try:
            if data:
                sink.sendall(data)
            data = b""  # a pump that waits holds nothing
            while data := source.recv(size):
                size = min(2 * size, LARGEST_READ) if len(data) == size else max(len(data), FIRST_READ)
                sink.sendall(data)
                data = b""
                maybe_yield()
            sink.finish()
        except LaneError as error:
            self._failure = self._failure or Failure.of(error)
            if source.broken:
                self.reset()  # else what `sink` said before it broke is still to be delivered
