"""A stream and its carrier, lent by a pool: `lane.carriers.pool`."""

from typing import Protocol

from lane.session.flows import Flows
from lane.stream import Carrier, Stream


class Lender(Protocol):
    """The pool that a lease is from. See `lane.carriers.pool.Pool`."""

    def flows(self, carrier: Carrier) -> Flows | None: ...
    def release(self, carrier: Carrier) -> None: ...
    def distrust(self, carrier: Carrier) -> None: ...
    def keep(self, lease: "Lease") -> None: ...


class Lease:
    """A stream and its carrier, until `release`. What is sent first goes through `send`."""

    def __init__(self, pool: Lender, carrier: Carrier, stream: Stream, fresh: bool, hello: bytes) -> None:
        self.carrier = carrier
        self.stream = stream
        self.fresh = fresh
        """Whether the carrier was dialled for this lease: then its death can't be blamed on its age."""
        self.distrusted = False
        """Whether the carrier did not answer when it should have."""
        self._pool: Lender | None = pool
        self._hello = hello

    def send(self, data: bytes) -> None:
        """Send `data`, behind HELLO where that was not sent yet. Raises Closed."""
        data, self._hello = self._hello + data, b""
        self.stream.sendall(data)

    def flows(self) -> Flows | None:
        """The datagrams of the carrier; None once it was given back."""
        return self._pool.flows(self.carrier) if self._pool else None

    def release(self) -> None:
        """Give the carrier back; the stream is closed or was reset. Idempotent."""
        if self._pool:
            self._pool.release(self.carrier)
            self._pool = None

    def keep(self) -> None:
        """Give the stream back for another session, instead of `release`: the last one is complete."""
        pool, self._pool = self._pool, None
        if pool:
            pool.keep(Lease(pool, self.carrier, self.stream, fresh=False, hello=b""))

    def discard(self) -> None:
        """Reset the stream and give the carrier back."""
        self.stream.reset()
        self.release()

    def distrust(self) -> None:
        """The carrier does not answer: nobody else should get it."""
        self.distrusted = True
        if self._pool:
            self._pool.distrust(self.carrier)
