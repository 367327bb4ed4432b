"""lane/1 before the frames: HELLO, REQUEST and REPLY, as bytes.

HELLO proves a user's key to the server and says nothing else. It is built so that a stranger learns
nothing by trying: the server looks at it only once `HELLO_SIZE` bytes are there, and judges prefix,
version and token together. Its first bytes are a reserved HTTP/3 frame (RFC 9114 section 7.2.8) of type
0x40, which no HTTP/1 request can begin with, so that an ordinary web server can stand on the same port.

The parsers take a buffer and give the message and where it ends, or None while bytes are missing.
docs/PROTOCOL.md has the layout and test vectors.
"""

import hmac
import os
import struct
from dataclasses import dataclass
from enum import IntEnum

from lane.address import MAX_PACKED, Address, unpack
from lane.errors import ProtocolError, Status
from lane.text import printable

VERSION = 1
PREFIX = b"@@"
TOKEN_SIZE = 32
HELLO_SIZE = 2 + 2 + 1 + TOKEN_SIZE
"""Bytes of a HELLO without padding: what the server waits for before it judges anything."""
MAX_HELLO_PADDING = 1024
BOOT_ID_SIZE = 8
MAX_TEXT = 200
MAX_REQUEST_PADDING = 255
ID_SIZE = 16
RESUMABLE = 1
"""The flag of a request whose session has an id and a generation, and may go on over another stream."""
ANYONE = 2
"""The flag of a UDP request that wants packets from addresses to which it sent nothing, too."""
EARLY = 16384
"""Bytes that a client may send before it knows the server's window, whatever that will be: one TLS record."""

_REQUEST = struct.Struct("!HBBI")  # length of what follows, command, flags, window
_RESUMABLE = struct.Struct("!16sI")  # id and generation; behind the address, where the flag is set
_REPLY = struct.Struct("!HB8sI")  # length of what follows, status, boot id, window; then address, text
MAX_REQUEST = _REQUEST.size + MAX_PACKED + _RESUMABLE.size + MAX_REQUEST_PADDING
MAX_REPLY = _REPLY.size + MAX_PACKED + MAX_TEXT

Buffer = bytes | bytearray | memoryview


def token(key: bytes, binding: bytes) -> bytes:
    """What proves `key` on a carrier with `binding`, and on no other: 32 bytes.

    HMAC-SHA256 (RFC 2104), so that a server whose certificate is not the pinned one learns nothing
    that works anywhere else.
    """
    return hmac.digest(key, b"lane/1" + binding, "sha256")


def pack_hello(proof: bytes, padding: int = 0) -> bytes:
    """HELLO with `proof` (from `token`) and `padding` zero bytes (at most MAX_HELLO_PADDING)."""
    length = 1 + TOKEN_SIZE + padding
    return PREFIX + (0x4000 | length).to_bytes(2, "big") + bytes((VERSION,)) + proof + bytes(padding)


def parse_hello(data: Buffer) -> tuple[bytes, int] | None:
    """The token, and where the HELLO ends (which may be beyond `data`: padding is skipped when it comes).

    None until HELLO_SIZE bytes are there, whatever they are. Raises ProtocolError for what is no HELLO.
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
    """What a REQUEST asks for."""

    CONNECT = 1
    """A connection to the address; after a good REPLY the stream carries frames."""
    PING = 2
    """Nothing but a REPLY, which proves key and server; the address is ignored. The stream ends with it."""
    RESUME = 3
    """Go on with the session that has the id; the address is ignored."""
    PROBE = 4
    """A REPLY, and then an answer to each PING frame, until the stream ends; the address is ignored."""
    UDP = 5
    """Packets to and from any address (see `lane.proto.udp`); the one of the request is ignored."""
    BIND = 6
    """A port for one connection from the address, whose peer comes first in the session's data."""
    REVERSE = 7
    """One of the connections to a port at the address, on the server; its peer comes first in the data."""


@dataclass(frozen=True, slots=True)
class Request:
    """The one request of a stream. `window`: bytes that the client takes before its first ACK."""

    command: int
    address: Address
    window: int
    flags: int = 0
    """RESUMABLE and ANYONE: a server refuses a request with another flag, whose meaning it can't know."""
    session: bytes = b""
    """With RESUMABLE: what the client calls the session, ID_SIZE bytes that nobody else would guess."""
    generation: int = 0
    """With RESUMABLE: greater with each request for the session, so that one which is late is known."""

    def pack(self) -> bytes:
        """The bytes, with 0 to 255 bytes of random padding, so that lengths tell less."""
        random = os.urandom(256)
        padding = random[: random[255]]
        resumable = _RESUMABLE.pack(self.session, self.generation) if self.flags & RESUMABLE else b""
        rest = self.address.pack() + resumable + padding
        length = _REQUEST.size - 2 + len(rest)
        return _REQUEST.pack(length, self.command, self.flags, self.window) + rest


def parse_request(data: Buffer) -> tuple[Request, int] | None:
    """A Request and where it ends. Raises ProtocolError."""
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
    """The answer to a Request. `window`: bytes that the server takes before its first ACK."""

    status: int
    """Of `lane.errors.Status`; an unknown one means FAILURE."""
    boot_id: bytes
    """8 random bytes, made when the server process started: sessions live no longer than they do."""
    window: int
    bound: Address
    """The address that the server reached the target from; of a port, where it may be connected to."""
    text: str = ""
    """For people: what failed, at most 200 bytes of UTF-8."""

    def pack(self) -> bytes:
        """The bytes."""
        rest = self.bound.pack() + self.text.encode()[:MAX_TEXT]
        return _REPLY.pack(_REPLY.size - 2 + len(rest), self.status, self.boot_id, self.window) + rest

    @property
    def verdict(self) -> Status:
        """The status, FAILURE where this version does not know it."""
        try:
            return Status(self.status)
        except ValueError:
            return Status.FAILURE


def parse_reply(data: Buffer) -> tuple[Reply, int] | None:
    """A Reply and where it ends. Raises ProtocolError."""
    end = _message_end(data, _REPLY.size, MAX_REPLY)
    if end is None:
        return None
    _, status, boot_id, window = _REPLY.unpack_from(data)
    body = data[_REPLY.size : end]
    bound, used = _address(body)
    text = bytes(body[used:]).decode(errors="replace")
    return Reply(status, boot_id, window, bound, printable(text)), end


def _message_end(data: Buffer, least: int, most: int) -> int | None:
    """Where the length-prefixed message at the start of `data` ends; None while bytes are missing."""
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
