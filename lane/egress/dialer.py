"""Connects to a target as fast as its best address allows, and reports the true reason if none works.

The policy judges each address before it is dialled, and lane dials exactly the address that was judged.
"""

import socket
from typing import Any

from lane.address import Address
from lane.egress.policy import Policy
from lane.errors import Status, TargetError
from lane.net.connect import Where, connect_to
from lane.net.failures import target_error
from lane.net.own import TCP, refuse_own
from lane.net.race import Eyeballs
from lane.net.resolver import Resolver
from lane.net.sockets import reset_on_close, tune


class Dialer:
    """Connects to targets. `connect_timeout`: seconds for all addresses together, after the look-up.

    `own`: the kind of traffic. A port of this process that refuses that kind is no target (`lane.net.own`).
    """

    def __init__(
        self, policy: Policy, resolver: Resolver, connect_timeout: float = 10.0, own: str = TCP
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self.timeout = connect_timeout
        self._own = own
        self._eyeballs = Eyeballs()

    def connect(self, target: Address, user: str = "") -> socket.socket:
        """A connected and tuned TCP socket, as of `lane.net.sockets.plain`.

        The look-up counts against the share of `user`.
        Raises TargetError: NOT_ALLOWED if the policy refuses every address. Otherwise it has the most telling
        failure of all attempts, and TTL_EXPIRED stands for an attempt that got no answer in time.
        """
        if target.port == 0:
            raise TargetError(Status.NOT_ALLOWED, "not allowed: port 0")
        allowed: list[Where] = []
        refusal: TargetError | None = None
        for address in self._resolver.resolve(target.host, user):
            try:
                self._policy.check(target.host, address, target.port)
                refuse_own(self._own, address, target.port)
            except TargetError as error:
                refusal = refusal or error
            else:
                allowed.append((address, target.port))
        if refusal and not allowed:
            raise refusal
        try:
            return self._eyeballs.connect(target, allowed, _attempt, socket.socket.close, self.timeout)
        except OSError as error:
            raise target_error(error) from None


def _attempt(where: Where) -> socket.socket:
    return connect_to(where, _prepare)


def _prepare(sock: Any) -> None:
    tune(sock)
    reset_on_close(sock)
