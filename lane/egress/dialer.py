"""Connects to a target as fast as its best address allows, and tells truly why when none does.

Names often have an address that does not answer: IPv6 where it is broken, a dead host among several.
Happy eyeballs (RFC 8305 section 5) starts the next address shortly after the one before, and the first
to connect wins. The policy sees each address before it is dialled, and what it saw is what is dialled.
"""

import errno
import ipaddress
import os
from collections import deque
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOCK_STREAM, SOL_SOCKET, TCP_NODELAY

import gevent
from gevent import socket
from gevent.queue import Empty, Queue

from lane.address import Address
from lane.egress.policy import Policy
from lane.egress.resolver import Found, Resolver
from lane.errors import Status, TargetError

Verdict = tuple[Status, str]
"""What came of an attempt that failed, and in which words."""

STAGGER = 0.25
"""Seconds from one attempt to the next (RFC 8305 section 8)."""

_STATUS = {
    errno.ECONNREFUSED: Status.REFUSED,
    errno.EACCES: Status.NOT_ALLOWED,  # a firewall of this machine
    errno.EPERM: Status.NOT_ALLOWED,
    errno.ETIMEDOUT: Status.TTL_EXPIRED,
    errno.EHOSTUNREACH: Status.HOST_UNREACHABLE,
    errno.ENETUNREACH: Status.NETWORK_UNREACHABLE,
    errno.EAFNOSUPPORT: Status.NETWORK_UNREACHABLE,  # no IPv6 in this kernel
    errno.EADDRNOTAVAIL: Status.NETWORK_UNREACHABLE,  # no address of our own to reach it from
}

_TELLING = (
    Status.REFUSED, Status.FAILURE, Status.NOT_ALLOWED, Status.TTL_EXPIRED,
    Status.HOST_UNREACHABLE, Status.NETWORK_UNREACHABLE,
)  # fmt: skip
"""Most informative first: a host that answered says more than one that did not, and that more than a
family without a route."""


class Dialer:
    """Connects to targets. `connect_timeout`: seconds for all addresses together, after the look-up."""

    def __init__(self, policy: Policy, resolver: Resolver, connect_timeout: float = 10.0) -> None:
        self._policy = policy
        self._resolver = resolver
        self._timeout = connect_timeout

    def connect(self, target: Address) -> socket.socket:
        """A connected TCP socket, with TCP_NODELAY and SO_KEEPALIVE set.

        Raises TargetError: NOT_ALLOWED when the policy refuses every address, otherwise what the most
        telling attempt ended with, TTL_EXPIRED for one that was not answered in time.
        """
        if target.port == 0:
            raise TargetError(Status.NOT_ALLOWED, "not allowed: port 0")
        allowed: Found = []
        refusal: TargetError | None = None
        for family, ip in self._resolver.resolve(target.host, target.port):
            try:
                self._policy.check(target.host, ipaddress.ip_address(ip), target.port)
            except TargetError as error:
                refusal = refusal or error
            else:
                allowed.append((family, ip))
        if refusal and not allowed:
            raise refusal
        return self._only(allowed[0], target.port) if len(allowed) == 1 else self._race(allowed, target.port)

    def _only(self, address: tuple[int, str], port: int) -> socket.socket:
        """A race of one needs nobody to watch it."""
        family, ip = address
        sock = None
        try:
            with gevent.Timeout(self._timeout, _late()):
                sock = socket.socket(family, SOCK_STREAM)
                _connect(sock, (ip, port))
                return sock
        except BaseException as error:
            if sock is not None:
                sock.close()
            if isinstance(error, OSError):
                raise TargetError(*_verdict(error)) from None
            raise

    def _race(self, addresses: Found, port: int) -> socket.socket:
        """The first socket to connect. Closes all others, whatever ends the race: kills and time-outs too."""
        untried = deque(addresses)
        running = 0
        outcomes: Queue = Queue()
        opened: list[socket.socket] = []
        verdicts: list[Verdict] = []
        winner = None
        try:
            with gevent.Timeout(self._timeout, False):
                while winner is None and (untried or running):
                    if untried:
                        family, ip = untried.popleft()
                        try:
                            # Opened here and closed here: an attempt that nobody hears of can't leak one.
                            opened.append(socket.socket(family, SOCK_STREAM))
                        except OSError as error:
                            verdicts.append(_verdict(error))
                            continue
                        gevent.spawn(_attempt, opened[-1], (ip, port), outcomes)
                        running += 1
                    try:
                        sock, failure = outcomes.get(timeout=STAGGER if untried else None)
                    except Empty:
                        continue
                    running -= 1
                    if failure is None:
                        winner = sock
                    else:
                        verdicts.append(failure)
        finally:
            for sock in opened:
                if sock is not winner:
                    sock.close()
        if winner is not None:
            return winner
        if untried or running:
            verdicts.append(_verdict(_late()))
        raise TargetError(*min(verdicts, key=lambda verdict: _TELLING.index(verdict[0])))


def _attempt(sock: socket.socket, where: tuple[str, int], outcomes: Queue) -> None:
    """Connect, and put the socket with None or a Verdict in `outcomes`. Ends by itself when closed."""
    try:
        _connect(sock, where)
    except OSError as error:
        outcomes.put((sock, _verdict(error)))
    else:
        outcomes.put((sock, None))


def _connect(sock: socket.socket, where: tuple[str, int]) -> None:
    sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    sock.connect(where)


def _late() -> OSError:
    return OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def _verdict(error: OSError) -> Verdict:
    status = _STATUS.get(error.errno or 0, Status.FAILURE)
    return status, (error.strerror or "connection failed").lower()
