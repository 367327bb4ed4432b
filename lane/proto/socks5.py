"""The server's side of SOCKS5 (RFC 1928) with user and password (RFC 1929), without I/O.

Applications use it because it carries names unresolved and reports why a connection failed. Every length on
the wire is one byte, so no message is longer than 513 bytes and no other limit is needed.
"""

from collections.abc import Callable
from enum import Enum, auto

from lane.address import Address, unpack
from lane.errors import ProtocolError, Status
from lane.proto.events import (
    AssociateRequest,
    BindRequest,
    ConnectRequest,
    Credentials,
    Event,
    Refusal,
    ReplyBytes,
    credentials_match,
)

VERSION = 5
AUTH_VERSION = 1
CONNECT, BIND, UDP_ASSOCIATE = 1, 2, 3
NO_AUTH, USER_PASSWORD, NO_ACCEPTABLE = 0x00, 0x02, 0xFF
AUTH_OK, AUTH_FAILED = 0, 1

_COMMANDS: dict[int, Callable[[Address], ConnectRequest | BindRequest | AssociateRequest]] = {
    CONNECT: ConnectRequest,
    BIND: BindRequest,
    UDP_ASSOCIATE: AssociateRequest,
}
_NOWHERE = Address("0.0.0.0", 0)  # the bound address of a reply without one


class Socks5State(Enum):
    """The message that is expected next from the application."""

    GREETING = auto()
    AUTHENTICATION = auto()
    REQUEST = auto()
    DONE = auto()


class Socks5:
    """A `lane.proto.events.Codec`. With `credentials` it requires the same ones from the application."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        self.state = Socks5State.GREETING
        self.login: bool | None = None
        self._credentials = credentials
        self._buffer = bytearray()

    @property
    def trailing_data(self) -> bytes:
        """The bytes received after the request."""
        return bytes(self._buffer)

    def receive(self, data: bytes) -> None:
        """Add bytes from the application."""
        self._buffer += data

    def next_event(self) -> Event | None:
        """The next event, or None. Raises ProtocolError for another version."""
        parse = _PARSERS.get(self.state)
        return parse(self) if parse else None

    def accepted(self, bound: Address) -> bytes:
        """The reply with status OK (RFC 1928 section 6)."""
        return bytes((VERSION, Status.OK, 0)) + bound.pack()

    def refused(self, status: Status, text: str = "") -> bytes:
        """The reply with `status`. SOCKS5 has no room for the text."""
        return bytes((VERSION, status, 0)) + _NOWHERE.pack()

    def _greeting(self) -> Event | None:
        """VER, NMETHODS, METHODS (RFC 1928 section 3)."""
        data = self._buffer
        self._check_version(VERSION)
        if len(data) < 2 or len(data) < 2 + data[1]:
            return None
        methods = data[2 : 2 + data[1]]
        del data[: 2 + data[1]]
        method = NO_AUTH if self._credentials is None else USER_PASSWORD
        if method not in methods:
            return self._end(bytes((VERSION, NO_ACCEPTABLE)))
        self.state = Socks5State.REQUEST if self._credentials is None else Socks5State.AUTHENTICATION
        return ReplyBytes(bytes((VERSION, method)))

    def _authentication(self) -> Event | None:
        """VER, ULEN, UNAME, PLEN, PASSWD (RFC 1929 section 2)."""
        data = self._buffer
        self._check_version(AUTH_VERSION)
        if len(data) < 2 or len(data) <= (middle := 2 + data[1]):
            return None
        end = middle + 1 + data[middle]
        if len(data) < end:
            return None
        given = bytes(data[2:middle]), bytes(data[middle + 1 : end])
        del data[:end]
        assert self._credentials is not None
        self.login = credentials_match(given, self._credentials)
        if not self.login:
            return self._end(bytes((AUTH_VERSION, AUTH_FAILED)))
        self.state = Socks5State.REQUEST
        return ReplyBytes(bytes((AUTH_VERSION, AUTH_OK)))

    def _request(self) -> Event | None:
        """VER, CMD, RSV, then the address (RFC 1928 section 4)."""
        data = self._buffer
        self._check_version(VERSION)
        if len(data) < 2:
            return None
        if data[1] not in _COMMANDS:
            return self._end(self.refused(Status.COMMAND_NOT_SUPPORTED))
        try:
            found = unpack(data, 3)
        except ProtocolError:
            return self._end(self.refused(Status.ADDRESS_NOT_SUPPORTED))
        if found is None:
            return None
        address, end = found
        asked = _COMMANDS[data[1]](address)
        del data[:end]
        self.state = Socks5State.DONE
        return asked

    def _check_version(self, version: int) -> None:
        if self._buffer and self._buffer[0] != version:
            raise ProtocolError(f"SOCKS5: version {self._buffer[0]} where {version} was expected")

    def _end(self, data: bytes) -> Refusal:
        self.state = Socks5State.DONE
        return Refusal(data)


_PARSERS: dict[Socks5State, Callable[[Socks5], Event | None]] = {
    Socks5State.GREETING: Socks5._greeting,
    Socks5State.AUTHENTICATION: Socks5._authentication,
    Socks5State.REQUEST: Socks5._request,
}
