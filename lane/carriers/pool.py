"""The client's carriers to its server over one transport: dialled when needed, shared, and some kept ready.

If the transport has many streams per carrier, sessions share a carrier until it is full. If it has one stream
per carrier, each session has a carrier, and a complete session leaves it to the next one. Either way the
next sessions need not wait for a handshake. They find room on a carrier, or a spare: a stream on which the
client has already sent its proof of the key. There are more spares than sessions began at once lately. A
dead carrier is never handed out.
"""

import logging
from collections import Counter, OrderedDict, deque
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
"""Seconds that a spare waits for a session before it is discarded."""
SWEEP = 1.0
"""Seconds between two sweeps, which discard unneeded spares and make missing ones."""
KEPT = 64
"""Maximum number of spares, including streams that sessions gave back."""
MAKERS = 4
"""Maximum number of spares that are made at once. More would slow down the sessions."""
BREATH = 0.25
"""Maximum pause in seconds between two spares of one maker. A distant server gets a dozen dials a second."""
PAUSE = 5.0
"""Seconds without new spares after one could not be made. Sessions still dial."""
TRIES = 8
"""Maximum number of carriers that are dialled for one session, if other sessions take their streams first."""
LOOKS = 8
"""Maximum number of carriers with room that are compared for one session."""
ROOM = 16
"""File descriptors that must stay free for new connections. If fewer are, the pool gives up its spares."""
SCARCE = 30.0
"""Seconds without new spares after file descriptors were scarce."""
LAST_WORDS = 1.0
"""Seconds that an unused carrier has to deliver the last bytes of its streams."""
_SHARED = 8
"""Sessions that may wait for one dial until it is known how many streams a carrier has."""


