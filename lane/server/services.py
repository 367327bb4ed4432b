"""What the server does at the far end of a session: one service for each command that begins one.

The server knows carriers, users and sessions; a service knows one kind of target. A further kind is one
more class, and one more entry in what the server offers.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from gevent.socket import socket as Socket  # noqa: N812  (the name of the type)

from lane.address import Address
from lane.errors import LaneError
from lane.proto.hello import Command, Request
from lane.session.relay import relay
from lane.session.session import Session
from lane.session.sockets import SocketStream


class Service(Protocol):
    """One session's target. `run` is called at most once, and `reset` at the end in any case."""

    @property
    def bound(self) -> Address:
        """For the REPLY: where the target sees the server from, or may reach it."""

    def run(self, session: Session) -> LaneError | None:
        """Serve until both sides have ended: None, or the error that it ended with."""

    def reset(self) -> None:
        """Let go of everything. Idempotent, and nothing at all after a clean end."""


Authorize = Callable[[Address], None]
"""Whether the user may reach a target. Raises TargetError (NOT_ALLOWED)."""
Offer = Callable[[Request, str, Authorize], Service]
"""Begins the service that a user's request asks for. Raises TargetError."""
Offers = Mapping[int, Offer]
"""From the command of a request."""


class Connect:
    """A TCP connection to the target."""

    def __init__(self, sock: Socket) -> None:
        self.bound = Address(*sock.getsockname()[:2])
        self._target = SocketStream(sock)

    def run(self, session: Session) -> LaneError | None:
        """See `Service`."""
        return relay(self._target, session)

    def reset(self) -> None:
        """See `Service`."""
        self._target.reset()


def offers(connect: Callable[[Address], Socket]) -> Offers:
    """All that a server has to offer. `connect` reaches a target or raises TargetError."""

    def to_target(request: Request, _: str, authorize: Authorize) -> Service:
        authorize(request.address)
        return Connect(connect(request.address))

    return {Command.CONNECT: to_target}
