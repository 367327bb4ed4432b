"""The interface between the inbounds and the rest of lane.

Proxy protocols and the connection to the target meet only here, so each side is tested without the other.
"""

from collections.abc import Callable
from typing import Protocol

import gevent.socket
from gevent.event import Event

from lane.address import Address
from lane.carriers.departures import Goes
from lane.carriers.lanes import Leased
from lane.session.parcel import Parcel
from lane.stream import Stream

Buffer = bytes | bytearray | memoryview


class TargetConnection(Protocol):
    """A connection to a target. Call exactly one of `run` and `abort`, once; `begin` may precede `abort`."""

    @property
    def bound(self) -> Address:
        """The source address that the target sees. SOCKS5 reports it to the application."""

    def begin(self) -> Stream:
        """The target as a stream. A caller that uses it does not call `run`, and calls `abort` at the end."""

    def run(self, sock: gevent.socket.socket, early: bytes) -> None:
        """Relay between `sock` and the target until both directions have ended.

        `early`: bytes that were already read from `sock`. Takes over the socket and closes it. Never raises
        LaneError.
        """

    def abort(self) -> None:
        """Drop the connection, because the application has disconnected. Never blocks."""


class Association(Protocol):
    """A UDP association: packets to and from any address, until `close`."""

    @property
    def over(self) -> Event:
        """Set when the association has ended and no further packet will arrive."""

    def send(self, target: Address, payload: Buffer) -> None:
        """Send one packet. Never blocks. The packet may be lost, like any UDP packet."""

    def close(self) -> None:
        """End the association. Idempotent, never blocks."""

    def leaves(self, goes: Goes | None) -> None:
        """Another process may go on with it, together with what `goes` says; None: it stays here.

        It is over here then.
        """


class Listening(TargetConnection, Protocol):
    """A port on the server, and the one connection that is made to it. `bound` is the address of the port.

    `accept` comes first, then `run` or `abort`. `abort` may also be called while `accept` blocks.
    """

    def accept(self, goes: Goes | None = None) -> Address:
        """Wait for the connection and return its peer's address. Raises LaneError; call `abort` then.

        With `goes`, another process may go on with the wait, and with what that says. Suspended is raised
        then; call `abort` as well.
        """


class TargetConnector(Protocol):
    """Makes connections and UDP associations to targets."""

    def connect(self, target: Address) -> TargetConnection:
        """Connect to a target.

        Raises TargetError if the application should learn the exact reason. Any other LaneError (no server, a
        lost carrier) is reported to the application as a general failure.
        """

    def associate(self, deliver: Callable[[Address, Buffer], None], *, anyone: bool = False) -> Association:
        """Open a UDP association. `deliver(source, payload)` gets each incoming packet; it must not block.

        `anyone`: also accept packets from addresses to which nothing was sent. Raises as `connect` does.
        """

    def associate_again(
        self, parcel: Parcel, leased: Leased | None, deliver: Callable[[Address, Buffer], None]
    ) -> Association:
        """Go on with an association that left another process. `leased`: a stream for it, or None.

        Raises TargetError if there is no room for it.
        """

    def bind(self, peer: Address) -> Listening:
        """Open a port on the server for one connection from `peer` (SOCKS BIND). Raises as `connect` does."""
