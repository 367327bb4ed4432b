"""The client's carriers to its server over one transport: dialled when needed, shared, and some kept ready.

If the transport has many streams per carrier, sessions share a carrier until it is full. If it has one stream
per carrier, each session has a carrier, and a complete session leaves it to the next one. Either way the
next sessions need not wait for a handshake. They find room on a carrier, or a spare: a stream on which the
client has already sent its proof of the key (`lane.carriers.spares`). On a carrier with room they take a
stream that stands by (`lane.carriers.standby`) before they open one. A dead carrier is never handed out.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from time import monotonic

import gevent

from lane import census
from lane.carriers.demand import Demand
from lane.carriers.lease import Lease, dead
from lane.carriers.shared_dials import SharedDials
from lane.carriers.spares import Spares
from lane.carriers.standby import Standby
from lane.errors import Closed, LaneError, TurnedAway, Unreachable
from lane.session.flows import Flows
from lane.stream import Carrier
from lane.supervisor import report, supervise

SWEEP = 1.0
"""Seconds between two sweeps, which forget dead carriers, discard unneeded spares and make missing ones."""
TRIES = 8
"""Maximum number of carriers that are dialled for one session, if other sessions take their streams first."""
LOOKS = 8
"""Maximum number of carriers with room that are compared for one session."""
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
        self._spares = Spares(self._make_spare, self._wanted, self._due)
        self._standby = Standby()
        self._dials = SharedDials(dial, dial_timeout, self._add)
        self._share = _SHARED  # streams per carrier
        self.crowded: Callable[[], bool] = lambda: False
        """Whether sessions wait for their turn to dial. No spares are made then."""
        self._waiting = 0  # sessions that wait for a dial
        self._born: dict[Carrier, float] = {}  # when each live carrier was dialled
        self._retired = 0.0  # when the first of several carriers was retired
        self._closed = False
        self._sweeper = supervise("the sweeper of carriers", self._sweep)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        kept = {"carriers": len(self._leases), "flows": len(self._flows)}
        ready = {"spares": len(self._spares), "standby": len(self._standby)}
        return {**kept, **ready, "dials": len(self._dials)}

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def ready(self) -> bool:
        """Whether a stream is available without a handshake."""
        return any(not dead(spare.carrier) for spare in self._spares) or self._least_loaded() is not None

    @property
    def shared(self) -> bool:
        """Whether a carrier has more than one stream, as far as is known."""
        return self._share > 1

    def room(self, carrier: Carrier) -> int:
        """The number of streams that `carrier` has for further sessions; 0 if none is sent there."""
        try:
            return self._free(carrier) if carrier in self._roomy else 0
        except Exception as error:  # of a plugin
            report("a carrier that was asked for its capacity", error)
            return 0

    def lease(self, *, fresh: bool = False, moved: bool = False) -> Lease:
        """A stream to the server, on a new carrier if `fresh`. Raises Unreachable or Refused.

        `moved`: the stream is for an existing session, so it does not count as demand for spares.
        """
        if not moved:
            self._demand.note(monotonic())
        lease = (None if fresh else self._spares.take() or self._with_room()) or self._dialled(fresh)
        self._spares.taken()
        return lease

    def lease_at_once(self) -> Lease | None:
        """A stream for a new session without a dial; None if that would take one."""
        lease = self._spares.take() or self._with_room()
        if lease is not None:
            self._demand.note(monotonic())
            self._spares.taken()
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
        if self._free(carrier) and carrier not in self._distrusted:
            self._roomy[carrier] = None
        elif self._leases[carrier] <= 0:
            self._drop(carrier, LAST_WORDS)

    def network_changed(self) -> None:
        """Begin each dial anew: packets of those that are running may lead nowhere."""
        self._dials.part()

    def distrust(self, carrier: Carrier) -> None:
        """Hand out `carrier` no more. Discards all spares too, because they use the same network path."""
        self._take_out(carrier)
        self._spares.discard()

    def retire(self, carrier: Carrier) -> None:
        """Hand out `carrier` no more, because it leads to a process that ends.

        All carriers lead there, and all spares, until the first one is retired. Those that are made from then
        on lead to the next process.
        """
        if self._born.get(carrier, 0.0) > self._retired:
            self._retired = monotonic()
            for one in list(self._leases):
                self._take_out(one)
            self._spares.discard()

    def _take_out(self, carrier: Carrier) -> None:
        if carrier in self._leases:
            self._distrusted.add(carrier)
            self._roomy.pop(carrier, None)
            for lease in self._standby.remove(carrier):
                lease.discard()

    def keep(self, lease: Lease) -> None:
        """Keep the stream of a complete session for another one if the pool needs it, otherwise close it."""
        if not (self._closed or lease.carrier in self._distrusted):
            if self._share == 1:
                if (surplus := self._spares.keep(lease, self._born)) is None:
                    return
                lease = surplus
            elif self._standby.keep(lease):
                self._roomy[lease.carrier] = None
                return
        self._end(lease)

    def _end(self, lease: Lease) -> None:
        """Close the stream of a complete session once the server has, and give the lease back."""
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
        self._spares.discard()
        for carrier in list(self._leases):
            for lease in self._standby.remove(carrier):
                lease.discard()
        closing = [gevent.spawn(carrier.close, grace) for carrier in list(self._leases)]
        gevent.joinall(closing, timeout=grace + LAST_WORDS)  # a plugin's transport may exceed it
        self._leases.clear()
        self._born.clear()
        self._flows.clear()
        self._unleased.clear()
        self._roomy.clear()

    def _with_room(self) -> Lease | None:
        """A stream on a carrier that has room."""
        while (carrier := self._least_loaded()) is not None:
            if (lease := self._open(carrier, fresh=False)) is not None:
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
            if (lease := self._open(carrier, fresh=True)) is not None:
                return lease
            if carrier not in self._leases:
                raise TurnedAway("the server closed the connection at once")
            # Other sessions took its streams.
            if not fresh and (lease := self._spares.take() or self._with_room()) is not None:
                return lease
        raise Unreachable("no connection to the server had a stream to give")

    def _open(self, carrier: Carrier, *, fresh: bool) -> Lease | None:
        """A stream on `carrier`. None if other sessions took all its streams, or it is dead."""
        if not fresh and (lease := self._standby.take(carrier)) is not None:
            return lease
        try:
            stream = carrier.open()
        except Closed:
            self._roomy.pop(carrier, None)
            if carrier.closed and not self._leases[carrier]:
                self._drop(carrier)
            return None
        self._leases[carrier] += 1
        self._unleased.discard(carrier)
        return Lease(self, carrier, stream, fresh, self._hello(carrier))

    def _least_loaded(self) -> Carrier | None:
        """A carrier that has room, or None. It has the most room of a few, which take turns.

        After a peak there may be hundreds. The best of a few spreads the sessions almost as well as the best
        of all (M. Mitzenmacher, The Power of Two Choices in Randomized Load Balancing).
        """
        best, most, seen = None, 0, 0
        while self._roomy and seen < LOOKS:
            carrier, _ = self._roomy.popitem(last=False)
            room = self._free(carrier)
            if not room:
                continue
            self._roomy[carrier] = None
            seen += 1
            if carrier is best:
                break  # those were all
            if room > most:
                best, most = carrier, room
        return best

    def _free(self, carrier: Carrier) -> int:
        """The number of streams on `carrier` for further sessions."""
        kept = self._standby.count(carrier)
        return carrier.capacity + (0 if kept and dead(carrier) else kept)

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

    def _wanted(self) -> int:
        """The number of spares to have."""
        return ceil(self._demand.spares(monotonic()) / self._share)

    def _due(self) -> int:
        """The number of spares to have, or 0 while there is room, or sessions come first."""
        if self._closed or self._waiting or self.crowded() or self._least_loaded():
            return 0
        return self._wanted()

    def _make_spare(self) -> Lease | None:
        """A new spare; None if a session took its carrier. Raises LaneError."""
        carrier = self._dials.dial(1)
        spare = self._open(carrier, fresh=False)
        if spare is None:
            if carrier.closed or carrier.capacity:  # or it promises a stream that it does not give
                raise TurnedAway("the server closed the connection at once")
            return None
        try:
            spare.send(b"")
        except LaneError:
            spare.discard()
            raise
        return spare

    def _sweep(self) -> None:
        """Drop dead carriers without leases, and look after the spares and the streams that stand by."""
        while True:
            gevent.sleep(SWEEP)
            for lease in self._standby.remove_old():
                gevent.spawn(self._end, lease)
            for carrier in self._standby:
                self._roomy[carrier] = None  # whoever came may have found it full, and none of them at rest
            for carrier in list(self._unleased):
                if dead(carrier):
                    self._drop(carrier)
                elif carrier not in self._distrusted:
                    self._roomy[carrier] = None  # whoever dialled it may not have come
            self._spares.sweep()
