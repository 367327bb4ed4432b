"""A transport without sockets, for tests of code that uses streams. It is also a minimal example of the
contract.

Both ends are in one process. Each transport object is a separate network. Its ports are the keys of a table.
"""

from collections import deque

from gevent.event import Event
from gevent.queue import Queue, ShutDown

from lane.errors import Closed, ConfigError, Failure, Reset, Unreachable
from lane.stream import Address, ClientTLS, LinkStats, ServerTLS

BUFFERED = 262144
"""Bytes that one direction of a stream holds before its sender blocks."""
STREAMS = 100
"""The most open streams of a carrier."""
WAITING = 128
"""The most datagrams that wait to be read at one end. The oldest are dropped for new ones."""
_BACKLOG = 256  # the most carriers that wait to be accepted, per listener


class MemoryTransport:
    """Carriers within this process. Their `drop()` loses them as a broken network would.

    `datagram_size` is the size of the largest datagram, bytes; 0 for carriers without datagrams.
    """

    name = "memory"

    def __init__(self, datagram_size: int = 0) -> None:
        self._datagram_size = datagram_size
        self._listeners: dict[int, MemoryListener] = {}

    def dial(self, endpoint: Address, tls: ClientTLS) -> "MemoryCarrier":
        """Connect to the listener with the port of `endpoint`. Its host and `tls` are not used."""
        listener = self._listeners.get(endpoint.port)
        if listener is None or listener.arrived.full():
            raise Unreachable(f"cannot reach {endpoint}: nobody accepts")
        near, far = MemoryCarrier(), MemoryCarrier()
        near.other, far.other = far, near
        if self._datagram_size:
            near.datagrams, far.datagrams = (MemoryDatagrams(self._datagram_size) for _ in range(2))
            near.datagrams.other, far.datagrams.other = far.datagrams, near.datagrams
        listener.arrived.put(far)
        return near

    def listen(self, endpoint: Address, tls: ServerTLS) -> "MemoryListener":
        """Listen on a port. `tls` is not used."""
        port = endpoint.port or next(p for p in range(49152, 65536) if p not in self._listeners)
        if port in self._listeners:
            raise ConfigError(f"cannot listen on {endpoint}: Address already in use")
        self._listeners[port] = MemoryListener(Address(endpoint.host, port), self._listeners)
        return self._listeners[port]


class MemoryListener:
    """Accepts carriers."""

    def __init__(self, address: Address, table: dict[int, "MemoryListener"]) -> None:
        self.address = address
        self.arrived: Queue[MemoryCarrier] = Queue(_BACKLOG)
        self._table = table

    def accept(self) -> "MemoryCarrier":
        """The next carrier. Raises Closed with the listener."""
        try:
            carrier: MemoryCarrier = self.arrived.get()
        except ShutDown:
            raise Closed("the listener is closed") from None
        return carrier

    def close(self) -> None:
        """Free the port, and close the carriers that nobody accepted."""
        self._table.pop(self.address.port, None)
        while not self.arrived.empty():
            self.arrived.get().close()
        self.arrived.shutdown()


class MemoryCarrier:
    """One end of a carrier; `other` is the far one."""

    binding = bytes(32)
    peer = "memory"
    other: "MemoryCarrier"

    def __init__(self) -> None:
        self.closed = False
        self.datagrams: MemoryDatagrams | None = None
        self._streams: set[MemoryStream] = set()  # the streams that are not closed at this end
        self._arrived: Queue[MemoryStream] = Queue()

    @property
    def capacity(self) -> int:
        """Streams that may still be opened."""
        taken = max(len(self._streams), self.other._arrived.qsize())
        return 0 if self.closed else max(0, STREAMS - taken)

    def open(self) -> "MemoryStream":
        """Open a stream, which the peer sees at once. Raises Closed."""
        if not self.capacity:
            raise Closed("the carrier takes no more streams")
        there, back = _Pipe(), _Pipe()
        stream = MemoryStream(back, there, self._streams)
        self.other._arrived.put(MemoryStream(there, back, self.other._streams))
        return stream

    def accept(self) -> "MemoryStream":
        """The next stream that the peer opened. Raises Closed with the carrier."""
        try:
            stream: MemoryStream = self._arrived.get()
        except ShutDown:
            raise Closed("the carrier is closed") from None
        return stream

    def stats(self) -> LinkStats:
        """Nothing is measured."""
        return LinkStats()

    def close(self, grace: float = 0) -> None:
        """Close both ends. The data of a finished stream can still be read."""
        self._end(Closed("the carrier is closed"), spare_finished=True)

    def drop(self) -> None:
        """Lose the carrier, as if the network had failed: nothing more is delivered."""
        self._end(Closed("the carrier is lost"), spare_finished=False)

    def _end(self, why: Closed, spare_finished: bool) -> None:
        for end in (self, self.other):
            end.closed = True
            if end.datagrams is not None:
                end.datagrams.fail(why)
            end._arrived.shutdown(immediate=not spare_finished)
            for stream in list(end._streams):
                stream.fail(why, spare_finished)


