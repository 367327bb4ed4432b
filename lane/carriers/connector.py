"""From a target's address to a session with it: HELLO, REQUEST and REPLY over a stream of the pool."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic

import gevent
from gevent.socket import socket as Socket  # noqa: N812  (the name of the type, not of a function)

from lane.address import Address
from lane.carriers.pool import Lease, Pool
from lane.errors import Closed, LaneError, ProtocolError, Refused, Reset, Status, TargetError, Unreachable
from lane.proto.hello import Command, Reply, Request, parse_reply
from lane.session.registry import Registry
from lane.session.relay import relay
from lane.session.session import Session
from lane.session.sockets import SocketStream

log = logging.getLogger("lane.client")

NOWHERE = Address("0.0.0.0", 0)
"""The address of a request that has none."""


class Connection:
    """A session with a target, before its bytes flow: `run` relays them, `abort` drops it."""

    def __init__(self, bound: Address, session: Session, resources: ExitStack) -> None:
        self.bound = bound
        self._session = session
        self._resources = resources

    def run(self, sock: Socket, early: bytes) -> None:
        """Relay between the application's socket and the target until both directions have ended."""
        with self._resources:
            error = relay(SocketStream(sock), self._session, early)
        if error:
            log.debug("a session ended: %s", error)

    def abort(self) -> None:
        """Drop the session."""
        self._resources.close()


class Connector:
    """Opens sessions. `request_timeout` bounds the wait for the server's REPLY, in seconds."""

    def __init__(self, pool: Pool, registry: Registry, request_timeout: float) -> None:
        self._pool = pool
        self._registry = registry
        self._request_timeout = request_timeout

    def __call__(self, target: Address) -> Connection:
        """A connection to `target`. Raises TargetError with the true reason."""
        with ExitStack() as resources:
            resources.enter_context(self._registry.admit())
            try:
                lease, reply, early = self._request(target)
            except TargetError:
                raise
            except LaneError as error:
                log.warning("%s: %s", target, error)
                raise TargetError(Status.FAILURE, str(error)) from None
            if reply.verdict is not Status.OK:
                lease.discard()
                raise TargetError(reply.verdict, reply.text or reply.verdict.name.lower())
            resources.callback(lease.release)
            session = resources.enter_context(
                self._registry.session(lease.stream, reply.window, lambda: lease.carrier.stats().rtt, early)
            )
            return Connection(reply.bound, session, resources.pop_all())

    def ping(self) -> float:
        """Ask the server for nothing but an answer, on a new carrier: the seconds that took.

        Raises Unreachable or Refused.
        """
        with gevent.Timeout(self._request_timeout, Unreachable("the server gave no answer in time")):
            lease = self._pool.lease(fresh=True)
            start = monotonic()
            reply, _ = self._exchange(lease, Request(Command.PING, NOWHERE, 0).pack())
            lease.discard()
        if reply.verdict is not Status.OK:
            raise Refused(f"the server refused: {reply.text or reply.verdict.name.lower()}")
        return monotonic() - start

    def _request(self, target: Address) -> tuple[Lease, Reply, bytes]:
        """Ask, and wait for the answer. A carrier that died of old age is replaced once, unnoticed."""
        request = Request(Command.CONNECT, target, self._registry.window).pack()
        late = TargetError(Status.TTL_EXPIRED, "the server gave no answer in time")
        with gevent.Timeout(self._request_timeout, late):
            lease = self._pool.lease()
            try:
                return lease, *self._exchange(lease, request)
            except (Unreachable, Refused):  # a server may also end what waited for too long
                if lease.fresh:
                    raise
            lease = self._pool.lease(fresh=True)
            return lease, *self._exchange(lease, request)

    def _exchange(self, lease: Lease, request: bytes) -> tuple[Reply, bytes]:
        """REQUEST out, REPLY in. Raises Unreachable if the carrier was lost, Refused if the server won't."""
        try:
            lease.stream.sendall(request)
            return read_reply(lease.stream.recv)
        except Reset:
            lease.discard()
            raise Refused(_NOT_LANE) from None
        except Closed as error:
            lost = lease.carrier.closed
            lease.discard()
            if lost:
                raise Unreachable(f"the connection to the server was lost: {error}") from None
            raise Refused(_NOT_LANE) from None
        except ProtocolError as error:
            lease.discard()
            raise Refused(f"the server does not answer as lane does: {error}") from None
        except BaseException:
            lease.discard()
            raise


_NOT_LANE = "the server closed the connection without an answer: wrong key, or not a lane server"


def read_reply(recv: Callable[[int], bytes]) -> tuple[Reply, bytes]:
    """The REPLY from a stream, and what came behind it. Raises ProtocolError, or Reset at its end."""
    data = b""
    while (found := parse_reply(data)) is None:
        more = recv(65536)
        if not more:
            raise Reset(0, "the stream ended")
        data += more
    reply, end = found
    return reply, data[end:]
