"""Streams that stand by: complete sessions have left them, and the next ones take them.

They are those of carriers with many streams. A new stream is cheap for the network, but not for processes:
each side makes it, proves or checks the key, has a greenlet for it, and ends it again. A short session on a
stream that stood by takes four fifths of the CPU. It costs the server a greenlet meanwhile, so streams stand
by for seconds, and few of them.
"""

from collections.abc import Iterator
from time import monotonic

from lane.carriers.lease import Lease
from lane.stream import Carrier, Stream, renewer
from lane.supervisor import report

LIFE = 5.0
"""Seconds that a stream stands by. A server waits for longer, and so does a carrier that nobody uses."""
KEPT = 16
"""Streams of one carrier that stand by, at most."""


class Standby:
    """The streams that stand by, by carrier. They count as leases."""

    def __init__(self) -> None:
        self._kept: dict[Carrier, list[tuple[Lease, float]]] = {}  # oldest first, with when they came

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def __iter__(self) -> Iterator[Carrier]:
        """The carriers that have some."""
        return iter([carrier for carrier, kept in self._kept.items() if kept])

    def count(self, carrier: Carrier) -> int:
        """The number of those on `carrier`."""
        return len(self._kept.get(carrier, ()))

    def keep(self, lease: Lease) -> bool:
        """Let the stream of `lease` stand by if it can, and if few do. Returns whether it does."""
        if renewer(lease.stream) is None or self.count(lease.carrier) >= KEPT:
            return False
        self._kept.setdefault(lease.carrier, []).append((lease, monotonic()))
        return True

    def take(self, carrier: Carrier) -> Lease | None:
        """The newest on `carrier` that can carry a session now; None if there is none.

        The oldest are left, and end when there are more than are needed.
        """
        kept = self._kept.get(carrier, [])
        for number in reversed(range(len(kept))):
            if _renewed(kept[number][0].stream):
                return kept.pop(number)[0]
        return None

    def remove(self, carrier: Carrier) -> list[Lease]:
        """Remove all on `carrier`, and return them."""
        return [lease for lease, _ in self._kept.pop(carrier, ())]

    def remove_old(self) -> list[Lease]:
        """Remove those that stood by for long, and return them."""
        found, since = [], monotonic() - LIFE
        for carrier, kept in list(self._kept.items()):
            old = sum(came < since for _, came in kept)
            found += [lease for lease, _ in kept[:old]]
            del kept[:old]
            if not kept:
                del self._kept[carrier]
        return found


def _renewed(stream: Stream) -> bool:
    """Whether another session can have the stream. If a plugin's fails to answer, none can."""
    try:
        renew = renewer(stream)
        return renew is not None and renew()
    except Exception as error:
        report("a stream that was asked whether it is at rest", error)
        return False
