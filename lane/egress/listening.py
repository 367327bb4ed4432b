"""Ports that the server opens for its clients, so that others can connect to services behind them.

There are two kinds. SOCKS BIND wants one connection, from a peer that it names; such a port is open for a
minute at most. A reverse forward wants every connection to a fixed address. Its client parks sessions there,
and each session takes one connection. The port stays open for some seconds while no session is parked: the
client is about to park the next one, and the kernel holds new connections meanwhile.

Everything is bounded: the sockets in all, the sockets per user, and the sessions parked at one address. A
connection is handed only to a parked session.
"""

import ipaddress
import os
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any

from gevent import socket

from lane import census
from lane.address import Address
from lane.egress.listener import EgressListener, open_at, own_address
from lane.egress.listening_port import Expected, ListeningPort, SharedPort
from lane.egress.policy import ListenRule, Policy
from lane.errors import Status, TargetError
from lane.net.resolver import Resolver
from lane.net.sockets import OUTSIDE

MOST = 1024
"""Ports that are open at once."""
MOST_PER_USER = 64
"""Ports of one user that are open at once."""
WAIT = 60.0
"""Seconds that an expected peer has to connect."""
LINGER = 10.0
"""Seconds that a port stays open while no session is parked there."""
_ELSEWHERE = {"0.0.0.0": OUTSIDE, "::": ipaddress.ip_address("2001:db8::1")}
"""An outside address for each family (RFC 5737, RFC 3849), to look up this machine's own address."""


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
        self.borrow: Callable[[Address, str], int | None] = lambda where, user: None
        """Asks the other processes of the server to `lend` what can't be opened here."""
        self._open: Counter[str] = Counter()
        self._shared: dict[Address, SharedPort] = {}
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
            own = own_address(_ELSEWHERE[peer.host])
            return self._expected(self._listen(Address(peer.host, 0), user), own, None, self._wait)
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
        hosts = [address.compressed for address in allowed]
        return self._expected(self._listen(Address(own, 0), user), own, hosts, self._wait)

    def park(self, where: Address, user: str) -> ListeningPort:
        """Park a session at `where`, an IP address. Port 0 stands for a free port. Raises TargetError."""
        if not any(rule.permits(where) for rule in self.rules):
            raise TargetError(Status.NOT_ALLOWED, "not allowed (the server's --allow-reverse)")
        shared = self._shared.get(where)
        if shared is None:
            listener = self._listen(where, user)
            if (shared := self._shared.get(where)) is None:
                shared = self._share(where.host, listener, user)
            else:  # another session has parked there while the port was borrowed
                listener.close()
        if shared.user != user:
            raise TargetError(Status.NOT_ALLOWED, "not allowed: the port is another user's")
        return shared.park()

    def thaw(self, state: dict[str, Any], descriptors: list[int], user: str) -> ListeningPort:
        """The port that another process has frozen, for the same user."""
        if "hosts" in state:
            listener = self._listener(user, descriptors[0])
            return self._expected(listener, state["host"], state["hosts"], state["until"] - monotonic())
        shared = self._shared.get(Address(*state["where"]))
        if shared is None:
            shared = self._share(state["where"][0], self._listener(user, descriptors[0]), user)
        else:
            os.close(descriptors[0])
        place = shared.park()
        if "peer" in state:
            place.arrive((socket.socket(fileno=descriptors[1]), Address(*state["peer"])))
        return place

    def lend(self, where: Address, user: str) -> int | None:
        """Another descriptor of the port at `where`, for another process of the server; None without one."""
        shared = self._shared.get(where)
        return shared.lend() if shared is not None and shared.user == user else None

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

    def _expected(
        self, listener: EgressListener, host: str, hosts: list[str] | None, wait: float
    ) -> Expected:
        return Expected(listener, host, hosts, self._passes, wait)

    def _share(self, host: str, listener: EgressListener, user: str) -> SharedPort:
        shared = SharedPort(host, listener, user, self._linger)
        self._shared[shared.where] = shared
        shared.closed = lambda: self._shared.pop(shared.where, None)
        return shared

    def _listener(self, user: str, descriptor: int) -> EgressListener:
        self._open[user] += 1
        return EgressListener(socket.socket(fileno=descriptor), lambda: self._closed(user))

    def _listen(self, where: Address, user: str) -> EgressListener:
        if len(self) >= self._most:
            raise TargetError(Status.FAILURE, "too many ports are open")
        if self._open[user] >= self._most_per_user:
            raise TargetError(Status.FAILURE, "too many ports of this user are open")
        try:
            listener = EgressListener(open_at(where), lambda: self._closed(user))
        except TargetError:
            descriptor = self.borrow(where, user) if where.port else None
            if descriptor is None:
                raise
            return self._listener(user, descriptor)
        self._open[user] += 1
        return listener

    def _closed(self, user: str) -> None:
        self._open[user] -= 1
        if not self._open[user]:
            del self._open[user]
