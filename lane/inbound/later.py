"""A UDP association that is requested only when the first packet needs it.

Sending a packet never blocks. And a server is contacted only for packets that go through it: a server that an
application does not need may be down. So the first packet starts the request in the background, and a few
packets that arrive meanwhile wait for its outcome.
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
"""Packets that wait for the outcome of the request. The oldest make room for newer ones."""
PAUSE = 2.0
"""Seconds after a refusal before a packet triggers a new request. Packets in that time are dropped."""


class Later:
    """The association that `ask` returns, requested when it is needed.

    `failed` is called with the error if the request fails; it must not block.
    """

    def __init__(self, ask: Callable[[], Association], failed: Callable[[LaneError], None]) -> None:
        self.over = Event()
        """Set when the association has ended and no further packet will arrive."""
        self.dropped = 0
        """Packets that were dropped because the association did not exist yet."""
        self._ask = ask
        self._failed = failed
        self._association: Association | None = None
        self._waiting: deque[tuple[Address, bytes]] = deque()
        self._asking = False
        self._not_before = 0.0
        self._closed = False

    def open(self) -> None:
        """Request the association and wait for the outcome. Raises as `TargetConnector.associate` does."""
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
