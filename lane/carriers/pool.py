"""The client's carriers to its server: dialled when needed, shared as far as they go, one kept warm.

A transport with many streams a carrier gets a second one when the first is full; one with a single
stream gets one a session. Either way a stream that has already proven the key to the server stands by,
so that the next session does not wait for a handshake. A carrier that died is never handed out.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress

import gevent
from gevent.event import AsyncResult

from lane.errors import Closed, LaneError, Unreachable
from lane.stream import Carrier, Stream

log = logging.getLogger("lane.carriers")

SPARE_LIFE = 240.0
"""Seconds that a spare waits for a session before it is given up."""
SWEEP = 30.0
LAST_WORDS = 1.0
"""Seconds that a carrier nobody uses has to deliver what its streams said last."""
_SHARED = 8
"""Sessions that wait for one handshake, until it is known how many streams a carrier has."""


class Lease:
    """A stream that has sent HELLO, and its carrier, until `release`."""

    def __init__(self, pool: "Pool", carrier: Carrier, stream: Stream, fresh: bool) -> None:
        self.carrier = carrier
        self.stream = stream
        self.fresh = fresh
        """Whether the carrier was dialled for this lease: then its death can't be blamed on its age."""
        self._pool: Pool | None = pool

    def release(self) -> None:
        """Give the carrier back; the stream is closed or was reset. Idempotent."""
        if self._pool:
            self._pool.release(self.carrier)
            self._pool = None

    def discard(self) -> None:
        """Reset the stream and give the carrier back."""
        self.stream.reset()
        self.release()


class _Dial:
    def __init__(self) -> None:
        self.result: AsyncResult[Carrier] = AsyncResult()
        self.waiting = 0


class Pool:
    """Carriers that `dial` makes; `hello` gives the bytes that open a stream on one.

    `dial` raises Unreachable or Refused; `dial_timeout` in seconds.
    """

    def __init__(
        self, dial: Callable[[], Carrier], hello: Callable[[Carrier], bytes], dial_timeout: float
    ) -> None:
        self._dial = dial
        self._hello = hello
        self._dial_timeout = dial_timeout
        self._leases: Counter[Carrier] = Counter()  # every live carrier, and how many use it
        self._spares: deque[tuple[Lease, gevent.Greenlet[..., None]]] = deque()
        self._dials: set[_Dial] = set()
        self._share = _SHARED
        self._refilling = False
        self._closed = False
        self._sweeper = gevent.spawn(self._sweep)

    def __len__(self) -> int:
        return len(self._leases)

    def lease(self, *, fresh: bool = False) -> Lease:
        """A stream to the server that has sent HELLO; on a new carrier if `fresh`.

        Raises Unreachable or Refused.
        """
        while self._spares and not fresh:
            spare, watch = self._spares.popleft()
            try:
                watch.kill()
            except BaseException:  # we are killed ourselves: nobody else knows of it
                spare.discard()
                raise
            if not spare.carrier.closed:
                self._refill()
                return spare
            spare.discard()
        while True:
            carrier = None if fresh else self._least_loaded()
            dialled = carrier is None
            if carrier is None:
                carrier = self._dial_shared(1 if fresh else self._share)
            try:
                lease = self._open(carrier, dialled)
            except Closed:
                if carrier.closed and not self._leases[carrier]:
                    del self._leases[carrier]
                    gevent.spawn(carrier.close)
                    if dialled:
                        raise Unreachable("the server closed the connection at once") from None
                continue  # others were quicker, or it died in this moment
            self._refill()
            return lease

    def release(self, carrier: Carrier) -> None:
        """One lease less on `carrier`, which is closed when it can't have another."""
        self._leases[carrier] -= 1
        if self._leases[carrier] <= 0 and not carrier.capacity:
            del self._leases[carrier]
            gevent.spawn(carrier.close, LAST_WORDS)

    def close(self, grace: float = 0) -> None:
        """Close every carrier; finished streams have `grace` seconds to drain."""
        self._closed = True
        self._sweeper.kill(block=False)
        while self._spares:
            spare, watch = self._spares.popleft()
            watch.kill()
            spare.discard()
        gevent.joinall([gevent.spawn(carrier.close, grace) for carrier in list(self._leases)])
        self._leases.clear()

    def _least_loaded(self) -> Carrier | None:
        usable = [carrier for carrier in self._leases if not carrier.closed and carrier.capacity]
        return max(usable, key=lambda carrier: carrier.capacity, default=None)

    def _open(self, carrier: Carrier, fresh: bool) -> Lease:
        """A stream on `carrier`. Raises Closed."""
        stream = carrier.open()
        self._leases[carrier] += 1
        lease = Lease(self, carrier, stream, fresh)
        try:
            stream.sendall(self._hello(carrier))
        except BaseException:
            lease.discard()
            raise
        return lease

    def _dial_shared(self, share: int) -> Carrier:
        """A new carrier, dialled now or by somebody who is dialling already."""
        dial = next((dial for dial in self._dials if dial.waiting < share), None)
        if dial is None:
            if self._closed:
                raise Unreachable("lane is closing")
            dial = _Dial()
            self._dials.add(dial)
            gevent.spawn(self._carry_out, dial)
        dial.waiting += 1
        carrier: Carrier = dial.result.get()
        return carrier

    def _carry_out(self, dial: _Dial) -> None:
        try:
            with gevent.Timeout(self._dial_timeout, Unreachable("no answer from the server in time")):
                carrier = self._dial()
        except LaneError as error:
            dial.result.set_exception(error)
        except Exception as error:
            log.exception("the transport failed to dial")
            dial.result.set_exception(Unreachable(f"the transport failed to dial: {error!r}"))
        else:
            if self._closed:
                gevent.spawn(carrier.close)
                dial.result.set_exception(Unreachable("lane is closing"))
                return
            self._share = max(carrier.capacity, 1)
            self._leases[carrier] = 0
            dial.result.set(carrier)
        finally:
            self._dials.discard(dial)

    def _refill(self) -> None:
        """Have a spare when nothing is left."""
        if not (self._spares or self._least_loaded() or self._refilling or self._closed):
            self._refilling = True
            gevent.spawn(self._make_spare)

    def _make_spare(self) -> None:
        try:
            spare = self._open(self._dial_shared(1), fresh=False)
            self._spares.append((spare, gevent.spawn(self._watch, spare)))
        except LaneError as error:
            log.debug("no spare: %s", error)
        finally:
            self._refilling = False

    def _watch(self, spare: Lease) -> None:
        """Drop a spare that ends, or that nobody needed for long: a server says nothing before a REQUEST."""
        with suppress(LaneError), gevent.Timeout(SPARE_LIFE, False):
            spare.stream.recv(1)
        self._spares = deque(entry for entry in self._spares if entry[0] is not spare)
        spare.discard()

    def _sweep(self) -> None:
        """Forget carriers that ended while nobody used them."""
        while True:
            gevent.sleep(SWEEP)
            for carrier in [c for c, leases in self._leases.items() if c.closed and not leases]:
                del self._leases[carrier]
