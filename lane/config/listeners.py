"""The ports of a client with a fixed target, here and on the server."""

import ipaddress
from dataclasses import dataclass

from lane.address import Address
from lane.errors import UsageError

_REVERSE = "expected tcp://[HOST]:PORT=HOST:PORT"


@dataclass(frozen=True, slots=True)
class Forward:
    """A local port with one fixed target."""

    scheme: str
    """The protocol: tcp or udp."""
    listen: Address
    target: Address

    @classmethod
    def parse(cls, text: str) -> "Forward":
        """Read `tcp://HOST:PORT=HOST:PORT` or `udp://...`, the listening address first. Raises UsageError."""
        scheme, colon, rest = text.strip().partition("://")
        listen, equals, target = rest.partition("=")
        if not colon or not equals:
            raise UsageError(f"malformed forward {text!r}: expected tcp://HOST:PORT=HOST:PORT or udp://...")
        if scheme.lower() not in ("tcp", "udp"):
            raise UsageError(f"malformed forward {text!r}: only tcp:// and udp:// can be forwarded")
        forward = cls(scheme.lower(), Address.parse(listen), Address.parse(target))
        if not forward.target.host or not forward.target.port:
            raise UsageError(f"malformed forward {text!r}: the target needs a host and a port from 1")
        return forward


@dataclass(frozen=True, slots=True)
class Reverse:
    """A port on the server, with one fixed target near the client."""

    where: Address
    """The server's listening address: an IP address, or `::` for all; port 0: the server picks one."""
    target: Address

    @classmethod
    def parse(cls, text: str) -> "Reverse":
        """Read `tcp://[HOST]:PORT=HOST:PORT`. Without HOST it means all addresses. Raises UsageError."""
        scheme, colon, rest = text.partition("://")
        listen, equals, target = rest.partition("=")
        if not colon or not equals:
            raise UsageError(f"malformed reverse forward {text!r}: {_REVERSE}")
        if scheme.lower() != "tcp":
            raise UsageError(f"malformed reverse forward {text!r}: only tcp:// can be forwarded")
        where, to = Address.parse(listen), Address.parse(target)
        if not to.host or not to.port:
            raise UsageError(f"malformed reverse forward {text!r}: the target needs a host and a port from 1")
        hosts = {"": "::", "*": "::", "localhost": "127.0.0.1"}
        where = where._replace(host=hosts.get(where.host.lower(), where.host))
        try:
            ipaddress.ip_address(where.host)
        except ValueError:
            raise UsageError(f"malformed reverse forward {text!r}: {where.host} is no IP address") from None
        return cls(where, to)


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to a port on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
