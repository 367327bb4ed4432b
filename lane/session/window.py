"""The two windows of a session, without I/O: what may be sent, what may be received, what is held.

A receiver grants credit as the application consumes (not as bytes arrive), so a slow reader holds its
sender back from end to end. A sender retains what it sent until that has been consumed, because a
session may have to send it again over another stream. Both are bounded: by the window of the session,
which starts small and grows only for those who use it, and by one `Budget` for the process.

Offsets are absolute; a direction's FIN counts as one byte after its last (docs/PROTOCOL.md).
"""

from collections.abc import Callable

from lane.budget import Budget
from lane.errors import ProtocolError
from lane.proto.frames import MAX_WINDOW
from lane.proto.hello import EARLY

Buffer = bytes | bytearray | memoryview

INITIAL_WINDOW = 256 * 1024
"""Bytes a session may hold in each direction before it has shown that it needs more."""
SHORT, FIRST_STEP = 8192, 1024 * 1024
"""Bytes that a short answer has at most, and to which a window grows for who is sent more at once."""
GROWTH = 16
"""Window over what was under way, after growth: one that is too small costs round trips."""
UNTOLD = 2 * 1024 * 1024
"""Bytes that may be consumed before the peer is told, whatever the window: it retains all of them."""
MAX_TOLD = 64
"""Acknowledgements that are remembered: more than a round trip has on any but the longest, fastest paths."""
REACTION = 0.020
"""Seconds, beside the round trip, until an acknowledgement can show in what comes: what waits on the way
to the wire takes time, too."""


def initial_window(buffer_size: int) -> int:
    """The window that a session starts with, bytes: what REQUEST and REPLY carry."""
    return min(buffer_size, INITIAL_WINDOW)


_SMALL = 4096  # chunks below this are joined, so that one-byte writes don't cost an object each
_JOINED = 16384


class ByteQueue:
    """Bytes in order, as the chunks they came in; tiny ones are joined."""

    def __init__(self) -> None:
        self._chunks: list[Buffer] = []  # few; an empty deque takes 700 bytes
        self._skip = 0  # bytes of the first chunk that are gone already
        self.size = 0

    def append(self, data: Buffer) -> None:
        """Take over `data`, which must not change any more."""
        self.size += len(data)
        if len(data) >= _SMALL:
            self._chunks.append(data)
            return
        last = self._chunks[-1] if self._chunks else None
        if isinstance(last, bytearray) and len(last) < _JOINED:
            last += data
        else:
            self._chunks.append(bytearray(data))

    def take(self, limit: int) -> Buffer:
        """Remove and return 1 to `limit` bytes; the queue must not be empty."""
        chunk = self._chunks[0]
        size = min(len(chunk) - self._skip, limit)
        if not self._skip and size == len(chunk):
            self._chunks.pop(0)
            self.size -= size
            return chunk
        piece = bytes(memoryview(chunk)[self._skip : self._skip + size])
        self.drop(size)
        return piece

    def peek(self, start: int, limit: int) -> Buffer:
        """1 to `limit` bytes from `start` on, which stay; there must be some."""
        start += self._skip
        for chunk in self._chunks:
            if start < len(chunk):
                piece = memoryview(chunk)[start : start + limit]
                return bytes(piece) if isinstance(chunk, bytearray) else piece  # that one may still grow
            start -= len(chunk)
        raise IndexError("there are no bytes there")

    def drop(self, size: int) -> None:
        """Remove the first `size` bytes, of which there must be that many."""
        self.size -= size
        self._skip += size
        while self._chunks and self._skip >= len(self._chunks[0]):
            self._skip -= len(self._chunks.pop(0))

    def clear(self) -> None:
        """Remove all."""
        self._chunks.clear()
        self._skip = self.size = 0


