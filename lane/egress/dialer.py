"""Connects to a target as fast as its best address allows, and tells truly why when none does.

The policy sees each address before it is dialled, and what it saw is what is dialled.
"""

from gevent import socket

from lane.address import Address
from lane.egress.policy import Policy
from lane.errors import Status, TargetError
from lane.net.connect import Where, connect_to
from lane.net.failures import target_error
from lane.net.own import TCP, refuse_own
from lane.net.race import Eyeballs
from lane.net.resolver import Resolver


class Dialer:
    """Connects to targets. `connect_timeout`: seconds for all addresses together, after the look-up.

    `own`: the kind of this process's own ports that is no target.
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
        """A connected TCP socket, tuned, for `user`, to whom the look-up is counted.

        Raises TargetError: NOT_ALLOWED when the policy refuses every address, otherwise what the most
        telling attempt ended with, TTL_EXPIRED for one that was not answered in time.
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
            return self._eyeballs.connect(target, allowed, connect_to, socket.socket.close, self.timeout)
        except OSError as error:
            raise target_error(error) from None
