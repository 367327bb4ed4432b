"""Where applications enter a client beside its proxy port, and from where they may.

A proxy port asks for a password; ports that know their target by themselves have no way to. So these
listen on loopback only, unless it was said that other machines may use them.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lane.address import Address
from lane.config.option_reader import Options
from lane.errors import UsageError
from lane.values import parse_flag, split

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Forward:
    """A local port that stands for one target."""

    scheme: str
    """What is forwarded: tcp or udp."""
    listen: Address
    target: Address

    @classmethod
    def parse(cls, text: str) -> "Forward":
        """Read `tcp://HOST:PORT=HOST:PORT` or `udp://...`: where to listen, what for. Raises UsageError."""
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


def forwards(options: Options) -> tuple[Forward, ...]:
    """What `--forward` says, checked. Raises UsageError or ConfigError."""
    found = options.optional("forward", lambda texts: _each(texts, Forward.parse)) or ()
    for forward in found:
        _check_reach(options, "forward", forward.listen)
    return found


def redirects(options: Options) -> tuple[Address, ...]:
    """What `--redirect` says, checked. Raises UsageError or ConfigError."""
    found = options.optional("redirect", lambda texts: _each(texts, Address.parse)) or ()
    for listen in found:
        _check_reach(options, "redirect", listen)
    return found


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _each(texts: list[str], parse: Callable[[str], T]) -> tuple[T, ...]:
    """Every value of an option that may be given often, and takes lists."""
    return tuple(parse(part) for text in texts for part in split(text))


def _check_reach(options: Options, name: str, listen: Address) -> None:
    if not is_loopback(listen.host) and not options.required("gateway", parse_flag):
        message = f"{listen} can be reached from other machines, and asks for no password: that needs gateway"
        raise options.error(name, message)
