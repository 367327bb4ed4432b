"""A UDP association that is asked for when the first packet needs it.

Who sends a packet never waits, and nobody is asked for what no packet needs: a server that has no part in
what an application does may be down. So the first packet asks, in the background, and a few of those that
come meanwhile wait with it.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic

from gevent.event import Event

from lane.address import Address
from lane.errors import LaneError
from lane.inbound.connector import Association, Buffer
from lane.tasks import start

WAITING = 16
"""Packets that wait for the answer; the oldest make room."""
PAUSE = 2.0
"""Seconds from a refusal until a packet asks again. Those that come meanwhile are dropped."""


class Later:
    """What `ask` gives, once it is needed. `failed` hears why there is none; it must not block."""

    def __init__(self, ask: Callable[[], Association], failed: Callable[[LaneError], None]) -> None:
        self.over = Event()
        """Set when there was an association, and nothing will come any more."""
        self.dropped = 0
        """Packets that came too early, and were too many."""
        self._ask = ask
        self._failed = failed
        self._association: Association | None = None
        self._waiting: deque[tuple[Address, bytes]] = deque()
        self._asking = False
        self._not_before = 0.0
        self._closed = False

    def open(self) -> None:
        """Ask now, and wait for the answer. Raises what `TargetConnector.associate` raises."""
        association = self._ask()
        if self._closed:
            association.close()
            return
        self._association = association
        association.over.rawlink(lambda _: self.over.set())
        for packet in self._waiting:
            association.send(*packet)
        self._waiting.clear()

    def send(self, target: Address, payload: Buffer) -> None:
        """See `Association`."""
        if self._association is not None:
            self._association.send(target, payload)
            return
        if self._closed or monotonic() < self._not_before:
            self.dropped += 1
            return
        self._waiting.append((target, bytes(payload)))
        if len(self._waiting) > WAITING:
            self._waiting.popleft()
            self.dropped += 1
        if not self._asking:
            self._asking = True
            start(self._open)

    def close(self) -> None:
        """See `Association`."""
        self._closed = True
        self._waiting.clear()
        if self._association is not None:
            self._association.close()

    def _open(self) -> None:
        try:
            self.open()
        except LaneError as error:
            self._not_before = monotonic() + PAUSE
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._failed(error)
        finally:
            self._asking = False
