"""What was learnt of the path to each peer, by any transport: a new connection can begin with it.

A connection that finds the rate of its path from nothing needs several round trips. RFC 9959 (Careful Resume)
says how one may use what an earlier connection found; `lane_quic.congestion.careful_resume` does it. The
transports share this memory because they share the paths: what TLS has found is as good for QUIC.

The memory is counted by network, as strangers are (`lane.net.places`). Only transfers that the network limits
enter it, which takes a key, and it is bounded anyway. A client forgets all of it when its network changes.
"""

from collections import OrderedDict
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import NamedTuple

from lane import census
from lane.net.places import network

MOST = 4096
"""Peers that are remembered. Beyond that, the one whose path was learnt longest ago is forgotten."""
LIFETIME = 3600.0
"""Seconds for which a path is remembered. Others may have come to share it since (RFC 9959)."""


class PathFigures(NamedTuple):
    """The measurements of a path, from one side to the other."""

    rate: float
    """Delivery rate while the network limited it, bytes a second."""
    rtt: float
    """The shortest round trip, seconds."""
    loss: float = 0.0
    """Fraction (0 to 1) of the packets that are lost at any rate."""
    at: float = 0.0
    """When it was learnt, by the clock of the memory."""


class KnownPath:
    """What a memory has of the path to one peer."""

    __slots__ = ("_key", "_memory")

    def __init__(self, memory: "PathMemory", key: str) -> None:
        self._memory, self._key = memory, key

    @property
    def figures(self) -> PathFigures | None:
        """The figures; None if none are known, or they are too old."""
        return self._memory.find(self._key)

    def take(self) -> PathFigures | None:
        """The figures, which are forgotten: only one connection at a time tries whether they still hold.

        It brings them back with `learn` or `bring_back`.
        """
        figures = self.figures
        self._memory.forget(self._key)
        return figures

    def learn(self, rate: float, rtt: float, loss: float | None = None, *, least: bool = False) -> None:
        """Replace the figures by new ones: see `PathFigures`. A `loss` of None leaves the one that is known.

        `least`: the path has at least this rate. Then a higher one that is known stays, as old as it is.
        """
        known, now = self.figures, self._memory.clock()
        if known is None:
            figures = PathFigures(rate, rtt, loss or 0.0, now)
        else:
            loss = known.loss if loss is None else loss
            higher = least and known.rate > rate
            figures = known._replace(loss=loss) if higher else PathFigures(rate, rtt, loss, now)
        self._memory.keep(self._key, figures)

    def bring_back(self, figures: PathFigures) -> None:
        """Remember `figures`, which grow no younger by it, unless a higher rate is known."""
        known = self.figures
        if known is None or known.rate < figures.rate:
            self._memory.keep(self._key, figures)


class PathMemory:
    """The figures of at most `most` paths. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic, most: int = MOST) -> None:
        self.clock = clock
        self._most = most
        self._paths: OrderedDict[str, PathFigures] = OrderedDict()
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"paths": len(self._paths)}

    def to(self, peer: str) -> KnownPath:
        """The path to the network of `peer`, an IP address."""
        return KnownPath(self, network(peer))

    def find(self, key: str) -> PathFigures | None:
        """The figures of a network, unless they are too old."""
        figures = self._paths.get(key)
        if figures is not None and self.clock() - figures.at > LIFETIME:
            del self._paths[key]
            return None
        return figures

    def keep(self, key: str, figures: PathFigures) -> None:
        """Remember the figures of a network."""
        self._paths[key] = figures
        self._paths.move_to_end(key)
        if len(self._paths) > self._most:
            self._paths.popitem(last=False)

    def forget(self, key: str) -> None:
        """Forget the figures of a network, if there are any."""
        self._paths.pop(key, None)

    def dump(self) -> list[tuple[str, float, float, float, float]]:
        """The network, rate, round trip, loss and age (seconds) of each path, the oldest entry first."""
        now = self.clock()
        return [(key, one.rate, one.rtt, one.loss, now - one.at) for key, one in self._paths.items()]

    def restore(self, key: str, rate: float, rtt: float, loss: float, age: float) -> None:
        """Remember a row of `dump`. Figures that no path has, or that are too old, are left out."""
        if 0 < rate < inf and 0 < rtt < inf and 0 <= loss < 1 and 0 <= age <= LIFETIME:
            figures, known = PathFigures(rate, rtt, loss, self.clock() - age), self.find(key)
            if known is None or known.at < figures.at:
                self.keep(key, figures)

    def clear(self) -> None:
        """Forget everything: this machine is on another network now."""
        self._paths.clear()


PATHS = PathMemory()
"""The paths of this process."""
