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
from lane.carriers.departures import Goes
from lane.errors import Closed, LaneError
from lane.inbound.connector import Association, Buffer
from lane.tasks import start

WAITING = 16
"""Packets that wait for the outcome of the request. The oldest make room for newer ones."""
PAUSE = 2.0
"""Seconds after a refusal before a packet triggers a new request. Packets in that time are dropped."""


class Later:
    """The association that `ask` returns, requested when it is needed.

    `failed` is called with the error if the request fails; it must not block. `association`: it is there
    already.
    """

    def __init__(
        self,
        ask: Callable[[], Association],
        failed: Callable[[LaneError], None],
        association: Association | None = None,
    ) -> None:
        self.over = Event()
        """Set when the association has ended and no further packet will arrive."""
        self.dropped = 0
        """Packets that were dropped because the association did not exist yet."""
        self._ask = ask
        self._failed = failed
        self._association: Association | None = None
        self._goes: Goes | None = None
        self._waiting: deque[tuple[Address, bytes]] = deque()
        self._asking = False
        self._not_before = 0.0
        self._closed = False
        if association is not None:
            self._begin(association)

    def open(self) -> None:
        """Request the association and wait for the outcome. Raises as `TargetConnector.associate` does."""
        association = self._ask()
        if self._closed:
            association.close()
            return
        self._begin(association)
        for packet in self._waiting:
            association.send(*packet)
        self._waiting.clear()

    def _begin(self, association: Association) -> None:
        self._association = association
        self.send = association.send  # type: ignore[method-assign]  # from now on, without a detour
        association.over.rawlink(lambda _: self.over.set())
        if self._goes is not None:
            association.leaves(self._goes)

    def leaves(self, goes: Goes | None) -> None:
        """See `Association`."""
        self._goes = None if self._closed else goes
        if self._association is not None:
            self._association.leaves(goes)

    def send(self, target: Address, payload: Buffer) -> None:
        """See `Association`."""
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
        association, self._association = self._association, None
        if association is not None:
            del self.send
            association.close()
        self._goes = None  # this and the others refer to whoever has this object
        self._ask, self._failed = _closed, _nobody

    def _open(self) -> None:
        failed = self._failed
        try:
            self.open()
        except LaneError as error:
            self._not_before = monotonic() + PAUSE
            self.dropped += len(self._waiting)
            self._waiting.clear()
            failed(error)
        finally:
            self._asking = False


def _closed() -> Association:
    raise Closed("the association has ended")


def _nobody(_: LaneError) -> None:
    pass
