"""Ports that the server opens for its clients, so that others can connect to services behind them.

There are two kinds. SOCKS BIND wants one connection, from a peer that it names; such a port is open for a
minute at most. A reverse forward wants every connection to a fixed address. Its client parks sessions there,
and each session takes one connection. The port stays open for some seconds while no session is parked: the
client is about to park the next one, and the kernel holds new connections meanwhile.

Everything is bounded: the sockets in all, the sockets per user, and the sessions parked at one address. A
connection is handed only to a parked session.
"""

import ipaddress
import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

import gevent
from gevent.event import Event

from lane import census
from lane.address import Address
from lane.egress.listener import Arrival, EgressListener, own_address
from lane.egress.policy import ListenRule, Policy
from lane.errors import Closed, Status, TargetError
from lane.net.own import REVERSE, OwnPort
from lane.net.resolver import Resolver
from lane.net.sockets import OUTSIDE
from lane.supervisor import supervise

MOST = 1024
"""Ports that are open at once."""
MOST_PER_USER = 64
"""Ports of one user that are open at once."""
MOST_PARKED = 64
"""Sessions that are parked at one address."""
WAIT = 60.0
"""Seconds that an expected peer has to connect."""
LINGER = 10.0
"""Seconds that a port stays open while no session is parked there."""
_ELSEWHERE = {"0.0.0.0": OUTSIDE, "::": ipaddress.ip_address("2001:db8::1")}
"""An outside address for each family (RFC 5737, RFC 3849), to look up this machine's own address."""

log = logging.getLogger("lane.server")


class ListeningPort(Protocol):
    """A port where one session waits for one connection."""

    bound: Address
    """The address that peers connect to."""

    def accept(self, able: Callable[[], bool]) -> Arrival:
        """Wait for the connection. `able`: whether the session could take it now; `poke` has it asked again.

        Raises TargetError (TTL_EXPIRED) if the port has a time limit, and Closed once the port is closed.
        """

    def poke(self) -> None:
        """Ask `able` again, because its answer may have changed."""

    def close(self) -> None:
        """End the wait. Never blocks. Idempotent."""


class Ports:
    """All open ports. `policy` judges expected peers; `rules` say where sessions may be parked.

    `bind`: whether ports are opened for expected peers (SOCKS BIND) at all. `rules` and `bind` may be
    replaced at any time.
    """

    def __init__(
        self,
        policy: Policy,
        resolver: Resolver,
        rules: tuple[ListenRule, ...] = (),
        *,
        bind: bool = False,
        most: int = MOST,
        most_per_user: int = MOST_PER_USER,
        wait: float = WAIT,
        linger: float = LINGER,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self.rules = rules
        self.bind = bind
        self._most = most
        self._most_per_user = most_per_user
        self._wait = wait
        self._linger = linger
        self._open: Counter[str] = Counter()
        self._shared: dict[Address, _Shared] = {}
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"ports": len(self)}

    def __len__(self) -> int:
        return self._open.total()

    def expect(self, peer: Address, user: str) -> ListeningPort:
        """Open a port for one connection from `peer`, or from anyone if its host is unspecified.

        Raises TargetError.
        """
        if not self.bind:
            raise TargetError(
                Status.NOT_ALLOWED, "not allowed: the server opens no ports for BIND (its --allow-bind)"
            )
        if peer.host in _ELSEWHERE:
            own, welcome = own_address(_ELSEWHERE[peer.host]), self._passes
            return Expected(self._listen(Address(peer.host, 0), user), own, welcome, self._wait)
        allowed = []
        refusal: TargetError | None = None
        for address in self._resolver.resolve(peer.host, user):
            try:
                self._policy.check(peer.host, address, peer.port)
            except TargetError as error:
                refusal = refusal or error
            else:
                allowed.append(address)
        if refusal and not allowed:
            raise refusal
        # SOCKS4 and FTP's PORT command have room for IPv4 only, so IPv4 is preferred.
        own = own_address(min(allowed, key=lambda address: address.version))
        hosts = {address.compressed for address in allowed}
        return Expected(self._listen(Address(own, 0), user), own, lambda one: one.host in hosts, self._wait)

    def park(self, where: Address, user: str) -> ListeningPort:
        """Park a session at `where`, an IP address. Port 0 stands for a free port. Raises TargetError."""
        if not any(rule.permits(where) for rule in self.rules):
            raise TargetError(Status.NOT_ALLOWED, "not allowed (the server's --allow-reverse)")
        shared = self._shared.get(where)
        if shared is None:
            listener = self._listen(where, user)
            shared = _Shared(listener, user, self._linger)
            key = Address(where.host, shared.bound.port)
            self._shared[key] = shared
            shared.closed = lambda: self._shared.pop(key, None)
        if shared.user != user:
            raise TargetError(Status.NOT_ALLOWED, "not allowed: the port is another user's")
        return shared.park()

    def close(self) -> None:
        """Close the ports of reverse forwards. The ports of SOCKS BIND close with their sessions."""
        for shared in [*self._shared.values()]:
            shared.close()

    def _passes(self, peer: Address) -> bool:
        try:
            self._policy.check(peer.host, ipaddress.ip_address(peer.host), peer.port)
        except TargetError:
            return False
        return True

    def _listen(self, where: Address, user: str) -> EgressListener:
        if len(self) >= self._most:
            raise TargetError(Status.FAILURE, "too many ports are open")
        if self._open[user] >= self._most_per_user:
            raise TargetError(Status.FAILURE, "too many ports of this user are open")
        listener = EgressListener(where, lambda: self._closed(user))
        self._open[user] += 1
        return listener

    def _closed(self, user: str) -> None:
        self._open[user] -= 1
        if not self._open[user]:
            del self._open[user]


