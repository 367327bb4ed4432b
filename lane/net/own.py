"""Where this process listens and what it dials: what it carries must not lead back into itself.

It would go round, with new sockets each time, until no descriptor is left. A target where it listens itself
is refused before it is dialled. What the kernel redirects here has another target: so each connection that
came is also compared with those that were made.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from lane.address import Address, unmapped
from lane.errors import Status, TargetError
from lane.net.here import is_here

TCP, UDP, REVERSE = "tcp", "udp", "reverse"
"""What must not be led to a port: connections, packets, connections of reverse forwards. The proxy port may
be the target of a reverse forward: where it goes from there is up to the application."""


class OwnPort:
    """A port that is listened on for as long as this object is kept. `kinds`: what must not lead there."""

    def __init__(self, address: Address, *kinds: str) -> None:
        self.address = address
        self.kinds = kinds
        self._beside = _ports.setdefault(address.port, WeakSet())  # kept by those who are in it
        self._beside.add(self)


_ports: WeakValueDictionary[int, WeakSet[OwnPort]] = WeakValueDictionary()
_dialled: WeakValueDictionary[tuple[str, int, str, int], Any] | None = None  # while nobody wants to know


def remember_dials() -> None:
    """From now on: for `is_dialled`."""
    global _dialled
    _dialled = WeakValueDictionary() if _dialled is None else _dialled


def refuse_own(kind: str, address: IPv4Address | IPv6Address, port: int) -> None:
    """Raise TargetError (NOT_ALLOWED) for a target where this process listens."""
    if any(kind in own.kinds and _reaches(address, own.address.host) for own in _ports.get(port, ())):
        raise TargetError(Status.NOT_ALLOWED, "not allowed: lane itself listens there")


def dialled(sock: Any, here: tuple[Any, ...], address: IPv4Address | IPv6Address, port: int) -> None:
    """Remember a connection from `here` to an address until it is let go of, where somebody wants to know."""
    if _dialled is not None:
        _dialled[*_plain(here), *_plain((str(address), port))] = sock


def is_dialled(peer: tuple[Any, ...], target: Address) -> bool:
    """Whether a connection that came here from `peer`, and was to go to `target`, was made by this process.

    The port of `peer` alone does not tell: it may be used towards other targets at the same time.
    """
    found = None if _dialled is None else _dialled.get((*_plain(peer), *_plain(target)))
    return found is not None and found.fileno() >= 0


def _plain(where: tuple[Any, ...]) -> tuple[str, int]:
    """Without what differs between a socket of IPv4 and one that takes IPv4, too."""
    return unmapped(ip_address(where[0].partition("%")[0])).compressed, where[1]


def _reaches(address: IPv4Address | IPv6Address, host: str) -> bool:
    """Whether who dials `address` comes out at what listens on `host`."""
    address = unmapped(address)
    try:
        listening = unmapped(ip_address(host.partition("%")[0])) if host else None
    except ValueError:
        return False
    if listening is not None and not listening.is_unspecified:
        # Linux connects to loopback who asks for the unspecified address.
        return address == listening or (address.is_unspecified and listening.is_loopback)
    if listening is not None and listening.version == 4 and address.version == 6:
        return False
    return is_here(address)
