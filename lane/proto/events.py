"""What the inbound protocols have in common: the events of their codecs, and credentials.

SOCKS5 and HTTP differ in bytes only. Each codec takes what the application sent and gives the same
three events, so that one loop in `lane.inbound` serves them all and a further protocol is one more file.
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
class Refusal:
    """The last bytes to write: the connection ends with them."""

    data: bytes


Event = Reply | Request | Refusal


class Codec(Protocol):
    """The server's side of an inbound protocol. Any split of the bytes gives the same events."""

    @property
    def trailing_data(self) -> bytes:
        """After a Request: the bytes received behind it. Feed no more than may be held: it has no limit."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the application."""

    def next_event(self) -> Event | None:
        """The next event; None while bytes are missing, and after a Request or Refusal.

        Raises ProtocolError for bytes that deserve no answer.
        """

    def accepted(self, bound: Address) -> bytes:
        """The answer to a Request that succeeded; `bound` is where the target sees the connection from."""

    def refused(self, status: Status, text: str) -> bytes:
        """The answer to a Request that failed; `text` is for people, where the protocol has room for it."""


def credentials_match(given: Credentials, expected: Credentials) -> bool:
    """Whether both are equal, in a time that doesn't tell which part is wrong, or where."""
    user = hmac.compare_digest(given[0], expected[0])
    password = hmac.compare_digest(given[1], expected[1])
    return user and password
