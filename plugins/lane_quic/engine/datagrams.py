"""Unreliable datagrams of a connection (RFC 9221): packets beside the streams, sent once or not at all.

A datagram that waits is worth less than a new one: where more are given than the path takes, and where nobody
reads them, the oldest are dropped, so that what waits is bounded and fresh. They leave before the data of
streams, but of a path that is too narrow for both the streams get half.

aioquic sends what is in a deque, the first one first, and waits for good for a first one that fits no packet.
The deque here is bounded, and rid of what became too large when packets shrank (mtu_discovery.py).
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from aioquic.quic.connection import QuicConnectionId
from gevent.event import Event

from lane.errors import Closed, Failure, LaneError
from lane_quic.recovery.recovery import Recovery

OVERHEAD = 1 + 2 + 16 + 1 + 2
"""Bytes of a packet that one datagram fills, without that and the connection ID: the packet's first byte and
number, the tag of its protection, the type and length of the frame."""
UNSENT_TIME, UNSENT_LEAST, UNSENT_MOST = 0.1, 32768, 262144
"""Seconds of the pacing rate that may wait to be sent, and bounds for that in bytes."""
UNREAD_MOST = 262144
"""Bytes that may wait to be read."""
UNASKED_MOST = 16384
"""The same while nobody has asked for any: what a stranger can make the server hold."""
COST = 64
"""Bytes that each datagram counts for beside its own."""
SHARE = 32768
"""Bytes that may leave before data of streams that wait, until these have sent as many."""


class DatagramQueue(deque[bytes]):
    """A queue of up to `most` bytes: the newest push out the oldest."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.size = 0
        """Bytes in it, with what each datagram costs."""
        self.taken = self.dropped = 0

    def append(self, data: bytes) -> None:
        """Add a datagram, at the expense of the oldest ones."""
        super().append(data)
        self.size += len(data) + COST
        while self.size > self.most:
            self.size -= len(super().popleft()) + COST
            self.dropped += 1

    def popleft(self) -> bytes:
        """Take the oldest."""
        data = super().popleft()
        self.size -= len(data) + COST
        self.taken += 1
        return data

    def keep(self, largest: int) -> int:
        """Drop those above `largest` bytes: how many."""
        kept = [data for data in self if len(data) <= largest]
        gone = len(self) - len(kept)
        if gone:
            self.clear()
            self.extend(kept)
            self.size = sum(map(len, kept)) + COST * len(kept)
        return gone


class SendQueue(DatagramQueue):
    """What is to be sent. It is false while it waits for streams to have their turn, and when it is empty."""

    def __init__(self) -> None:
        super().__init__(UNSENT_MOST)
        self.contended = False
        """Whether streams have data to send as well."""
        self.share = float(SHARE)
        """Bytes that may leave before those."""

    def __bool__(self) -> bool:
        return len(self) > 0 and (self.share > 0 or not self.contended)

    def popleft(self) -> bytes:
        """Take the oldest, to be sent."""
        data = super().popleft()
        if self.contended:
            self.share -= len(data)
        return data

    def on_sent(self, size: int) -> None:
        """Packets of `size` bytes left, with whatever was in them."""
        self.share = min(self.share + size / 2, SHARE)


NO_DATAGRAMS = SendQueue()
"""Of all connections that never had any to send: it stays empty."""


class DatagramConnection(Protocol):
    """What datagrams need of the connection that they belong to."""

    wake: Callable[[], None]
    """Called when there is something to send."""
    loss: Recovery
    max_datagram_size: int
    peer_cid: QuicConnectionId
    remote_max_datagram_frame_size: int | None


class QuicDatagrams:
    """See `lane.stream.Datagrams`."""

    def __init__(self, engine: DatagramConnection) -> None:
        self.outgoing = SendQueue()
        self._engine = engine
        self._incoming = DatagramQueue(UNASKED_MOST)
        self._readable = Event()
        self._failure: Failure[LaneError] | None = None
        self._fits = 0  # the largest that one packet took when last looked at
        self._received = self._too_large = 0

    @property
    def max_size(self) -> int:
        """The largest payload that fits a packet now, bytes; 0 where the peer takes none (yet)."""
        engine = self._engine
        limit: int = engine.remote_max_datagram_frame_size or 0  # of a frame with its type and length
        peers = limit - 3 if limit > 66 else min(limit - 2, 63)
        ours: int = engine.max_datagram_size - len(engine.peer_cid.cid) - OVERHEAD
        return max(0, min(ours, peers))

    def send(self, data: bytes) -> bool:
        """Send one packet at the end of this turn of the event loop; False if it is too large or too late."""
        if self._failure is not None:
            return False
        self.fit()
        if len(data) > self._fits:
            self._too_large += 1
            return False
        rate = self._engine.loss.pacer.rate
        if rate is not None:
            self.outgoing.most = int(min(max(rate * UNSENT_TIME, UNSENT_LEAST), UNSENT_MOST))
        self.outgoing.append(bytes(data))
        self._engine.wake()
        return True

    def recv(self) -> bytes:
        """Block for the next packet. Raises Closed with the carrier; what was not read by then is lost."""
        self._incoming.most = UNREAD_MOST
        while not self._incoming:
            if self._failure is not None:
                raise Closed(str(self._failure))
            self._readable.clear()
            self._readable.wait()  # no limit: the end of the carrier is one
        return self._incoming.popleft()

    # The connection's side.

    def fit(self) -> None:
        """Packets may have another size now: drop what is too large for them."""
        size = self.max_size
        if size < self._fits:
            self._too_large += self.outgoing.keep(size)
        self._fits = size

    def received(self, data: bytes) -> None:
        """One came."""
        self._received += 1
        self._incoming.append(data)
        self._readable.set()

    def fail(self, error: LaneError) -> None:
        """The connection is over."""
        self._failure = Failure.of(error)
        self.outgoing.keep(-1)
        self._incoming.keep(-1)
        self._readable.set()

    def counts(self) -> dict[str, float]:
        """How many datagrams, for `lane.stream.LinkStats`."""
        return {
            "datagrams_sent": self.outgoing.taken,
            "datagrams_received": self._received,
            "datagrams_dropped_out": self.outgoing.dropped,
            "datagrams_dropped_in": self._incoming.dropped,
            "datagrams_too_large": self._too_large,
        }
