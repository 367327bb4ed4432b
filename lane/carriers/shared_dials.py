"""Dials that several sessions wait for: one handshake with the server gives streams to all of them.

A dial continues even if nobody waits for it any more: its carrier is of use for the next session.
"""

import logging
from collections.abc import Callable
from time import monotonic

import gevent
from gevent.event import AsyncResult

from lane.deadline import deadline
from lane.errors import Failure, LaneError, Unreachable
from lane.stream import Carrier
from lane.tasks import start

log = logging.getLogger("lane.carriers")

OVERDUE = 1.0
"""Seconds by which a transport may exceed its dial timeout before the callers give up."""


JOIN = 1.0
"""Seconds for which others may join a dial. An older one may hang: the network may have changed since."""


class _Dial:
    def __init__(self) -> None:
        self.began = monotonic()
        self.result: AsyncResult[Carrier | Failure[LaneError]] = AsyncResult()
        self.waiting = 0


class SharedDials:
    """The dials of one pool. `connect` makes a carrier within `timeout` seconds.

    It raises Unreachable or Refused. `made` is called with each new carrier, and the number of its callers,
    before they get it.
    """

    def __init__(
        self, connect: Callable[[], Carrier], timeout: float, made: Callable[[Carrier, int], None]
    ) -> None:
        self._connect = connect
        self._timeout = timeout
        self._made = made
        self._dials: set[_Dial] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._dials)

    def part(self) -> None:
        """Let nobody join the dials that are running: the network has changed since."""
        self._dials.clear()

    def close(self) -> None:
        """Start no more dials, and close the carriers of the running ones when they are made."""
        self._closed = True

    def dial(self, share: int) -> Carrier:
        """A new carrier, from a new dial or from a running one with fewer than `share` callers.

        Raises Unreachable or Refused.
        """
        since = monotonic() - JOIN
        dial = next((dial for dial in self._dials if dial.waiting < share and dial.began > since), None)
        if dial is None:
            if self._closed:
                raise Unreachable("lane is closing")
            dial = _Dial()
            self._dials.add(dial)
            start(self._carry_out, dial)
        dial.waiting += 1
        try:
            with deadline(self._timeout + OVERDUE, _overdue):
                found: Carrier | Failure[LaneError] = dial.result.get()
        except Unreachable:
            self._dials.discard(dial)
            raise
        finally:
            dial.waiting -= 1
        if isinstance(found, Failure):
            raise found.build()
        return found

    def _carry_out(self, dial: _Dial) -> None:
        found: Carrier | Failure[LaneError] = Failure.of(Unreachable("the dial was ended"))
        try:
            found = self._outcome(dial)
        finally:
            self._dials.discard(dial)
            dial.result.set(found)

    def _outcome(self, dial: _Dial) -> Carrier | Failure[LaneError]:
        """The carrier, or the failure."""
        try:
            with deadline(self._timeout, _late):
                carrier = self._connect()
        except LaneError as error:
            return Failure.of(error)
        except (Exception, gevent.Timeout) as error:  # a leaked Timeout is a bug like any other
            log.exception("the transport failed to dial")
            return Failure.of(Unreachable(f"the transport failed to dial: {error!r}"))
        if self._closed:
            gevent.spawn(carrier.close)
            return Failure.of(Unreachable("lane is closing"))
        self._made(carrier, dial.waiting)
        return carrier


def _overdue() -> Unreachable:
    return Unreachable("the transport does not end its dial in time")


def _late() -> Unreachable:
    return Unreachable("no answer from the server in time")
