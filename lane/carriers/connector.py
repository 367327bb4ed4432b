"""From a target's address to a session with it: over a stream of the pool, told truly or at once."""

import logging
from contextlib import ExitStack
from enum import Enum
from time import monotonic

from gevent.socket import socket as Socket  # noqa: N812  (the name of the type, not of a function)

from lane.address import Address
from lane.carriers.opening import Opening
from lane.carriers.pool import Pool
from lane.carriers.reached import Reached
from lane.errors import LaneError, Refused, Status, TargetError, Unreachable
from lane.proto.hello import Command, Request
from lane.session.registry import Registry
from lane.session.relay import relay
from lane.session.session import Session
from lane.session.sockets import SocketStream

log = logging.getLogger("lane.client")

NOWHERE = Address("0.0.0.0", 0)
"""The address of a request that has none, and of a target that has not answered yet."""


class FastOpen(Enum):
    """Whether an application is told that it is connected before the server has said so."""

    AUTO = "auto"
    """For a destination that was reached lately."""
    ON = "on"
    OFF = "off"


class Connection:
    """A session with a target, before its bytes flow: `run` relays them, `abort` drops it."""

    def __init__(self, bound: Address, session: Session, opening: Opening, resources: ExitStack) -> None:
        self.bound = bound
        self._session = session
        self._opening = opening
        self._resources = resources

    def run(self, sock: Socket, early: bytes) -> None:
        """Relay between the application's socket and the target until both directions have ended."""
        with self._resources:
            error = relay(SocketStream(sock), self._session, early)
            if self._session.free and not self._session.rest:
                self._opening.keep()
        if error:
            log.debug("a session ended: %s", error)

    def abort(self) -> None:
        """Drop the session."""
        self._resources.close()


class Connector:
    """Opens sessions. `request_timeout` bounds the wait for the server's REPLY, in seconds."""

    def __init__(
        self, pool: Pool, registry: Registry, request_timeout: float, fast_open: FastOpen = FastOpen.AUTO
    ) -> None:
        self._pool = pool
        self._registry = registry
        self._request_timeout = request_timeout
        self._fast_open = fast_open
        self._reached = Reached()

    def __call__(self, target: Address) -> Connection:
        """A connection to `target`. Raises TargetError with the true reason, unless it opens fast."""
        with ExitStack() as resources:
            resources.enter_context(self._registry.admit())
            try:
                opening = self._open(Request(Command.CONNECT, target, self._registry.window))
                resources.callback(opening.release)
                fast = self._fast(target)
                bound = NOWHERE if fast else opening.reply().bound
            except TargetError:
                self._reached.note(target, False)
                raise
            except LaneError as error:
                log.warning("%s: %s", target, error)
                raise TargetError(Status.FAILURE, str(error)) from None
            session = resources.enter_context(
                self._registry.session(opening, opening.credit, lambda: opening.stats().rtt)
            )
            if fast:
                opening.answered = lambda error: self._answered(target, session, opening.credit, error)
            else:
                self._reached.note(target, True)
            return Connection(bound, session, opening, resources.pop_all())

    def ping(self) -> float:
        """Ask the server for nothing but an answer, on a new carrier: the seconds that took.

        Raises Unreachable or Refused.
        """
        opening = self._open(Request(Command.PING, NOWHERE, 0), fresh=True)
        start = monotonic()
        try:
            opening.reply()
        except TargetError as error:
            if error.status is Status.TTL_EXPIRED:
                raise Unreachable(str(error)) from None
            raise Refused(f"the server refused: {error}") from None
        finally:
            opening.discard()
        return monotonic() - start

    def _open(self, request: Request, *, fresh: bool = False) -> Opening:
        return Opening(self._pool, self._pool.lease(fresh=fresh), request, self._request_timeout)

    def _fast(self, target: Address) -> bool:
        if self._fast_open is FastOpen.AUTO:
            return target in self._reached
        return self._fast_open is FastOpen.ON

    def _answered(self, target: Address, session: Session, credit: int, error: LaneError | None) -> None:
        """What came of a request whose application was told that it is connected."""
        self._reached.note(target, error is None)
        if error is None:
            session.grant(credit)
        else:
            log.info("%s: %s (the application thought that it was connected: it gets a reset)", target, error)
