"""The common parts of the inbound protocols: the events of their codecs, and credentials.

SOCKS and HTTP differ only in their bytes. Each codec turns the application's bytes into the same events. So
one loop in `lane.inbound` serves all of them, and a new protocol is one more file. The style is that of
h11: call `receive` with bytes, then `next_event` until it returns None.
"""

import hmac
from dataclasses import dataclass
from typing import Protocol

from lane.address import Address
from lane.errors import Status

Credentials = tuple[bytes, bytes]
"""User and password."""


@dataclass(frozen=True, slots=True)
class ReplyBytes:
    """Bytes to write to the application. The exchange continues after them."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """The application requests a connection to `target`. Later bytes are in `trailing_data`."""

    target: Address


@dataclass(frozen=True, slots=True)
class BindRequest:
    """The application requests a port to which `peer` may connect once."""

    peer: Address


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """The application requests a port for its packets, which it will send from `source`.

    Port 0 and the unspecified address mean that it does not know `source` yet (RFC 1928 section 4).
    """

    source: Address


@dataclass(frozen=True, slots=True)
class ForwardRequest:
    """The application requests one HTTP exchange with `target`: see `lane.proto.http.Http.upload`."""

    target: Address
    head: bytes
    """The request's head, as it is sent to the target."""
    method: bytes
    modern: bool
    """Whether the application speaks HTTP/1.1, and so knows chunks and interim responses."""
    keep: bool
    """Whether the application may send another request on its connection."""
    upgrade: bool
    """Whether the exchange may become a tunnel."""
    repeatable: bool
    """Whether the request may be sent twice: its method is idempotent, and it has no body."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last bytes to write to the application. The connection ends after them."""

    data: bytes


Event = ReplyBytes | ConnectRequest | ForwardRequest | BindRequest | AssociateRequest | Refusal


class Codec(Protocol):
    """The server's side of an inbound protocol. The events do not depend on how the bytes are split."""

    @property
    def login(self) -> bool | None:
        """Whether the last credentials were right; None before there were any. Wrong ones are refused."""

    @property
    def trailing_data(self) -> bytes:
        """The bytes received after the request. They have no limit here: the caller must limit `receive`."""

    def receive(self, data: bytes) -> None:
        """Add bytes from the application."""

    def next_event(self) -> Event | None:
        """The next event; None while bytes are missing, and after a request or a refusal.

        Raises ProtocolError for bytes that get no answer.
        """

    def accepted(self, bound: Address) -> bytes:
        """The answer to a successful request. `bound` is the source address that the target sees.

        For a BindRequest or an AssociateRequest it is the address of the port. After a BindRequest a second
        answer has the peer.
        """

    def refused(self, status: Status, text: str) -> bytes:
        """The answer to a failed request. `text` is for users, if the protocol has room for it."""


def credentials_match(given: Credentials, expected: Credentials) -> bool:
    """Whether both are equal. The time does not depend on which part is wrong, or where."""
    user = hmac.compare_digest(given[0], expected[0])
    password = hmac.compare_digest(given[1], expected[1])
    return user and password