class Expected:
    """A `ListeningPort` for one connection. `welcome` tells whether a peer is the expected one."""

    def __init__(
        self, listener: EgressListener, host: str, welcome: Callable[[Address], bool], wait: float
    ) -> None:
        self.bound = Address(host, listener.address.port)
        self._listener = listener
        self._welcome = welcome
        self._wait = wait

    def accept(self, able: Callable[[], bool]) -> Arrival:
        """See `ListeningPort`."""
        try:
            with gevent.Timeout(self._wait, TargetError(Status.TTL_EXPIRED, "nobody connected in time")):
                while True:
                    sock, peer = self._listener.accept()
                    if self._welcome(peer):
                        return sock, peer
                    sock.close()
                    log.debug("a connection from %s to %s was not expected", peer.host, self.bound)
                    gevent.sleep(0)  # unexpected connections may come faster than they are closed
        finally:
            self.close()

    def poke(self) -> None:
        """See `ListeningPort`. Nothing to do: a connection is accepted whether the session is able or not."""

    def close(self) -> None:
        """See `ListeningPort`."""
        self._listener.close()


class _Shared:
    """The port of a reverse forward, and the sessions parked there. The oldest session is served first."""

    def __init__(self, listener: EgressListener, user: str, linger: float) -> None:
        self.user = user
        self.bound = listener.address
        self.closed: Callable[[], object] = lambda: None
        self._listener = listener
        self._own: OwnPort | None = OwnPort(listener.address, REVERSE)
        self._linger = linger
        self._places: deque[_Place] = deque()
        self._changed = Event()
        self._last: gevent.Greenlet[..., None] | None = None  # closes the port while no session is parked
        self._acceptor = supervise(f"the port {self.bound}", self._serve)

    def park(self) -> "_Place":
        if len(self._places) >= MOST_PARKED:
            stale = next((place for place in self._places if not place.able()), None)
            if stale is None:
                raise TargetError(Status.FAILURE, "too many sessions are parked there")
            stale.close()  # its client was probably restarted and left this session behind
        if self._last is not None:
            self._last.kill(block=False)
            self._last = None
        place = _Place(self)
        self._places.append(place)
        return place

    def leave(self, place: "_Place") -> None:
        """Remove a session that has its connection or wants none."""
        if place in self._places:
            self._places.remove(place)
            if not self._places and not self._listener.closed:
                self._last = gevent.spawn_later(self._linger, self.close)

    def changed(self) -> None:
        self._changed.set()

    def close(self) -> None:
        self._acceptor.kill(block=False)
        self._listener.close()
        self._own = None
        self.closed()
        for place in [*self._places]:
            place.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, peer = self._listener.accept()
            except Closed:
                return
            try:
                self._able().arrive((sock, peer))
            except BaseException:
                sock.close()
                raise

    def _able(self) -> "_Place":
        """Wait for a session that can take a connection now; return the oldest."""
        while True:
            for place in self._places:
                if place.able():
                    return place
            self._changed.clear()
            self._changed.wait()  # no limit: without a parked session, the port closes after LINGER


class _Place:
    """The `ListeningPort` of one session at a shared port."""

    def __init__(self, shared: _Shared) -> None:
        self.bound = shared.bound
        self.able: Callable[[], bool] = lambda: False
        self._shared = shared
        self._settled = Event()
        self._arrival: Arrival | None = None

    def accept(self, able: Callable[[], bool]) -> Arrival:
        """See `ListeningPort`."""
        self.able = able
        self.poke()
        self._settled.wait()  # no limit: a parked session waits until a peer connects
        if self._arrival is None:
            raise Closed("the port was closed")
        arrival, self._arrival = self._arrival, None
        return arrival

    def poke(self) -> None:
        """See `ListeningPort`."""
        self._shared.changed()

    def arrive(self, arrival: Arrival) -> None:
        """Hand a connection to the session."""
        self._shared.leave(self)
        self._arrival = arrival
        self._settled.set()

    def close(self) -> None:
        """See `ListeningPort`."""
        self._shared.leave(self)
        self._settled.set()
        if self._arrival is not None:
            self._arrival[0].close()
            self._arrival = None
