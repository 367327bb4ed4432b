"""Reverse forwards, as a client's options give them: where the server listens, and what that leads to."""

import ipaddress
from dataclasses import dataclass

from lane.address import Address
from lane.errors import UsageError
from lane.values import split

_FORM = "expected tcp://[HOST]:PORT=HOST:PORT"


@dataclass(frozen=True, slots=True)
class Reverse:
    """A port on the server that stands for one target near the client."""

    where: Address
    """Where the server listens: an IP address, `::` for every one; port 0: the server picks one."""
    target: Address

    @classmethod
    def parse(cls, text: str) -> "Reverse":
        """Read `tcp://[HOST]:PORT=HOST:PORT`, without HOST: every address. Raises UsageError."""
        scheme, colon, rest = text.partition("://")
        listen, equals, target = rest.partition("=")
        if not colon or not equals:
            raise UsageError(f"malformed reverse forward {text!r}: {_FORM}")
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


def parse_reverses(texts: list[str]) -> tuple[Reverse, ...]:
    """All that an option says which may be given often, and takes lists. Raises UsageError."""
    return tuple(Reverse.parse(part) for text in texts for part in split(text))
