"""The server's side of SOCKS4 and SOCKS4a, without I/O.

Some old and small programs speak only this. SOCKS4 has only IPv4 addresses. In SOCKS4a the invalid address
0.0.0.x means that a name follows. There is a user ID, which proves nothing, and no password. So SOCKS4 is
refused if credentials are required. The user ID and the name end with a NUL and have no length, so they
have a limit here.
"""

from collections.abc import Callable

from lane.address import ATYP_IPV4, ATYP_NAME, Address, unpack
from lane.errors import ProtocolError, Status
from lane.proto.events import BindRequest, ConnectRequest, Credentials, Event, Refusal

VERSION = 4
CONNECT, BIND = 1, 2
GRANTED, FAILED, USER_ID_REFUSED = 90, 91, 93
MAX_TEXT = 255
"""The longest user ID or name, bytes, without its NUL."""

_HEAD = 8  # VN, CD, DSTPORT, DSTIP
_COMMANDS: dict[int, Callable[[Address], ConnectRequest | BindRequest]] = {
    CONNECT: ConnectRequest,
    BIND: BindRequest,
}


class Socks4:
    """A `lane.proto.events.Codec`. With `credentials` it refuses every request."""

    login = None  # a user ID is not an attempt at a password

    def __init__(self, credentials: Credentials | None = None) -> None:
        self._closed = credentials is not None
        self._done = False
        self._buffer = bytearray()

    @property
    def trailing_data(self) -> bytes:
        """The bytes received after the request."""
        return bytes(self._buffer)

    def receive(self, data: bytes) -> None:
        """Add bytes from the application."""
        self._buffer += data

    def next_event(self) -> Event | None:
        """The only event, or None. Raises ProtocolError for another version."""
        data = self._buffer
        if self._done or not data:
            return None
        if data[0] != VERSION:
            raise ProtocolError(f"SOCKS4: version {data[0]} where {VERSION} was expected")
        try:
            found = _request(data)
        except ProtocolError:
            return self._end(FAILED)
        if found is None:
            return None
        command, address, end = found
        if self._closed:
            return self._end(USER_ID_REFUSED)
        if command not in _COMMANDS:
            return self._end(FAILED)
        del data[:end]
        self._done = True
        return _COMMANDS[command](address)

    def accepted(self, bound: Address) -> bytes:
        """The reply with GRANTED. It has no room for an IPv6 address, which becomes 0.0.0.0."""
        packed = bound.pack()
        address = packed[1:5] if packed[0] == ATYP_IPV4 else bytes(4)
        return bytes((0, GRANTED)) + packed[-2:] + address

    def refused(self, status: Status, text: str = "") -> bytes:
        """The reply with FAILED. SOCKS4 has no room for more."""
        return _failure(FAILED)

    def _end(self, code: int) -> Refusal:
        self._done = True
        return Refusal(_failure(code))


def _failure(code: int) -> bytes:
    return bytes((0, code)) + bytes(6)


def _request(data: bytearray) -> tuple[int, Address, int] | None:
    """The command, the address and the end; None while bytes are missing. Raises ProtocolError."""
    if len(data) < _HEAD:
        return None
    middle = _text_end(data, _HEAD)
    if middle is None:
        return None
    port, host = bytes(data[2:4]), bytes(data[4:8])
    if host[:3] != bytes(3) or not host[3]:
        return data[1], Address(".".join(map(str, host)), int.from_bytes(port, "big")), middle
    end = _text_end(data, middle)
    if end is None:
        return None
    name = bytes(data[middle : end - 1])
    found = unpack(bytes((ATYP_NAME, len(name))) + name + port)
    assert found is not None
    return data[1], found[0], end


def _text_end(data: bytearray, start: int) -> int | None:
    """The end of the text that begins at `start`, including its NUL; None while that is missing."""
    nul = data.find(0, start, start + MAX_TEXT + 1)
    if nul >= 0:
        return nul + 1
    if len(data) > start + MAX_TEXT:
        raise ProtocolError(f"a text of more than {MAX_TEXT} bytes")
    return None
