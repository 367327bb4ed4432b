"""A stream and its carrier, lent by a pool: see `lane.carriers.pool`."""

from typing import Protocol

from lane.session.flows import Flows
from lane.stream import Carrier, Stream
from lane.supervisor import report


class Lender(Protocol):
    """The pool of a lease. See `lane.carriers.pool.Pool`."""

    def flows(self, carrier: Carrier) -> Flows | None: ...
    def release(self, carrier: Carrier) -> None: ...
    def distrust(self, carrier: Carrier) -> None: ...
    def retire(self, carrier: Carrier) -> None: ...
    def keep(self, lease: "Lease") -> None: ...


class Lease:
    """A stream and its carrier, until `release`. Use `send` for the first data: it adds HELLO."""

    def __init__(self, pool: Lender, carrier: Carrier, stream: Stream, fresh: bool, hello: bytes) -> None:
        self.carrier = carrier
        self.stream = stream
        self.fresh = fresh
        """Whether the carrier was dialled for this lease, and so has not died of age if it is dead."""
        self.distrusted = False
        """Whether the carrier failed to answer in time."""
        self._pool: Lender | None = pool
        self._hello = hello

    def send(self, data: bytes) -> None:
        """Send `data`, preceded by HELLO if that was not sent yet. Raises Closed."""
        data, self._hello = self._hello + data, b""
        self.stream.sendall(data)

    def flows(self) -> Flows | None:
        """The datagrams of the carrier; None after `release`."""
        return self._pool.flows(self.carrier) if self._pool else None

    def release(self) -> None:
        """Give the carrier back after the stream was closed or reset. Idempotent."""
        if self._pool:
            self._pool.release(self.carrier)
            self._pool = None

    def keep(self) -> None:
        """Give the stream of a complete session back for another one. Call it instead of `release`."""
        pool, self._pool = self._pool, None
        if pool:
            pool.keep(Lease(pool, self.carrier, self.stream, fresh=False, hello=b""))

    def discard(self) -> None:
        """Reset the stream and give the carrier back."""
        self.stream.reset()
        self.release()

    def retire(self) -> None:
        """Tell the pool that the carrier leads to a process that ends, so that no other session gets it."""
        if self._pool:
            self._pool.retire(self.carrier)

    def distrust(self) -> None:
        """Tell the pool that the carrier does not answer, so that no other session gets it."""
        self.distrusted = True
        if self._pool:
            self._pool.distrust(self.carrier)


def dead(carrier: Carrier) -> bool:
    """Whether the carrier is closed. If a plugin's transport fails to answer, the carrier counts as dead."""
    try:
        return carrier.closed
    except Exception as error:
        report("a carrier that was asked whether it is closed", error)
        return True