class Inbox:
    """One direction, at the receiver: what has come, what was consumed, and the credit for more."""

    def __init__(self, buffer_size: int, budget: Budget) -> None:
        self._queue = ByteQueue()
        self._budget = budget
        self._most = min(buffer_size, MAX_WINDOW)
        self.initial = self.window = initial_window(buffer_size)
        self.limit = max(self.window, EARLY)  # the offset up to which the peer may send
        self.received = 0  # all before this offset has come
        self.consumed = 0  # all before this offset has left the process; FIN is one more
        self.final: int | None = None
        self._acked = 0  # `consumed` as the peer was told last
        self._urged = 0  # what came before this offset is to be acknowledged as soon as it is consumed
        self._lent = 0  # bytes taken and not yet consumed
        self._mark = 0  # where the quarter of a window began that growth looks at
        self._told: list[tuple[float, int]] = []  # when the peer was told of what was consumed
        self._known = 0  # what of that it must know by now
        self._used = 0  # since the mark: the most that it had under way, for all it could know
        self._hungry = False  # whether the reader waited for data since the mark
        self._grown = False  # whether the window grew since the peer was told of it

    @property
    def held(self) -> int:
        """Bytes that came and were not taken."""
        return self._queue.size

    @property
    def at_end(self) -> bool:
        """Whether all has been taken and no more will come."""
        return self.final is not None and not self._queue.size

    @property
    def ended(self) -> bool:
        """Whether the end itself was consumed."""
        return self.final is not None and self.consumed > self.final

    @property
    def arrived(self) -> int:
        """The offset from which the peer goes on over another stream: FIN is one more."""
        return self.received + (self.final is not None)

    def receive(
        self, offset: int, data: Buffer, now: float, rtt: float, offer: Callable[[Buffer], int] | None = None
    ) -> None:
        """Bytes from the peer (times in seconds); those known already are dropped. Raises ProtocolError.

        They are copied where they are views. `offer` may consume some of them at once, from the first on.
        """
        end = offset + len(data)
        if offset > self.received:
            raise ProtocolError(f"a gap in the data before offset {offset}")
        if end > self.limit:
            raise ProtocolError("more data than the window allows")
        if self.final is not None and end > self.final:
            raise ProtocolError("data after the end")
        known = self.received - offset
        if known >= len(data):
            return
        fresh = memoryview(data)[known:] if known else data
        idle = not (self._queue.size or self._lent)
        self._hungry = self._hungry or idle
        self.received = end
        while self._told and self._told[0][0] <= now - 1.5 * rtt - REACTION:
            self._known = self._told.pop(0)[1]
        self._used = max(self._used, end - self._known)
        if idle and offer is not None and (taken := offer(fresh)):
            self._lent = taken
            self.consume()
            fresh = memoryview(fresh)[taken:]
        if len(fresh):
            self._queue.append(bytes(fresh))

    def finish(self, final: int) -> None:
        """The peer's FIN. Raises ProtocolError if data before it is missing, or it moved."""
        if final != self.received or self.final not in (None, final):
            raise ProtocolError(f"an end at {final} after {self.received} bytes")
        self.final = final

    def consume(self) -> None:
        """What was taken has left the process: it counts as consumed, and the window may grow.

        It grows when the reader was waiting for more, to many times what the peer had under way for all that
        it could know: well before the peer runs out, so that a transfer which speeds up is not held back. On
        a lossy path it takes several round trips: what is sent again holds up all that came behind it. That
        may be so from the first packet on, so the first step is taken as soon as more has come at once than
        a short answer.
        """
        self.consumed += self._lent
        self._lent = 0
        read = self.consumed - self._mark
        at_once = self._hungry and min(read, self._used) > SHORT
        if at_once and self.window == self.initial and self._budget.plenty:
            self._grow_to(FIRST_STEP)
        elif read >= self.window // 4:
            self._grow_to(self._used * GROWTH if self._hungry else 0)

    def _grow_to(self, size: int) -> None:
        """Grow to `size` bytes if there is room, and begin anew to look for reasons."""
        more = self._budget.take_most(min(size, self._most) - self.window)
        self.window += more
        self._grown = self._grown or more > 0
        self._mark, self._used, self._hungry = self.consumed, 0, False

    def take(self, limit: int) -> Buffer:
        """Hand out 1 to `limit` bytes (there must be some); they are consumed with the next `consume`."""
        chunk = self._queue.take(limit)
        self._lent += len(chunk)
        return chunk

    def take_end(self) -> None:
        """Hand out the end. Nothing more can come: the window is no longer needed."""
        assert self.final is not None
        self.consumed = self.final + 1
        self.shrink()
        self._most = self.initial

    @property
    def ack_due(self) -> bool:
        """Whether the peer should hear of what was consumed now, lest it runs out of credit."""
        news = self.consumed - self._acked
        urgent = self._grown or self._acked < self._urged or self.ended
        return news > 0 and (news >= min(self.window // 4, UNTOLD) or urgent)

    def urge(self) -> None:
        """The peer waits for an ACK: it may retain less than our window allows it to send."""
        self._urged = self.received

    @property
    def ack_possible(self) -> bool:
        """Whether there is anything that the peer has not heard."""
        return self.consumed > self._acked

    def acknowledge(self, now: float) -> tuple[int, int]:
        """`consumed` and `window` for an ACK that is being sent now."""
        self._acked, self._grown = self.consumed, False
        self.limit = max(self.limit, self.consumed + self.window)
        if len(self._told) == MAX_TOLD:
            self._told.pop()
        self._told.append((now, self.consumed))
        return self.consumed, self.window

    def shrink(self) -> bool:
        """Fall back to the least window, for a session that is idle; whether that changes anything.

        The peer may still use the old one until it has heard of it: see `shrunk`.
        """
        if self.window == self.initial:
            return False
        self._budget.give(self.window - self.initial)
        self.window = self.initial
        self._mark, self._used, self._hungry = self.consumed, 0, False
        return True

    def shrunk(self) -> None:
        """The peer has seen the smaller window: what it sends beyond is an offence."""
        self.limit = max(self.received, self._acked + self.window)

    def release(self) -> None:
        """Drop all that is held; the inbox is of no more use, and will not grow any more."""
        self._queue.clear()
        if self.window != self.initial:
            self._budget.give(self.window - self.initial)
        self.window = self._most = self.initial


class Outbox:
    """One direction, at the sender: the peer's credit, and what it has not consumed yet."""

    def __init__(self, buffer_size: int, budget: Budget, limit: int) -> None:
        self._retained = ByteQueue()
        self._budget = budget
        self._most = buffer_size
        self._least = min(buffer_size, INITIAL_WINDOW)
        self._reserved = 0  # taken from the budget
        self.sent = 0
        self.acked = 0
        self.limit = limit
        self.final: int | None = None
        self.released = False
        """Whether the session is over, and nothing can be sent again."""

    @property
    def retained(self) -> int:
        """Bytes that were sent and not consumed."""
        return self._retained.size

    @property
    def held_back(self) -> bool:
        """Whether it is not the peer's window that keeps us from sending, but what we may retain."""
        return self.sent < self.limit

    @property
    def fin_acked(self) -> bool:
        """Whether the peer has consumed everything, our FIN included."""
        return self.final is not None and self.acked > self.final

    def allowance(self, wanted: int) -> int:
        """How many of `wanted` bytes may be sent now."""
        size = min(wanted, self.limit - self.sent, self._most - self._retained.size)
        lacking = self._retained.size + size - self._least - self._reserved
        if lacking > 0:
            step = max(lacking, self._least)
            if self._budget.take(step):
                self._reserved += step
            else:
                size -= lacking
        return max(size, 0)

    def send(self, data: Buffer) -> int:
        """`data` (within the allowance) is being sent: its offset. It must not change any more."""
        offset = self.sent
        self._retained.append(data)
        self.sent += len(data)
        return offset

    def finish(self) -> int:
        """The FIN is being sent: the final offset."""
        self.final = self.sent
        return self.final

    def resume(self, arrived: int) -> None:
        """Judge the offset from which the peer wants us to go on. Raises ProtocolError.

        It may have acknowledged more since it said that, over the stream before.
        """
        if arrived > self.sent + (self.final is not None):
            raise ProtocolError(f"{arrived} bytes came of {self.sent}")

    def again(self, offset: int, limit: int) -> Buffer:
        """1 to `limit` bytes from `offset` on, which were sent and are retained."""
        return self._retained.peek(offset - min(self.acked, self.sent), limit)

    def acknowledge(self, consumed: int, window: int) -> None:
        """The peer's ACK. Raises ProtocolError if it is for what was never sent."""
        if consumed > self.sent + (self.final is not None):
            raise ProtocolError(f"an ACK for {consumed} of {self.sent} bytes")
        if consumed < self.acked:
            raise ProtocolError("an ACK that goes back")
        self._retained.drop(min(consumed, self.sent) - min(self.acked, self.sent))
        self.acked = consumed
        self.limit = consumed + window
        if self._reserved and self._retained.size <= self._least:
            self._budget.give(self._reserved)
            self._reserved = 0

    def release(self) -> None:
        """Drop all that is retained; the outbox is of no more use."""
        self.released = True
        self._retained.clear()
        if self._reserved:
            self._budget.give(self._reserved)
        self._reserved = 0
