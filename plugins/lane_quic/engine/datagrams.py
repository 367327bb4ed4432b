"""Unreliable datagrams of a connection (RFC 9221): packets beside the streams, sent at most once.

An old datagram is worth less than a new one. So both queues, for sending and for reading, are bounded, and a
full queue drops its oldest datagrams. Datagrams are sent before stream data. If the path has no room for
both, the streams get half of it.

aioquic sends from a deque, in order, and blocks forever if the first datagram fits into no packet. The deque
here drops datagrams that became too large when the packet size shrank (mtu_discovery.py).
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from aioquic.quic.connection import QuicConnectionId
from gevent.event import Event

from lane.errors import Closed, Failure, LaneError
from lane_quic.recovery.recovery import Recovery

OVERHEAD = 1 + 2 + 16 + 1 + 2
"""Bytes of a packet with one datagram, without the datagram and the connection ID. They are the packet's
first byte and number, the AEAD tag, and the type and length of the frame."""
UNSENT_TIME = 0.1
"""Unsent datagrams that may be queued, in seconds of the pacing rate."""
UNSENT_LEAST = 32768
"""Bytes of unsent datagrams that may be queued at any pacing rate."""
UNSENT_MOST = 262144
"""The most bytes of unsent datagrams that may be queued."""
UNREAD_MOST = 262144
"""Bytes of received datagrams that may be queued."""
UNASKED_MOST = 16384
"""The same before the first `recv`: the bytes that an unauthenticated peer can make the server hold."""
COST = 64
"""Bytes that each queued datagram counts in addition to its own."""
SHARE = 32768
"""Bytes of datagrams that may be sent before waiting stream data. Then the streams may send as many."""


class DatagramQueue(deque[bytes]):
    """A queue of up to `most` bytes. A full queue drops its oldest datagrams."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.size = 0
        """Bytes in the queue, with `COST` for each datagram."""
        self.taken = self.dropped = 0

    def append(self, data: bytes) -> None:
        """Add a datagram. Drop the oldest ones if the queue is full."""
        deque.append(self, data)  # `super` would take as long as all the rest
        self.size += len(data) + COST
        while self.size > self.most:
            self.size -= len(super().popleft()) + COST
            self.dropped += 1

    def popleft(self) -> bytes:
        """Remove and return the oldest datagram."""
        data = super().popleft()
        self.size -= len(data) + COST
        self.taken += 1
        return data

    def keep(self, largest: int) -> int:
        """Drop the datagrams of more than `largest` bytes. Return how many there were."""
        kept = [data for data in self if len(data) <= largest]
        gone = len(self) - len(kept)
        if gone:
            self.clear()
            self.extend(kept)
            self.size = sum(map(len, kept)) + COST * len(kept)
        return gone


class SendQueue(DatagramQueue):
    """The datagrams to send. The queue is false if it is empty, or while streams have their turn."""

    def __init__(self) -> None:
        super().__init__(UNSENT_MOST)
        self.contended = False
        """Whether streams have data to send too."""
        self.share = float(SHARE)
        """Bytes that may be sent before the streams have their turn."""

    def __bool__(self) -> bool:
        return len(self) > 0 and (self.share > 0 or not self.contended)

    def popleft(self) -> bytes:
        """Remove and return the oldest datagram, to send it."""
        data = super().popleft()
        if self.contended:
            self.share -= len(data)
        return data

    def take_all(self) -> None:
        """Remove all datagrams, to send them. No stream has data to send."""
        self.taken += len(self)
        self.size = 0
        self.clear()

    def on_sent(self, size: int) -> None:
        """Note that packets of `size` bytes were sent, with any content."""
        if self.share < SHARE:
            self.share = min(self.share + size / 2, SHARE)


NO_DATAGRAMS = SendQueue()
"""The queue of all connections that never had datagrams to send. It stays empty."""


class DatagramConnection(Protocol):
    """The parts of a connection that its datagrams use."""

    wake: Callable[[], None]
    """Called when something is to be sent."""
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
        self._deliver: Callable[[bytes], None] | None = None
        self._failure: Failure[LaneError] | None = None
        self._fits = 0  # `max_size` at its last check
        self._received = self._too_large = 0

    @property
    def max_size(self) -> int:
        """The largest payload that fits into a packet now, bytes; 0 if the peer accepts none (yet)."""
        if self._failure is not None:
            return 0
        engine = self._engine
        limit: int = engine.remote_max_datagram_frame_size or 0  # of a frame with its type and length
        peers = limit - 3 if limit > 66 else min(limit - 2, 63)
        ours: int = engine.max_datagram_size - len(engine.peer_cid.cid) - OVERHEAD
        return max(0, min(ours, peers))

    def send(self, data: bytes) -> bool:
        """Send `data` at the end of this turn of the event loop. False if it is too large or too late."""
        if self._failure is not None:
            return False
        if len(data) > self._fits:
            self.fit()
            if len(data) > self._fits:
                self._too_large += 1
                return False
        outgoing = self.outgoing
        if len(outgoing) and (rate := self._engine.loss.pacer.rate) is not None:
            outgoing.most = int(min(max(rate * UNSENT_TIME, UNSENT_LEAST), UNSENT_MOST))
        outgoing.append(bytes(data))
        self._engine.wake()
        return True

    def hand_to(self, deliver: Callable[[bytes], None]) -> None:
        """See `lane.stream.HandsOver`."""
        if self._failure is None:
            self._deliver = deliver
            while self._incoming:
                deliver(self._incoming.popleft())

    def recv(self) -> bytes:
        """Block until the next datagram arrives. Raises Closed once the carrier ends; unread data is lost."""
        self._incoming.most = UNREAD_MOST
        while not self._incoming:
            if self._failure is not None:
                raise Closed(str(self._failure))
            self._readable.clear()
            self._readable.wait()  # no limit: the end of the carrier is one
        return self._incoming.popleft()

    # Called by the connection.

    def fit(self) -> None:
        """Drop datagrams that are too large for the current packet size."""
        size = self.max_size
        if size < self._fits:
            self._too_large += self.outgoing.keep(size)
        self._fits = size

    def received(self, data: bytes) -> None:
        """Deliver a received datagram, or queue it."""
        self._received += 1
        if self._deliver is not None:
            self._deliver(data)
        else:
            self._incoming.append(data)
            self._readable.set()

    def fail(self, error: LaneError) -> None:
        """End: the connection is closed."""
        if self._failure is not None:
            return
        self._failure = Failure.of(error)
        self._deliver = None
        del self._engine  # which refers to this
        self.outgoing.keep(-1)
        self._incoming.keep(-1)
        self._readable.set()

    def counts(self) -> dict[str, float]:
        """Counters of datagrams, for `lane.stream.LinkStats`."""
        return {
            "datagrams_sent": self.outgoing.taken,
            "datagrams_received": self._received,
            "datagrams_dropped_out": self.outgoing.dropped,
            "datagrams_dropped_in": self._incoming.dropped,
            "datagrams_too_large": self._too_large,
        }
