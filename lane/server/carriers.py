"""The carriers of a server, and what they tell of their links."""

import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from lane.fair import Walk
from lane.server.numbers import Numbers
from lane.stream import Carrier, LinkStats, measured


@dataclass(slots=True)
class Known:
    """What is known of a carrier: its transport and number, and the bytes counted as sent and as lost.

    Its number is below 2**32.
    """

    transport: str
    number: int
    sent: int = 0
    lost: int = 0


_ENDED = Known("", 0)


class Carriers:
    """The carriers that are open. What they sent and lost goes to `numbers`, when somebody looks."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._known: dict[Carrier, Known] = {}
        # Workers begin far from each other, so that the same numbers are unlikely.
        self._counting = count(secrets.randbits(32))

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Carrier]:
        return iter([*self._known])

    def __contains__(self, carrier: Carrier) -> bool:
        return carrier in self._known

    @property
    def by_transport(self) -> Counter[str]:
        """Their number by transport."""
        return Counter(known.transport for known in self._known.values())

    def add(self, carrier: Carrier, transport: str) -> None:
        """A carrier was accepted."""
        self._known[carrier] = Known(transport, next(self._counting) % (1 << 32))
        self._numbers.handshakes[transport,] += 1

    def remove(self, carrier: Carrier) -> None:
        """A carrier has ended."""
        if not getattr(carrier, "one_stream", False):  # its figures are gone, and its session had them
            self.look(carrier)
        del self._known[carrier]

    def known(self, carrier: Carrier) -> Known:
        """What is known of a carrier. Nothing of one that has ended."""
        return self._known.get(carrier, _ENDED)

    def look(self, carrier: Carrier) -> None:
        """Count what a carrier has sent and lost since the last look, and its round trip if it has sent."""
        if (known := self._known.get(carrier)) is not None:
            self.take(known, measured(carrier))

    def take(self, known: Known, link: LinkStats) -> None:
        """Count what is new in figures of a carrier, which others have measured."""
        if known is _ENDED:
            return
        key = (known.transport,)
        if link.sent > known.sent:
            self._numbers.sent[key] += link.sent - known.sent
            known.sent = link.sent
            if link.rtt is not None:
                self._numbers.round_trip(known.transport, link.rtt)
        if link.lost > known.lost:
            self._numbers.lost[key] += link.lost - known.lost
            known.lost = link.lost

    def look_at_all(self) -> None:
        """Look at each carrier. Other greenlets may run meanwhile."""
        walk = Walk()
        for carrier in self:
            walk.step()
            self.look(carrier)
