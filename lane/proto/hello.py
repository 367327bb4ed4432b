"""The messages of lane/1 before the frames: HELLO, REQUEST and REPLY.

HELLO proves a user's key to the server and says nothing else. A client without a key learns nothing by
probing: the server reads a HELLO only once `HELLO_SIZE` bytes have arrived, and checks prefix, version and
token together. Its first bytes are a reserved HTTP/3 frame (RFC 9114 section 7.2.8) of type 0x40. No HTTP/1
request begins with that byte, so an ordinary web server can share the port.

Each parser takes a buffer and returns the message and its end, or None while bytes are missing.
docs/PROTOCOL.md has the layout and test vectors.
"""

import hmac
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from lane.address import MAX_PACKED, Address, unpack
from lane.errors import ProtocolError, Status
from lane.text import printable

VERSION = 1
PREFIX = b"@@"
TOKEN_SIZE = 32
HELLO_SIZE = 2 + 2 + 1 + TOKEN_SIZE
"""Bytes of a HELLO without padding. The server checks nothing before it has them."""
MAX_HELLO_PADDING = 1024
DEVICE_SIZE = 8
EPOCH_SIZE = 8
MAX_TEXT = 200
MAX_REQUEST_PADDING = 255
ID_SIZE = 16
RESUMABLE = 1
"""The flag of a request whose session has an ID and a generation, and can continue over another stream."""
ANYONE = 2
"""The flag of a UDP request that also accepts packets from addresses to which it sent nothing."""
EARLY = 16384
"""Bytes that a client may send before it knows the server's window: one TLS record."""

_DEVICE = b"\x01"
"""The first byte of a padding that has the device behind it."""
_REQUEST = struct.Struct("!HBBI")  # length of the rest, command, flags, window
_RESUMABLE = struct.Struct("!16sI")  # ID and generation; after the address, if the flag is set
_REPLY = struct.Struct("!HB8sI")  # length of the rest, status, epoch, window; then address, text
MAX_REQUEST = _REQUEST.size + MAX_PACKED + _RESUMABLE.size + MAX_REQUEST_PADDING
MAX_REPLY = _REPLY.size + MAX_PACKED + MAX_TEXT

Buffer = bytes | bytearray | memoryview
NOWHERE = Address("0.0.0.0", 0)
"""The address in a message that has none to tell."""


def token(key: bytes, binding: bytes) -> bytes:
    """The token (32 bytes) that proves `key` on a carrier with `binding`, and on no other.

    It is an HMAC-SHA256 (RFC 2104). So a server with another certificate learns nothing that is valid
    elsewhere.
    """
    return hmac.digest(key, b"lane/1" + binding, "sha256")


def pack_hello(proof: bytes, padding: int = 0, device: bytes = b"") -> bytes:
    """A HELLO with `proof` (from `token`) and `padding` zero bytes (at most MAX_HELLO_PADDING in all).

    The client may say which `device` it is (DEVICE_SIZE bytes). Servers of earlier versions take that for
    padding, and ignore it.
    """
    rest = (_DEVICE + device if device else b"") + bytes(padding)
    length = 1 + TOKEN_SIZE + len(rest)
    return PREFIX + (0x4000 | length).to_bytes(2, "big") + bytes((VERSION,)) + proof + rest


def device_of(hello: Buffer) -> bytes:
    """The device that sent a whole HELLO; empty if it does not say."""
    padding = bytes(hello[HELLO_SIZE : HELLO_SIZE + 1 + DEVICE_SIZE])
    return padding[1:] if len(padding) > DEVICE_SIZE and padding[:1] == _DEVICE else b""


def parse_hello(data: Buffer) -> tuple[bytes, int] | None:
    """The token and the end of the HELLO. The end may lie beyond `data`: the caller skips later padding.

    None until HELLO_SIZE bytes are there, whatever they are. Raises ProtocolError if they are not a HELLO.
    """
    if len(data) < HELLO_SIZE:
        return None
    length = int.from_bytes(data[2:4], "big") ^ 0x4000
    if (
        bytes(data[:2]) != PREFIX
        or not 1 + TOKEN_SIZE <= length <= 1 + TOKEN_SIZE + MAX_HELLO_PADDING
        or data[4] != VERSION
    ):
        raise ProtocolError("not a HELLO of lane/1")
    return bytes(data[5:HELLO_SIZE]), 4 + length


