"""Dials to the server that several sessions wait for: one handshake makes streams for all of them.

A dial goes on when nobody waits for it any more: its carrier is of use for the next session.
"""

import logging
from collections.abc import Callable

import gevent
from gevent.event import AsyncResult

from lane.errors import Failure, LaneError, Unreachable
from lane.stream import Carrier

log = logging.getLogger("lane.carriers")

OVERDUE = 1.0
"""Seconds that a transport may exceed its time-out by until nobody waits for its dial any more."""


class _Dial:
    def __init__(self) -> None:
        self.result: AsyncResult[Carrier | Failure[LaneError]] = AsyncResult()
        self.waiting = 0


class SharedDials:
    """`connect` makes a carrier within `timeout` seconds, or raises Unreachable or Refused.

    `made` is called with each carrier before those that wait for it get it.
    """

    def __init__(
        self, connect: Callable[[], Carrier], timeout: float, made: Callable[[Carrier], None]
    ) -> None:
        self._connect = connect
        self._timeout = timeout
        self._made = made
        self._dials: set[_Dial] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._dials)

    def close(self) -> None:
        """Begin no more dials, and close the carriers of those that are under way."""
        self._closed = True

    def dial(self, share: int) -> Carrier:
        """A new carrier, from a dial that begins now or that fewer than `share` callers wait for.

        Raises Unreachable or Refused.
        """
        dial = next((dial for dial in self._dials if dial.waiting < share), None)
        if dial is None:
            if self._closed:
                raise Unreachable("lane is closing")
            dial = _Dial()
            self._dials.add(dial)
            gevent.spawn(self._carry_out, dial)
        dial.waiting += 1
        found: Carrier | Failure[LaneError] | None = dial.result.wait(self._timeout + OVERDUE)
        if found is None:
            self._dials.discard(dial)
            raise Unreachable("the transport does not end its dial in time")
        if isinstance(found, Failure):
            raise found.build()
        return found

    def _carry_out(self, dial: _Dial) -> None:
        found: Carrier | Failure[LaneError] = Failure.of(Unreachable("the dial was ended"))
        try:
            found = self._outcome()
        finally:
            self._dials.discard(dial)
            dial.result.set(found)

    def _outcome(self) -> Carrier | Failure[LaneError]:
        """The carrier, or why there is none."""
        try:
            with gevent.Timeout(self._timeout, Unreachable("no answer from the server in time")):
                carrier = self._connect()
        except LaneError as error:
            return Failure.of(error)
        except (Exception, gevent.Timeout) as error:  # a Timeout that leaks is a bug like any other
            log.exception("the transport failed to dial")
            return Failure.of(Unreachable(f"the transport failed to dial: {error!r}"))
        if self._closed:
            gevent.spawn(carrier.close)
            return Failure.of(Unreachable("lane is closing"))
        self._made(carrier)
        return carrier
