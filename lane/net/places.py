"""Places for peers that have not authenticated yet, shared so that no address keeps the others out.

Anybody may connect, and each connection costs something until the peer has authenticated. So places are
limited, and counted by address. When all places are taken, a newcomer still gets one: the address with the
most places loses its oldest peer, a silent one first. So an address that takes all places only displaces its
own peers.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from lane.address import unmapped
from lane.memo import remembered

IPV6_PREFIX = 64
"""Bits of an IPv6 address that identify a network. One customer has all of its addresses (RFC 6177)."""

Guest = TypeVar("Guest")


@remembered(1024)  # each connection asks several times
def network(host: str) -> str:
    """The network that an IP address is counted under: an IPv4 address as itself, an IPv6 one as its /64.

    Any other text stays as it is.
    """
    try:
        address = unmapped(ipaddress.ip_address(host))
    except ValueError:
        return host
    if address.version == 4:
        return address.compressed
    return str(ipaddress.ip_network((int(address), IPV6_PREFIX), strict=False))


class _Network(Generic[Guest]):
    """The peers from one network, the oldest first."""

    __slots__ = ("rank", "silent", "speaking")

    def __init__(self) -> None:
        self.silent: OrderedDict[Guest, None] = OrderedDict()
        self.speaking: OrderedDict[Guest, None] = OrderedDict()
        self.rank = (0, False)
        """The number of peers, and whether one of them is silent: see `Places._file`."""

    def __len__(self) -> int:
        return len(self.silent) + len(self.speaking)

    def oldest(self) -> Guest:
        """The peer that loses its place first: the oldest silent one, or else the oldest."""
        return next(iter(self.silent or self.speaking))


class Places(Generic[Guest]):
    """At most `most` places. Each method takes constant time, unless its docstring says otherwise.

    Which network has the most peers is only kept up to date once all places were taken, until half of them
    are free: most of the time nobody needs to know. So finding it out takes constant time on average.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._networks: dict[str, _Network[Guest]] = {}
        self._homes: dict[Guest, str] = {}
        self._ranks: dict[tuple[int, bool], OrderedDict[str, None]] = {}  # each in order of entry
        self._ranked = False  # whether `_ranks` is up to date
        self._top = 0  # the most peers of any network

    def __len__(self) -> int:
        return len(self._homes)

    def __contains__(self, guest: Guest) -> bool:
        return guest in self._homes

    def __iter__(self) -> Iterator[Guest]:
        """All present peers, the oldest first."""
        return iter(list(self._homes))

    def enter(self, guest: Guest, host: str) -> Guest | None:
        """Give a place to `guest`, a peer from `host`. Return the peer that lost its place, if any.

        That peer has already left the table; the caller must disconnect it.
        """
        name = network(host)
        lost = self._least_welcome(name) if len(self) >= self._most else None
        if lost is not None:
            self.leave(lost)
        self._homes[guest] = name
        if (home := self._networks.get(name)) is None:
            home = self._networks[name] = _Network()
        home.silent[guest] = None
        self._changed(name, home)
        return lost

    def speaks(self, guest: Guest) -> None:
        """Record that `guest` has sent something."""
        if (name := self._homes.get(guest)) is not None:
            home = self._networks[name]
            if guest in home.silent:
                del home.silent[guest]
                home.speaking[guest] = None
                self._changed(name, home)

    def leave(self, guest: Guest) -> bool:
        """Free the place of `guest`. Return whether it had one."""
        name = self._homes.pop(guest, None)
        if name is None:
            return False
        home = self._networks[name]
        del (home.silent if guest in home.silent else home.speaking)[guest]
        self._changed(name, home)
        return True

    def count_of(self, host: str) -> int:
        """The number of peers from the network of `host`."""
        home = self._networks.get(network(host))
        return len(home) if home else 0

    def oldest(self) -> Guest | None:
        """The oldest peer of all; None if there is none."""
        return next(iter(self._homes), None)

    def oldest_of_fewest(self, elsewhere: Callable[[str], int]) -> Guest | None:
        """The first peer to go of the network with the fewest peers; None if there is none.

        Takes time linear in the number of networks. `elsewhere`: how many further peers count for a network.
        """

        def count(name: str) -> int:
            return len(self._networks[name]) + elsewhere(name)

        return self._networks[min(self._networks, key=count)].oldest() if self._networks else None

    def oldest_of(self, host: str) -> Guest | None:
        """The first peer to go of the network of `host`; None if there is none."""
        home = self._networks.get(network(host))
        return home.oldest() if home else None

    def _least_welcome(self, newcomer: str) -> Guest:
        """The peer that makes room for a newcomer from the network `newcomer`."""
        if not self._ranked:
            self._ranked = True
            for name, home in self._networks.items():
                self._file(name, home)
        own = self._networks.get(newcomer)
        if own is not None and len(own) >= self._top:
            return own.oldest()
        fullest = self._ranks.get((self._top, True)) or self._ranks[self._top, False]
        return self._networks[next(iter(fullest))].oldest()

    def _changed(self, name: str, home: _Network[Guest]) -> None:
        """Have a network under the rank that it has now. One without peers is forgotten."""
        if self._ranked:
            self._file(name, home)
            if len(self) < self._most / 2:
                self._forget_ranks()
        if not (home.silent or home.speaking):
            del self._networks[name]

    def _forget_ranks(self) -> None:
        for home in self._networks.values():
            home.rank = (0, False)
        self._ranks.clear()
        self._ranked, self._top = False, 0

    def _file(self, name: str, home: _Network[Guest]) -> None:
        old, rank = home.rank, (len(home), bool(home.silent))
        if rank == old:
            return
        home.rank, ranks = rank, self._ranks
        if old[0]:
            del ranks[old][name]
            if not ranks[old]:
                del ranks[old]
        if rank in ranks:
            ranks[rank][name] = None
        elif rank[0]:
            ranks[rank] = OrderedDict.fromkeys((name,))
        top = max(self._top, rank[0])
        while top and (top, True) not in ranks and (top, False) not in ranks:
            top -= 1
        self._top = top
