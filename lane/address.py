"""Addresses of endpoints and targets: the text form `host:port`, and the SOCKS5 form on the wire.

Inbounds, the wire protocol and egress use the same type. So a name stays a name from the application to the
server's resolver, and the limits (255 bytes for a name, 16 bits for a port) are checked in one place.
"""

import ipaddress
import socket
import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from lane.errors import ProtocolError, UsageError

ATYP_IPV4, ATYP_NAME, ATYP_IPV6 = 1, 3, 4
MAX_PACKED = 1 + 1 + 255 + 2
"""The longest packed address, bytes."""
KNOWN = 1024
"""Hosts whose forms are remembered. Each connection, and each packet, asks for them several times."""


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
        return _packed_host(self.host) + self.port.to_bytes(2, "big")


@lru_cache(maxsize=KNOWN)
def _packed_host(host: str) -> bytes:
    """The SOCKS5 form of an address, without the port."""
    for family, atyp in ((socket.AF_INET, ATYP_IPV4), (socket.AF_INET6, ATYP_IPV6)):
        try:
            return bytes((atyp,)) + socket.inet_pton(family, host)
        except OSError:
            continue
    name = host.encode()
    return struct.pack("!BB", ATYP_NAME, len(name)) + name


@lru_cache(maxsize=KNOWN)
def _host_of_packed(raw: bytes) -> str:
    """The text of an IP address of 4 or 16 bytes."""
    return unmapped(ipaddress.ip_address(raw)).compressed


@lru_cache(maxsize=KNOWN)
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
    body = start + 1
    if atyp == ATYP_IPV4:
        end = body + 4
    elif atyp == ATYP_IPV6:
        end = body + 16
    elif atyp == ATYP_NAME:
        body += 1
        end = body + data[start + 1]
    else:
        raise ProtocolError(f"unknown address type {atyp}")
    if len(data) < end + 2:
        return None
    raw = bytes(data[body:end])
    if atyp == ATYP_NAME:
        try:
            host = raw.decode()
        except UnicodeDecodeError:
            raise ProtocolError("a host name that is not UTF-8") from None
        if not host or any(c.isspace() or not c.isprintable() for c in host):
            raise ProtocolError("a host name that is empty or not printable")
        host = normal_host(host)
    else:
        host = _host_of_packed(raw)
    return Address(host, int.from_bytes(data[end : end + 2], "big")), end + 2
