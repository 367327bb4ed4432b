"""What the inbound protocols have in common: the events of their codecs, and credentials.

SOCKS and HTTP differ in bytes only. Each codec takes what the application sent and gives the same
events, so that one loop in `lane.inbound` serves them all and a further protocol is one more file.
The style is h11's: `receive` bytes, then call `next_event` until it has none.
"""

import hmac
from dataclasses import dataclass
from typing import Protocol

from lane.address import Address
from lane.errors import Status

Credentials = tuple[bytes, bytes]
"""User and password."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes to write to the application before it goes on."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """The application asks for a connection to `target`; what it sent behind that is `trailing_data`."""

    target: Address


@dataclass(frozen=True, slots=True)
class Bind:
    """The application asks for a port that `peer` may connect to, once."""

    peer: Address


@dataclass(frozen=True, slots=True)
class Associate:
    """The application asks for a port for its packets. `source` is where it will send them from.

    Port 0 and the unspecified address mean that it does not know yet (RFC 1928 section 4).
    """

    source: Address


@dataclass(frozen=True, slots=True)
class Forward:
    """The application asks for one HTTP exchange with `target`: see `lane.proto.http.Http.upload`."""

    target: Address
    head: bytes
    """What the target is sent first."""
    method: bytes
    modern: bool
    """Whether the application speaks HTTP/1.1: knows chunks and interim answers."""
    keep: bool
    """Whether the application may ask for more on its connection."""
    upgrade: bool
    """Whether the exchange may become a tunnel."""
    repeatable: bool
    """Whether it may be sent twice: its method is idempotent, and it has no body to keep for that."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last bytes to write: the connection ends with them."""

    data: bytes


Event = Reply | Request | Forward | Bind | Associate | Refusal


class Codec(Protocol):
    """The server's side of an inbound protocol. Any split of the bytes gives the same events."""

    @property
    def login(self) -> bool | None:
        """Whether the last credentials were right; None while there were none. Wrong ones are refused."""

    @property
    def trailing_data(self) -> bytes:
        """The bytes received behind what was asked for. Feed no more than may be held: it has no limit."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the application."""

    def next_event(self) -> Event | None:
        """The next event; None while bytes are missing, and after the one that asks or refuses.

        Raises ProtocolError for bytes that deserve no answer.
        """

    def accepted(self, bound: Address) -> bytes:
        """The answer to what succeeded; `bound` is where the target sees the connection from.

        For a Bind or an Associate it is where the port is, and after a Bind a second answer has the peer.
        """

    def refused(self, status: Status, text: str) -> bytes:
        """The answer to what failed; `text` is for people, where the protocol has room for it."""


def credentials_match(given: Credentials, expected: Credentials) -> bool:
    """Whether both are equal, in a time that doesn't tell which part is wrong, or where."""
    user = hmac.compare_digest(given[0], expected[0])
    password = hmac.compare_digest(given[1], expected[1])
    return user and password