class MemoryDatagrams:
    """One end of a carrier's datagrams; `other` is the far one. Datagrams that are read in time arrive."""

    other: "MemoryDatagrams"

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self._arrived: deque[bytes] = deque(maxlen=WAITING)
        self._readable = Event()
        self._failure: Failure[Closed] | None = None

    def send(self, data: bytes) -> bool:
        """Put `data` into the far queue; False if it is too large, or the carrier is closed."""
        if len(data) > self.max_size or self._failure is not None:
            return False
        self.other._arrived.append(bytes(data))
        self.other._readable.set()
        return True

    def recv(self) -> bytes:
        """The next datagram. Raises Closed with the carrier."""
        while not self._arrived:
            if self._failure is not None:
                raise self._failure.build()
            self._readable.clear()
            self._readable.wait()
        return self._arrived.popleft()

    def fail(self, why: Closed) -> None:
        """End with the carrier."""
        self._failure = Failure.of(why)
        self._arrived.clear()
        self._readable.set()


class MemoryStream:
    """One end of a stream."""

    def __init__(self, incoming: "_Pipe", outgoing: "_Pipe", owner: "set[MemoryStream]") -> None:
        self._in = incoming
        self._out = outgoing
        self._owner = owner
        self._released = False
        owner.add(self)

    def recv(self, limit: int = 262144) -> bytes:
        """Block for 1 to `limit` bytes; b"" once the peer has finished. Raises Reset or Closed."""
        if self._released:
            raise Closed("closed here")
        return self._in.read(limit)

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` to the peer's side, at most BUFFERED bytes ahead of it. Raises Reset or Closed."""
        self._out.write(memoryview(data).cast("B"))

    def finish(self) -> None:
        """End our direction. Idempotent. Raises Closed where it can't be delivered."""
        if self._out.failure is not None and not self._released:
            raise self._out.failure.build()
        self._out.finish()

    def reset(self, code: int = 0) -> None:
        """Abort both directions, at both ends."""
        if not self._released:
            self._release()
            for pipe in (self._in, self._out):
                pipe.fail(Reset(code))

    def renew(self) -> bool:
        """Whether a further session can begin: nothing is on its way, and neither direction has ended."""
        return not (self._released or any(pipe.in_use or pipe.finished for pipe in (self._in, self._out)))

    def close(self) -> None:
        """Finish. Unread input, or an incomplete `sendall`, turns this into a reset."""
        if self._in.data or self._out.writing:
            self.reset()
        elif not self._released:
            self._release()
            self._out.finish()
            if not self._in.finished:
                self._in.fail(Closed("the stream is closed"))  # for greenlets that send more, or wait here

    def fail(self, why: Closed, spare_finished: bool) -> None:
        """End with the carrier."""
        for pipe in (self._in, self._out):
            if not (spare_finished and pipe.finished):
                pipe.fail(why)

    def _release(self) -> None:
        self._released = True
        self._owner.discard(self)


class _Pipe:
    """One direction of a stream: a bounded buffer between one writer and one reader."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.finished = False
        self.writing = False
        self.failure: Failure[Closed] | None = None
        self._for_reader = Event()  # one each: the waiting side clears only its own event
        self._for_writer = Event()

    @property
    def in_use(self) -> bool:
        """Whether bytes are on their way, or never will be."""
        return bool(self.data or self.writing or self.failure)

    def read(self, limit: int) -> bytes:
        while self.failure is None and not self.data and not self.finished:
            self._for_reader.clear()
            self._for_reader.wait()
        if self.failure is not None:
            raise self.failure.build()
        piece = bytes(self.data[:limit])
        del self.data[:limit]
        self._for_writer.set()
        return piece

    def write(self, view: memoryview) -> None:
        if self.writing:
            raise Closed("another sendall was not completed")
        self.writing = True
        while True:
            if self.failure is not None:
                raise self.failure.build()
            if self.finished:
                raise Closed("the stream is finished")
            room = BUFFERED - len(self.data)
            self.data += view[:room]
            view = view[room:]
            self._for_reader.set()
            if not view:
                break
            self._for_writer.clear()
            self._for_writer.wait()
        self.writing = False  # not in a `finally`: after an interruption it stays set

    def finish(self) -> None:
        self.finished = True
        self._for_reader.set()

    def fail(self, why: Closed) -> None:
        """End both calls with `why`. Unread data is lost."""
        if self.failure is None:
            self.failure = Failure.of(why)
            self.data.clear()
            self._for_reader.set()
            self._for_writer.set()
