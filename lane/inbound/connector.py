"""What an inbound needs from the rest of lane, and all that it knows of it.

Applications' protocols and the way to the target meet here only, so that each is tested without the other.
"""

from collections.abc import Callable
from typing import Protocol

import gevent.socket
from gevent.event import Event

from lane.address import Address
from lane.stream import Stream

Buffer = bytes | bytearray | memoryview


class TargetConnection(Protocol):
    """A way to a target. Exactly one of `run` and `abort` is called, once; `begin` may precede `abort`."""

    @property
    def bound(self) -> Address:
        """Where the target sees the connection from; SOCKS5 tells the application."""

    def begin(self) -> Stream:
        """The target as a stream, instead of `run`: the caller uses it, and calls `abort` at the end."""

    def run(self, sock: gevent.socket.socket, early: bytes) -> None:
        """Relay between `sock` and the target until both are done; `early` was read from `sock` before.

        Takes over the socket and closes it. Never raises LaneError.
        """

    def abort(self) -> None:
        """Drop what is left of the connection: the application has gone. Never blocks."""


class Association(Protocol):
    """Packets to and from anywhere, until `close`."""

    @property
    def over(self) -> Event:
        """Set when nothing will come any more."""

    def send(self, target: Address, payload: Buffer) -> None:
        """Send one packet. Never blocks; it may be lost, as packets are."""

    def close(self) -> None:
        """End the association. Idempotent, never blocks."""


class Listening(TargetConnection, Protocol):
    """A port on the server, and the connection that somebody makes to it. `bound` is where the port is.

    `accept` comes first, then `run` or `abort`; `abort` may also come while somebody waits in `accept`.
    """

    def accept(self) -> Address:
        """Wait for the connection: whom it is from. Raises LaneError; `abort` must follow."""


class TargetConnector(Protocol):
    """Ways to targets."""

    def connect(self, target: Address) -> TargetConnection:
        """Connect to a target.

        Raises TargetError for what the application is told as it is; any other LaneError (no server, a lost
        carrier) is told as a general failure.
        """

    def associate(self, deliver: Callable[[Address, Buffer], None], *, anyone: bool = False) -> Association:
        """A UDP association. `deliver(source, payload)` gets what comes back; it must not block.

        `anyone`: also from addresses to which nothing was sent. Raises as `connect` does.
        """

    def bind(self, peer: Address) -> Listening:
        """A port on the server for one connection from `peer` (SOCKS BIND). Raises as `connect` does."""
