"""The client's carriers to its server: dialled when needed, shared as far as they go, some kept warm.

A transport with many streams a carrier gets a second one when the first is full; one with a single
stream gets one a session, and another session when that one is complete. Either way there is a stream for
the next sessions that does not wait for a handshake: room on a carrier, or else spares that have already
proven the key to the server, more than lately began at once. A carrier that died is never handed out.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from time import monotonic

import gevent

from lane import census
from lane.carriers.demand import Demand
from lane.carriers.lease import Lease
from lane.carriers.shared_dials import SharedDials
from lane.errors import Closed, LaneError, TurnedAway, Unreachable
from lane.net.descriptors import reserve
from lane.session.flows import Flows
from lane.stream import Carrier
from lane.supervisor import report, supervise

log = logging.getLogger("lane.carriers")

SPARE_LIFE = 240.0
"""Seconds that a spare waits for a session before it is given up."""
SWEEP = 1.0
"""Seconds between two looks at what is lacking and what is no longer needed."""
KEPT = 64
"""Spares at most, with those that sessions gave back."""
MAKERS = 4
"""Spares that are made at once: they must not take the machine from who waits."""
BREATH = 0.25
"""Seconds, at most, between two spares of one maker: a far server gets a dozen dials a second, no crowd."""
PAUSE = 5.0
"""Seconds without a try to make a spare after one failed: sessions that are asked for still dial."""
TRIES = 8
"""Carriers that are dialled for one session, where others take the streams of each first."""
ROOM = 16
"""Descriptors that are left to those who come: where there are less, there are no spares..."""
SCARCE = 30.0
"""...for so many seconds."""
LAST_WORDS = 1.0
"""Seconds that a carrier nobody uses has to deliver what its streams said last."""
_SHARED = 8
"""Sessions that wait for one handshake, until it is known how many streams a carrier has."""


class Pool:
    """Carriers that `dial` makes; `hello` gives the bytes that open a stream on one.

    `dial` raises Unreachable or Refused; `dial_timeout` in seconds.
    """

    def __init__(
        self, dial: Callable[[], Carrier], hello: Callable[[Carrier], bytes], dial_timeout: float
    ) -> None:
        self._hello = hello
        self._leases: Counter[Carrier] = Counter()  # every live carrier, and how many use it
        self._flows: dict[Carrier, Flows] = {}  # of those of them whose datagrams somebody uses
        self._roomy: set[Carrier] = set()  # those of them that may have room
        self._distrusted: set[Carrier] = set()  # those of them that must not be handed out
        self._demand = Demand()
        self._spares: deque[tuple[Lease, float]] = deque()  # and since when they stand by, oldest first
        self._dials = SharedDials(dial, dial_timeout, self._add)
        self._share = _SHARED  # streams of a carrier
        self.crowded: Callable[[], bool] = lambda: False
        """Whether sessions wait for their turn to dial: no spares are made then."""
        self._making = 0  # spares, now
        self._paused_until = 0.0
        self._waiting = 0  # sessions that wait for a handshake
        self._closed = False
        self._sweeper = supervise("the sweeper of carriers", self._sweep)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        kept = {"carriers": len(self._leases), "flows": len(self._flows)}
        return {**kept, "spares": len(self._spares), "dials": len(self._dials)}

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def ready(self) -> bool:
        """Whether a stream can be had without a handshake."""
        return any(not _dead(spare.carrier) for spare, _ in self._spares) or self._least_loaded() is not None

    @property
    def shared(self) -> bool:
        """Whether a carrier has many streams, as far as is known."""
        return self._share > 1

    def lease(self, *, fresh: bool = False, moved: bool = False) -> Lease:
        """A stream to the server, on a new carrier if `fresh`. Raises Unreachable or Refused.

        `moved`: for a session that was there, which says nothing of how many will begin.
        """
        if not moved:
            self._demand.note(monotonic())
        lease = (None if fresh else self._at_once()) or self._dialled(fresh)
        self._taken()
        return lease

    def lease_at_once(self) -> Lease | None:
        """A stream for a new session, where none has to be dialled for."""
        lease = self._at_once()
        if lease is not None:
            self._demand.note(monotonic())
            self._taken()
        return lease

    def flows(self, carrier: Carrier) -> Flows | None:
        """The datagrams of a live carrier, sorted."""
        if carrier not in self._flows and carrier in self._leases:
            self._flows[carrier] = Flows(carrier)
        return self._flows.get(carrier)

    def release(self, carrier: Carrier) -> None:
        """One lease less on `carrier`, which is closed when it can't have another."""
        self._leases[carrier] -= 1
        if carrier.capacity and carrier not in self._distrusted:
            self._roomy.add(carrier)
        elif self._leases[carrier] <= 0:
            self._drop(carrier, LAST_WORDS)

    def distrust(self, carrier: Carrier) -> None:
        """Open nothing more on `carrier`, and nothing on spares either: they go the same way."""
        if carrier in self._leases:
            self._distrusted.add(carrier)
            self._roomy.discard(carrier)
        while self._spares:
            self._spares.popleft()[0].discard()

    def keep(self, lease: Lease) -> None:
        """Have the stream of a session that is complete stand by for the next one, if it is needed."""
        if self._share == 1 and len(self._spares) < KEPT and not (self._closed or lease.distrusted):
            self._stand_by(lease)
            return
        with suppress(LaneError), gevent.Timeout(LAST_WORDS, False):
            lease.stream.finish()
            while lease.stream.recv():
                pass
        lease.stream.close()
        lease.release()

    def close(self, grace: float = 0) -> None:
        """Close every carrier; finished streams have `grace` seconds to drain."""
        self._closed = True
        self._dials.close()
        self._sweeper.kill(block=False)
        while self._spares:
            self._spares.popleft()[0].discard()
        closing = [gevent.spawn(carrier.close, grace) for carrier in list(self._leases)]
        gevent.joinall(closing, timeout=grace + LAST_WORDS)  # a transport may not keep to it
        self._leases.clear()
        self._flows.clear()
        self._roomy.clear()

    def _taken(self) -> None:
        """Make spares where few are left: else sessions that end may give theirs back first."""
        if len(self._spares) * 2 < self._wanted:
            self._refill()

    def _at_once(self) -> Lease | None:
        """A spare, or a stream on a carrier that has room."""
        while self._spares:
            spare, _ = self._spares.pop()  # the newest: its path is measured, and old ones may go
            if not _dead(spare.carrier):
                return spare
            spare.discard()
        while (carrier := self._least_loaded()) is not None:
            if (lease := self._open_on(carrier, fresh=False)) is not None:
                return lease
        return None

    def _dialled(self, fresh: bool) -> Lease:
        """A stream on a carrier that is dialled now; unless `fresh`, others may have a part of it."""
        for _ in range(TRIES):
            self._waiting += 1
            try:
                carrier = self._dials.dial(1 if fresh else self._share)
            finally:
                self._waiting -= 1
            if (lease := self._open_on(carrier, fresh=True)) is not None:
                return lease
            if carrier not in self._leases:
                raise TurnedAway("the server closed the connection at once")
            if not fresh and (lease := self._at_once()) is not None:  # others were quicker
                return lease
        raise Unreachable("no connection to the server had a stream to give")

    def _open_on(self, carrier: Carrier, *, fresh: bool) -> Lease | None:
        """A stream; None where others were quicker, or the carrier has died, which is forgotten then."""
        try:
            return self._open(carrier, fresh)
        except Closed:
            self._roomy.discard(carrier)
            if carrier.closed and not self._leases[carrier]:
                self._drop(carrier)
            return None

    def _least_loaded(self) -> Carrier | None:
        """The carrier with the most room. Looks only at those that may have some: there can be thousands."""
        room = {carrier: carrier.capacity for carrier in self._roomy if carrier.capacity}
        self._roomy = set(room)
        return max(room, key=room.__getitem__, default=None)

    def _open(self, carrier: Carrier, fresh: bool) -> Lease:
        """A stream on `carrier`. Raises Closed."""
        stream = carrier.open()
        self._leases[carrier] += 1
        return Lease(self, carrier, stream, fresh, self._hello(carrier))

    def _drop(self, carrier: Carrier, grace: float = 0) -> None:
        """Close a carrier that nobody uses."""
        del self._leases[carrier]
        self._flows.pop(carrier, None)
        self._roomy.discard(carrier)
        self._distrusted.discard(carrier)
        gevent.spawn(carrier.close, grace)

    def _add(self, carrier: Carrier) -> None:
        """Have a carrier that was dialled."""
        self._share = max(carrier.capacity, 1)
        self._leases[carrier] = 0
        self._roomy.add(carrier)

    def _refill(self) -> None:
        """Begin to make the spares that are lacking."""
        while self._making < min(MAKERS, self._lacking):
            self._making += 1
            gevent.spawn(self._make_spares)

    @property
    def _lacking(self) -> int:
        """Spares that may be made now, those included that are being made."""
        if (
            self._closed
            or self._waiting
            or self.crowded()
            or self._least_loaded()
            or monotonic() < self._paused_until
        ):
            return 0
        return self._wanted - len(self._spares)

    @property
    def _wanted(self) -> int:
        """Spares that should stand by."""
        return ceil(self._demand.spares(monotonic()) / self._share)

    def _make_spares(self) -> None:
        try:
            while self._making <= self._lacking:
                began = monotonic()
                carrier = self._dials.dial(1)
                if not carrier.capacity and not carrier.closed:
                    continue  # a session was quicker
                spare = self._open(carrier, fresh=False)
                try:
                    spare.send(b"")
                except LaneError:
                    spare.discard()
                    raise
                self._stand_by(spare)
                gevent.sleep(min(BREATH, 3 * (monotonic() - began)))
        except LaneError as error:
            log.debug("no spare: %s", error)
            self._paused_until = monotonic() + PAUSE
        except Exception as error:
            report("the maker of spares", error)
            self._paused_until = monotonic() + PAUSE
        finally:
            self._making -= 1

    def _stand_by(self, spare: Lease) -> None:
        self._spares.append((spare, monotonic()))

    def _sweep(self) -> None:
        """Forget carriers that ended while nobody used them, and spares that died, are old or too many.

        Those are too many, too, for which others lack descriptors.
        """
        while True:
            gevent.sleep(SWEEP)
            for carrier in [c for c, leases in self._leases.items() if not leases and _dead(c)]:
                self._drop(carrier)
            scarce = not reserve.has(ROOM)
            if scarce:
                self._paused_until = monotonic() + SCARCE
            oldest, surplus = monotonic() - SPARE_LIFE, len(self._spares) - (0 if scarce else self._wanted)
            for number, (spare, since) in enumerate(list(self._spares)):
                if number < surplus or since < oldest or _dead(spare.carrier):
                    self._spares.remove((spare, since))
                    spare.discard()
            self._refill()


def _dead(carrier: Carrier) -> bool:
    """Whether it is closed, or fails to say so: a foreign transport's fault costs its own carrier."""
    try:
        return carrier.closed
    except Exception as error:
        report("a carrier that was asked whether it is closed", error)
        return True
