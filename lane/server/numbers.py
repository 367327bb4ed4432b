"""What a server counts from its start on, for `lane.admin` to show.

Only what happens seldom is counted when it happens: sessions, refusals, moves. Bytes and packets are read
from what the sessions count anyway, when somebody asks, and when a session ends or changes its transport.
Keys are label values; each has a limited number of values.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

from lane.errors import Status
from lane.proto.hello import Command

ROUND_TRIPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Upper bounds of the histogram of round trips, seconds."""

WAYS = "up", "down"
KINDS: dict[int, str] = {
    Command.CONNECT: "tcp",
    Command.UDP: "udp",
    Command.BIND: "bind",
    Command.REVERSE: "reverse",
}
"""What a session is, by the command that began it: a connection to a target, packets, or a port here."""
OTHER_REFUSALS = "wrong_key", "no_hello", "too_many_connections"
"""Reasons beside those of requests, which are in `lane.errors.Status`."""

Labels = tuple[str, ...]


class Histogram:
    """How many values were at most each of `bounds`, and how many were above the last."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Add a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Numbers:
    """The counters of one process. `up` is from the client, `down` to it."""

    def __init__(self) -> None:
        self.bytes: Counter[Labels] = Counter()
        """By transport and direction."""
        self.packets: Counter[Labels] = Counter()
        """Packets of associations, by direction."""
        self.dropped_packets: Counter[Labels] = Counter()
        """Those that did not go on, without labels."""
        self.begun: Counter[Labels] = Counter()
        """Sessions, by kind."""
        self.ended: Counter[Labels] = Counter()
        """Sessions, by `clean` or `broken`."""
        self.moves: Counter[Labels] = Counter()
        """How often a session went on over another carrier, by the transports before and after."""
        self.refusals: Counter[Labels] = Counter()
        """By reason: a name of `lane.errors.Status`, or `wrong_key`, `no_hello` or `too_many_connections`."""
        self.handshakes: Counter[Labels] = Counter()
        """Carriers that were accepted, by transport."""
        self.proven: Counter[Labels] = Counter()
        """Carriers whose client has proven a key, by transport."""
        self.sent: Counter[Labels] = Counter()
        """Bytes that left on links, by transport, as the carriers measure it."""
        self.lost: Counter[Labels] = Counter()
        """Bytes of these that were lost or sent again."""
        self.round_trips: dict[Labels, Histogram] = {}
        """By transport: that of a carrier that has sent something since the last look at it."""
        # What is counted later begins with 0, so that its first increase is seen.
        refused = (status.name.lower() for status in Status if status not in (Status.OK, Status.COMPLETE))
        for counter, keys in (
            (self.packets, WAYS),
            (self.begun, (*KINDS.values(),)),
            (self.ended, ("clean", "broken")),
            (self.refusals, (*refused, *OTHER_REFUSALS)),
        ):
            counter.update({(key,): 0 for key in keys})
        self.dropped_packets[()] = 0

    def know(self, transports: Iterable[str]) -> None:
        """Begin with 0 for what is counted by transport."""
        for name in transports:
            self.bytes.update({(name, way): 0 for way in WAYS})
            for counter in (self.handshakes, self.proven, self.sent, self.lost):
                counter[name,] += 0

    def round_trip(self, transport: str, seconds: float) -> None:
        """Add a round trip."""
        key = (transport,)
        if key not in self.round_trips:
            self.round_trips[key] = Histogram(ROUND_TRIPS)
        self.round_trips[key].observe(seconds)