class Command(IntEnum):
    """The commands of a REQUEST."""

    CONNECT = 1
    """Connect to the address. After a successful REPLY the stream carries frames."""
    PING = 2
    """Only send a REPLY, which proves that the key and the server work. The address is ignored."""
    RESUME = 3
    """Continue the session with this ID. The address is ignored."""
    PROBE = 4
    """Send a REPLY, and then answer each PING frame until the stream ends. The address is ignored."""
    UDP = 5
    """Carry packets to and from any address (see `lane.proto.udp`). The address is ignored."""
    BIND = 6
    """Open a port for one connection from the address. The peer's address comes first in the data."""
    REVERSE = 7
    """Accept one connection to the server's port at the address. The peer's address comes first too."""
    MEASURE = 8
    """Speak with the server itself (see `lane.server.measuring`). The address is ignored."""


@dataclass(frozen=True, slots=True)
class Request:
    """The only request of a stream. `window` is the number of bytes that the client accepts at first."""

    command: int
    address: Address
    window: int
    flags: int = 0
    """RESUMABLE and ANYONE. A server refuses a request with any other flag, since it is unknown."""
    session: bytes = b""
    """With RESUMABLE: the session's ID, ID_SIZE random bytes that the client chose."""
    generation: int = 0
    """With RESUMABLE: a number that grows with each request for the session. It reveals late requests."""

    def pack(self) -> bytes:
        """The bytes of the message, with 0 to 255 bytes of random padding, which hides its length."""
        random = os.urandom(256)
        padding = random[: random[255]]
        resumable = _RESUMABLE.pack(self.session, self.generation) if self.flags & RESUMABLE else b""
        rest = self.address.pack() + resumable + padding
        length = _REQUEST.size - 2 + len(rest)
        return _REQUEST.pack(length, self.command, self.flags, self.window) + rest

    def freeze(self) -> list[Any]:
        """It as a plain value, for another process."""
        address = [*self.address]
        return [self.command, address, self.window, self.flags, self.session, self.generation]

    @classmethod
    def thaw(cls, frozen: list[Any]) -> "Request":
        """The request of `freeze`."""
        command, address, *rest = frozen
        return cls(command, Address(*address), *rest)


def parse_request(data: Buffer) -> tuple[Request, int] | None:
    """The Request and its end. Raises ProtocolError."""
    end = _message_end(data, _REQUEST.size, MAX_REQUEST)
    if end is None:
        return None
    _, command, flags, window = _REQUEST.unpack_from(data)
    address, used = _address(data[_REQUEST.size : end])
    session, generation = b"", 0
    if flags & RESUMABLE:
        if end - _REQUEST.size - used < _RESUMABLE.size:
            raise ProtocolError("a session without id and generation")
        session, generation = _RESUMABLE.unpack_from(data, _REQUEST.size + used)
    return Request(command, address, window, flags, session, generation), end


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a Request. `window` is the number of bytes that the server accepts at first."""

    status: int
    """A value of `lane.errors.Status`; an unknown one means FAILURE."""
    server_epoch: bytes
    """8 random bytes, chosen at the start of the server process: the boot ID of PROTOCOL.md.

    No session outlives that process, unless another one goes on with all of them, and with the epoch."""
    window: int
    bound: Address
    """The server's own address of its connection to the target, or the address of the requested port."""
    text: str = ""
    """The failure as text for users, at most 200 bytes of UTF-8."""

    def pack(self) -> bytes:
        """The bytes of the message."""
        rest = self.bound.pack() + self.text.encode()[:MAX_TEXT]
        return _REPLY.pack(_REPLY.size - 2 + len(rest), self.status, self.server_epoch, self.window) + rest

    @property
    def verdict(self) -> Status:
        """The status; FAILURE if this version does not know it."""
        try:
            return Status(self.status)
        except ValueError:
            return Status.FAILURE


def parse_reply(data: Buffer) -> tuple[Reply, int] | None:
    """The Reply and its end. Raises ProtocolError."""
    end = _message_end(data, _REPLY.size, MAX_REPLY)
    if end is None:
        return None
    _, status, server_epoch, window = _REPLY.unpack_from(data)
    body = data[_REPLY.size : end]
    bound, used = _address(body)
    text = bytes(body[used:]).decode(errors="replace")
    return Reply(status, server_epoch, window, bound, printable(text)), end


def _message_end(data: Buffer, least: int, most: int) -> int | None:
    """The end of the length-prefixed message at the start of `data`; None while bytes are missing."""
    if len(data) < 2:
        return None
    end = 2 + int.from_bytes(data[:2], "big")
    if not least < end <= most:
        raise ProtocolError(f"a message of {end} bytes where {least + 1} to {most} are allowed")
    return end if len(data) >= end else None


def _address(body: Buffer) -> tuple[Address, int]:
    found = unpack(body)
    if found is None:
        raise ProtocolError("an address that is longer than its message")
    return found
