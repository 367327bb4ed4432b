"""A QUIC connection as a carrier of lane. Greenlets block only on their own stream."""

from collections.abc import Callable
from math import inf
from time import monotonic

from gevent.event import Event

from lane.errors import Closed
from lane.stream import LinkStats
from lane_quic.engine.datagrams import QuicDatagrams
from lane_quic.runner import Runner
from lane_quic.stream import QuicStream


class QuicCarrier(Runner):
    """See `lane.stream.Carrier`."""

    @property
    def capacity(self) -> int:
        """See `lane.stream.Carrier`."""
        return 0 if self.closed else self.engine.capacity

    @property
    def datagrams(self) -> QuicDatagrams | None:
        """See `lane.stream.Carrier`. The handshake says whether the peer accepts datagrams."""
        return self.engine.datagrams if not self.closed and self.engine.datagrams.max_size else None

    @property
    def has_more(self) -> bool:
        """See `lane.stream.Paces`: a stream waits until its data are sent."""
        return bool(self.waiting)

    def belong(self, user: str) -> None:
        """See `lane.stream.Paces`."""

    def pace(self, rate: float | None) -> None:
        """See `lane.stream.Paces`. It takes effect with the next ACK."""
        self.engine.loss.pacer.most = inf if rate is None else max(rate, 1.0)

    def proven(self) -> None:
        """See `lane.stream.Proves`."""
        self._owner.on_proven(self)

    def open(self) -> QuicStream:
        """See `lane.stream.Carrier`."""
        if self._failure or not self.engine.capacity:
            raise Closed(str(self._failure) if self._failure else "the connection has no more streams")
        stream_id = self.engine.get_next_available_stream_id()
        self.engine.send_stream_data(stream_id, b"")  # this reserves the ID
        stream = self._streams[stream_id] = QuicStream(self, stream_id)
        self.hurry(monotonic())
        return stream

    def accept(self) -> QuicStream:
        """See `lane.stream.Carrier`."""
        if (stream := self._streams.accept()) is None:
            raise Closed(str(self._failure))
        return stream

    def when_heard(self, callback: Callable[[], None]) -> None:
        """See `lane.stream.Rings`."""
        self._streams.arrived.rawlink(lambda _: callback())

    def stats(self) -> LinkStats:
        """See `lane.stream.Carrier`."""
        return self.engine.stats()

    def close(self, grace: float = 0) -> None:
        """See `lane.stream.Carrier`."""
        deadline = monotonic() + grace
        while not self._failure and not self.engine.drained() and (left := deadline - monotonic()) > 0:
            self._drained = self._drained or Event()
            self._drained.clear()
            self._drained.wait(left)
        self.shut("closed on this side")
