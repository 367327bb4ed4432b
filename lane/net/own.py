"""The ports that this process listens on and the connections it dials, to keep traffic from looping back.

A loop would open new sockets on each round until no descriptor is left. So a target that is a port of this
process is refused before it is dialled. Traffic that the kernel redirects here has a different target. So
each redirected connection is also compared with the connections that this process dialled.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from lane.address import Address, unmapped
from lane.errors import Status, TargetError
from lane.net.here import is_here

TCP = "tcp"
"""A kind of traffic that a port can refuse: connections of applications."""
UDP = "udp"
"""A kind of traffic that a port can refuse: packets of applications."""
REVERSE = "reverse"
"""A kind of traffic that a port can refuse: connections of reverse forwards.

The proxy port accepts these. The application at the other end then chooses the target.
"""


class OwnPort:
    """A port that this process listens on, for as long as this object exists. `kinds`: what it refuses."""

    def __init__(self, address: Address, *kinds: str) -> None:
        self.address = address
        self.kinds = kinds
        self._beside = _ports.setdefault(address.port, WeakSet())  # kept alive by its members
        self._beside.add(self)


_ports: WeakValueDictionary[int, WeakSet[OwnPort]] = WeakValueDictionary()
_dialled: WeakValueDictionary[tuple[str, int, str, int], Any] | None = None  # None until `remember_dials`


def remember_dials() -> None:
    """Start to record dialled connections, for `is_dialled`."""
    global _dialled
    _dialled = WeakValueDictionary() if _dialled is None else _dialled


def refuse_own(kind: str, address: IPv4Address | IPv6Address, port: int) -> None:
    """Raise TargetError (NOT_ALLOWED) if the target is a port of this process that refuses `kind`."""
    if any(kind in own.kinds and _reaches(address, own.address.host) for own in _ports.get(port, ())):
        raise TargetError(Status.NOT_ALLOWED, "not allowed: lane itself listens there")


def dialled(sock: Any, here: tuple[Any, ...], address: IPv4Address | IPv6Address, port: int) -> None:
    """Record the dialled connection from `here` to an address, until its socket is released.

    Does nothing before `remember_dials`.
    """
    if _dialled is not None:
        _dialled[*_plain(here), *_plain((str(address), port))] = sock


def is_dialled(peer: tuple[Any, ...], target: Address) -> bool:
    """Whether this process dialled the connection that arrived from `peer` with the original target `target`.

    The port of `peer` alone does not prove that: it may be in use towards other targets at the same time.
    """
    found = None if _dialled is None else _dialled.get((*_plain(peer), *_plain(target)))
    return found is not None and found.fileno() >= 0


def _plain(where: tuple[Any, ...]) -> tuple[str, int]:
    """A socket address without the differences between an IPv4 socket and a dual-stack one."""
    return unmapped(ip_address(where[0].partition("%")[0])).compressed, where[1]


def _reaches(address: IPv4Address | IPv6Address, host: str) -> bool:
    """Whether a connection to `address` reaches a socket that listens on `host`."""
    address = unmapped(address)
    try:
        listening = unmapped(ip_address(host.partition("%")[0])) if host else None
    except ValueError:
        return False
    if listening is not None and not listening.is_unspecified:
        # Linux sends a connection to the unspecified address to loopback.
        return address == listening or (address.is_unspecified and listening.is_loopback)
    if listening is not None and listening.version == 4 and address.version == 6:
        return False
    return is_here(address)
