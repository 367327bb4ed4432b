"""Addresses of endpoints and targets: the text form `host:port`, and the SOCKS5 form on the wire.

Inbounds, the wire protocol and egress use the same type. So a name stays a name from the application to the
server's resolver, and the limits (255 bytes for a name, 16 bits for a port) are checked in one place.
"""

import ipaddress
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from lane.errors import ProtocolError, UsageError
from lane.memo import remembered

ATYP_IPV4, ATYP_NAME, ATYP_IPV6 = 1, 3, 4
MAX_PACKED = 1 + 1 + 255 + 2
"""The longest packed address, bytes."""
KNOWN = 1024
"""Addresses whose forms are remembered. Each connection, and each packet, asks for them several times."""


class Address(NamedTuple):
    """A host (a name, or an IP address in its shortest text form) and a port (0 to 65535)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, default_port: int | None = None) -> "Address":
        """Read `host:port`, `[v6]:port` or, with `default_port`, `host` alone. Raises UsageError."""
        if "://" in text:
            raise UsageError(
                f"malformed address: expected HOST:PORT, without {text.partition('://')[0].strip()}://"
            )
        if text.strip().isdecimal() and default_port is None:
            raise UsageError(f"malformed address {text!r}: a port alone is written :{text.strip()}")
        host, colon, port = text.strip().rpartition(":")
        if text.strip().startswith("["):
            inside, bracket, rest = text.strip()[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise UsageError(f"malformed address {text!r}: expected [IPV6]:PORT")
            host, colon, port = inside, rest[:1], rest[1:]
        elif ":" in host:
            raise UsageError(f"malformed address {text!r}: an IPv6 address needs brackets, [IPV6]:PORT")
        elif not colon:
            host = text.strip()
        if not colon:
            if default_port is None:
                raise UsageError(f"malformed address {text!r}: expected HOST:PORT")
            port = str(default_port)
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 0xFFFF):
            raise UsageError(f"malformed address {text!r}: the port must be 0 to 65535")
        if len(host.encode()) > 255 or any(c.isspace() or not c.isprintable() for c in host):
            raise UsageError(f"malformed address {text!r}: that is no host name")
        return cls(normal_host(host), int(port))

    def pack(self) -> bytes:
        """The SOCKS5 form (RFC 1928 section 4): ATYP, address, port. A name is not changed."""
        return _packed(self)


@remembered(KNOWN)
def _packed(address: Address) -> bytes:
    port = address.port.to_bytes(2, "big")
    for family, atyp in ((socket.AF_INET, ATYP_IPV4), (socket.AF_INET6, ATYP_IPV6)):
        try:
            return bytes((atyp,)) + socket.inet_pton(family, address.host) + port
        except OSError:
            continue
    name = address.host.encode()
    return struct.pack("!BB", ATYP_NAME, len(name)) + name + port


@remembered(KNOWN)
def normal_host(host: str) -> str:
    """The shortest text of an IP address. An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) becomes IPv4.

    A name is not changed. Neither is an address with a scope, which is sent as a name: its shortest text
    (RFC 5952 section 4) can be one byte longer than the given text, and then too long for a name.
    """
    try:
        return host if "%" in host else unmapped(ipaddress.ip_address(host)).compressed
    except ValueError:
        return host


def unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address in an IPv4-mapped address (RFC 4291 section 2.5.5.2); other addresses unchanged."""
    if isinstance(address, IPv6Address) and address.scope_id is None:
        return address.ipv4_mapped or address
    return address


def unpack(data: bytes | bytearray | memoryview, start: int = 0) -> tuple[Address, int] | None:
    """Read a SOCKS5 address at `start`. Return it and its end, or None while bytes are missing.

    Raises ProtocolError for an unknown address type, an empty name or one that is not printable UTF-8.
    """
    if len(data) < start + 2:
        return None
    atyp = data[start]
    if atyp == ATYP_IPV4:
        end = start + 7
    elif atyp == ATYP_IPV6:
        end = start + 19
    elif atyp == ATYP_NAME:
        end = start + 4 + data[start + 1]
    else:
        raise ProtocolError(f"unknown address type {atyp}")
    if len(data) < end:
        return None
    return _unpacked(bytes(data[start:end])), end


@remembered(KNOWN)
def _unpacked(packed: bytes) -> Address:
    """The address with this SOCKS5 form, which is whole. Raises ProtocolError."""
    port = int.from_bytes(packed[-2:], "big")
    if packed[0] != ATYP_NAME:
        return Address(unmapped(ipaddress.ip_address(packed[1:-2])).compressed, port)
    try:
        host = packed[2:-2].decode()
    except UnicodeDecodeError:
        raise ProtocolError("a host name that is not UTF-8") from None
    if not host or any(c.isspace() or not c.isprintable() for c in host):
        raise ProtocolError("a host name that is empty or not printable")
    return Address(normal_host(host), port)