class Pool:
    """The carriers that `dial` makes. `hello` returns the first bytes of a stream on a carrier.

    `dial` raises Unreachable or Refused. `dial_timeout` is in seconds.
    """

    def __init__(
        self, dial: Callable[[], Carrier], hello: Callable[[Carrier], bytes], dial_timeout: float
    ) -> None:
        self._hello = hello
        self._leases: Counter[Carrier] = Counter()  # all live carriers, each with its number of leases
        self._flows: dict[Carrier, Flows] = {}  # of the live carriers whose datagrams are in use
        self._unleased: set[Carrier] = set()  # those without leases
        self._roomy: OrderedDict[Carrier, None] = OrderedDict()  # the live carriers that may have room
        self._distrusted: set[Carrier] = set()  # the live carriers that must not be handed out
        self._demand = Demand()
        self._spares: deque[tuple[Lease, float]] = deque()  # with the time each became a spare, oldest first
        self._dials = SharedDials(dial, dial_timeout, self._add)
        self._share = _SHARED  # streams per carrier
        self.crowded: Callable[[], bool] = lambda: False
        """Whether sessions wait for their turn to dial. No spares are made then."""
        self._making = 0  # number of running spare makers
        self._paused_until = 0.0  # no spares are made before this time
        self._waiting = 0  # sessions that wait for a dial
        self._born: dict[Carrier, float] = {}  # when each live carrier was dialled
        self._retired = 0.0  # when the first of several carriers was retired
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
        """Whether a stream is available without a handshake."""
        return any(not _dead(spare.carrier) for spare, _ in self._spares) or self._least_loaded() is not None

    @property
    def shared(self) -> bool:
        """Whether a carrier has more than one stream, as far as is known."""
        return self._share > 1

    def lease(self, *, fresh: bool = False, moved: bool = False) -> Lease:
        """A stream to the server, on a new carrier if `fresh`. Raises Unreachable or Refused.

        `moved`: the stream is for an existing session, so it does not count as demand for spares.
        """
        if not moved:
            self._demand.note(monotonic())
        lease = (None if fresh else self._at_once()) or self._dialled(fresh)
        self._taken()
        return lease

    def lease_at_once(self) -> Lease | None:
        """A stream for a new session without a dial; None if that would take one."""
        lease = self._at_once()
        if lease is not None:
            self._demand.note(monotonic())
            self._taken()
        return lease

    def flows(self, carrier: Carrier) -> Flows | None:
        """The datagrams of a live carrier, sorted by flow; None if the carrier is not live."""
        if carrier not in self._flows and carrier in self._leases:
            self._flows[carrier] = Flows(carrier)
        return self._flows.get(carrier)

    def release(self, carrier: Carrier) -> None:
        """End one lease on `carrier`. Closes it if that was the last lease, and it can't have another."""
        self._leases[carrier] -= 1
        if self._leases[carrier] <= 0:
            self._unleased.add(carrier)
        if carrier.capacity and carrier not in self._distrusted:
            self._roomy[carrier] = None
        elif self._leases[carrier] <= 0:
            self._drop(carrier, LAST_WORDS)

    def network_changed(self) -> None:
        """Begin each dial anew: packets of those that are running may lead nowhere."""
        self._dials.part()

    def distrust(self, carrier: Carrier) -> None:
        """Hand out `carrier` no more. Discards all spares too, because they use the same network path."""
        self._take_out(carrier)
        self._discard_spares()

    def retire(self, carrier: Carrier) -> None:
        """Hand out `carrier` no more, because it leads to a process that ends.

        All carriers lead there, and all spares, until the first one is retired. Those that are made from then
        on lead to the next process.
        """
        if self._born.get(carrier, 0.0) > self._retired:
            self._retired = monotonic()
            for one in list(self._leases):
                self._take_out(one)
            self._discard_spares()

    def _take_out(self, carrier: Carrier) -> None:
        if carrier in self._leases:
            self._distrusted.add(carrier)
            self._roomy.pop(carrier, None)

    def _discard_spares(self) -> None:
        while self._spares:
            self._spares.popleft()[0].discard()

    def keep(self, lease: Lease) -> None:
        """Keep the stream of a complete session as a spare if the pool needs it, otherwise close it."""
        if self._share == 1 and not (self._closed or lease.carrier in self._distrusted):
            self._stand_by(lease)
            if len(self._spares) <= KEPT:
                return
            lease = self._youngest()
        with suppress(LaneError), gevent.Timeout(LAST_WORDS, False):
            lease.stream.finish()
            while lease.stream.recv():
                pass
        lease.stream.close()
        lease.release()

    def close(self, grace: float = 0) -> None:
        """Close all carriers. Finished streams have `grace` seconds to drain."""
        self._closed = True
        self._dials.close()
        self._sweeper.kill(block=False)
        self._discard_spares()
        closing = [gevent.spawn(carrier.close, grace) for carrier in list(self._leases)]
        gevent.joinall(closing, timeout=grace + LAST_WORDS)  # a plugin's transport may exceed it
        self._leases.clear()
        self._born.clear()
        self._flows.clear()
        self._unleased.clear()
        self._roomy.clear()

    def _taken(self) -> None:
        """Make spares if fewer than half are left. Otherwise ending sessions may give streams back first."""
        if len(self._spares) * 2 < self._wanted:
            self._refill()

    def _at_once(self) -> Lease | None:
        """A spare, or a stream on a carrier that has room."""
        while self._spares:
            spare, _ = self._spares.pop()  # the newest, with recent path measurements; old ones may expire
            if not _dead(spare.carrier):
                return spare
            spare.discard()
        while (carrier := self._least_loaded()) is not None:
            if (lease := self._open_on(carrier, fresh=False)) is not None:
                return lease
        return None

    def _dialled(self, fresh: bool) -> Lease:
        """A stream on a newly dialled carrier. Unless `fresh`, other sessions may share the carrier."""
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
            if not fresh and (lease := self._at_once()) is not None:  # other sessions took it
                return lease
        raise Unreachable("no connection to the server had a stream to give")

    def _open_on(self, carrier: Carrier, *, fresh: bool) -> Lease | None:
        """A stream on `carrier`. None if other sessions took all its streams, or it is dead."""
        try:
            return self._open(carrier, fresh)
        except Closed:
            self._roomy.pop(carrier, None)
            if carrier.closed and not self._leases[carrier]:
                self._drop(carrier)
            return None

    def _least_loaded(self) -> Carrier | None:
        """A carrier that has room, or None. It has the most room of a few, which take turns.

        After a peak there may be hundreds. The best of a few spreads the sessions almost as well as the best
        of all (M. Mitzenmacher, The Power of Two Choices in Randomized Load Balancing).
        """
        best, most, seen = None, 0, 0
        while self._roomy and seen < LOOKS:
            carrier, _ = self._roomy.popitem(last=False)
            room = carrier.capacity
            if not room:
                continue
            self._roomy[carrier] = None
            seen += 1
            if carrier is best:
                break  # those were all
            if room > most:
                best, most = carrier, room
        return best

    def _open(self, carrier: Carrier, fresh: bool) -> Lease:
        """A stream on `carrier`. Raises Closed."""
        stream = carrier.open()
        self._leases[carrier] += 1
        self._unleased.discard(carrier)
        return Lease(self, carrier, stream, fresh, self._hello(carrier))

    def _drop(self, carrier: Carrier, grace: float = 0) -> None:
        """Forget and close a carrier without leases."""
        del self._leases[carrier]
        self._born.pop(carrier, None)
        self._flows.pop(carrier, None)
        self._unleased.discard(carrier)
        self._roomy.pop(carrier, None)
        self._distrusted.discard(carrier)
        gevent.spawn(carrier.close, grace)

    def _add(self, carrier: Carrier, waiting: int) -> None:
        """Take a newly dialled carrier into the pool. `waiting`: those who dialled it, and come first."""
        room = carrier.capacity
        self._share = max(room, 1)
        self._leases[carrier] = 0
        self._born[carrier] = monotonic()
        self._unleased.add(carrier)
        if room > waiting:
            self._roomy[carrier] = None

    def _refill(self) -> None:
        """Start makers for the missing spares."""
        while self._making < min(MAKERS, self._lacking):
            self._making += 1
            gevent.spawn(self._make_spares)

    @property
    def _lacking(self) -> int:
        """Number of spares to make now, including those that are being made."""
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
        """Number of spares that the pool should have."""
        return ceil(self._demand.spares(monotonic()) / self._share)

    def _make_spares(self) -> None:
        try:
            while self._making <= self._lacking:
                began = monotonic()
                carrier = self._dials.dial(1)
                if not carrier.capacity and not carrier.closed:
                    continue  # a session took it
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

    def _youngest(self) -> Lease:
        """Take the spare out whose carrier was dialled last.

        What stays of a crowd was made when it began, so it holds little memory in use that is free otherwise.
        """
        number = max(range(len(self._spares)), key=lambda n: self._born.get(self._spares[n][0].carrier, 0.0))
        youngest, _ = self._spares[number]
        del self._spares[number]
        return youngest

    def _stand_by(self, spare: Lease) -> None:
        self._spares.append((spare, monotonic()))

    def _sweep(self) -> None:
        """Drop dead carriers without leases, and spares that are dead, old or more than needed.

        If file descriptors are scarce, all spares are more than needed.
        """
        while True:
            gevent.sleep(SWEEP)
            for carrier in list(self._unleased):
                if _dead(carrier):
                    self._drop(carrier)
                elif carrier not in self._distrusted:
                    self._roomy[carrier] = None  # whoever dialled it may not have come
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
    """Whether the carrier is closed. If a plugin's transport fails to answer, the carrier counts as dead."""
    try:
        return carrier.closed
    except Exception as error:
        report("a carrier that was asked whether it is closed", error)
        return True
