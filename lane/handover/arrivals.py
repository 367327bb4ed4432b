"""Connections of applications that come from the client whose place this process takes.

That one offers them. For each, this process makes a stream to the server first, and fetches the connection
then. So it stands still for one round trip. Over a transport whose carriers have one stream each, they come
as fast as a client may dial, and stay where they are meanwhile.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore

from lane.carriers.lanes import Lanes, Leased
from lane.errors import LaneError
from lane.handover.exchange import ANSWER_TIME, Others
from lane.session.parcel import Parcel
from lane.supervisor import report

FETCH_TIME = 600.0
"""Seconds that a connection may wait for its turn: the other process decides how long it stays."""

AT_ONCE = 8
"""Connections that are fetched at once. More would keep both processes from everything else."""
PAUSE = 0.5
"""Seconds until a connection is fetched again after a failure."""

log = logging.getLogger("lane.handover")

TakeOver = Callable[[Parcel, Leased | None], None]
"""Goes on with a connection, on a stream that was leased for it, if there is one. Raises LaneError.

If it raises, the descriptors are still the caller's."""


class Arrivals:
    """Fetches connections from `others` over `lanes`. `kinds` go on with them, by the kind of the parcel.

    `free` is called once the ports of forwards may take packets: their sources have come.
    """

    def __init__(
        self, lanes: Lanes, others: Others, kinds: Mapping[str, TakeOver], free: Callable[[], None]
    ) -> None:
        self.staying: int | None = None
        """The connections that stay in the other process; None before it has said so."""
        self._lanes = lanes
        self._others = others
        self._kinds = kinds
        self._free = free
        self._turns = BoundedSemaphore(AT_ONCE)
        self._coming: list[gevent.Greenlet[..., None]] = []  # what the ports of forwards wait for
        self._over = False

    def told(self, value: dict[str, Any]) -> None:
        """Take note of what the other process says (`lane.handover.client_parting`)."""
        match value:
            case {"staying": int() as staying}:
                self.staying = staying
            case {"offer": [*offers]}:
                for name, active, at_once in offers:
                    fetching = gevent.spawn(self._fetch, name, active, at_once)
                    if at_once:
                        self._coming.append(fetching)
            case {"free": True}:
                gevent.joinall(self._coming, timeout=ANSWER_TIME)
                self._coming.clear()
                self._free_forwards()
            case {"end": True}:
                self._finish()

    def adopt(self, parcel: Parcel) -> None:
        """Go on with a connection that the other process sends unasked. See `Heir`."""
        self._go_on(parcel, None)

    def lose_sight(self, seconds: float = 0.0) -> None:
        """See `Heir`: what the other process had is lost."""
        self._finish()

    def _finish(self) -> None:
        self._over = True
        self._free_forwards()

    def _free_forwards(self) -> None:
        free, self._free = self._free, lambda: None
        free()

    def _fetch(self, name: bytes, active: bool, at_once: bool) -> None:
        lanes = self._lanes
        while not self._over:
            try:
                if at_once:
                    self._fetch_now(name, at_once)
                else:
                    with lanes.turn(lanes.choice, lambda: not self._over, FETCH_TIME, urgent=active):
                        self._fetch_now(name, at_once)
            except LaneError as error:  # it stays where it is, and is sent in the end
                log.debug("a connection is not fetched now: %s", error)
                gevent.sleep(PAUSE)
            else:
                return

    def _fetch_now(self, name: bytes, at_once: bool) -> None:
        with self._turns:  # no limit: each turn has its own
            leased = None if at_once else self._lanes.lease()
            parcel = None
            try:
                parcel = self._others.take(("", name), 0)
            finally:
                if parcel is None and leased is not None:  # it has ended
                    leased[1].discard()
            if parcel is not None:
                self._go_on(parcel, leased)

    def _go_on(self, parcel: Parcel, leased: Leased | None) -> None:
        try:
            self._kinds[parcel.state["kind"]](parcel, leased)
        except Exception as error:
            parcel.close()
            if leased is not None:
                leased[1].discard()
            if isinstance(error, LaneError):
                log.warning("a connection could not go on here: %s", error)
            else:
                report("going on with a connection of another process", error)
