"""The receiving direction of a session: what has come, what was consumed, and the credit for more.

A receiver grants credit as the application consumes (not as bytes arrive), so a slow reader holds its
sender back from end to end. What is held is bounded by the window of the session, which starts small and
grows only for those who use it, and by one `Budget` for the process.

Offsets are absolute; the FIN counts as one byte after the last (docs/PROTOCOL.md).
"""

from typing import Any

from lane.budget import Budget
from lane.errors import ProtocolError
from lane.proto.frames import MAX_WINDOW
from lane.proto.hello import EARLY
from lane.session.byte_queue import Buffer, ByteQueue
from lane.session.states import CONSUMED, DIRECTION, Cause, Direction

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


class ReceiveWindow:
    """Of a session that may hold `buffer_size` bytes, beyond the least out of `budget`."""

    _FROZEN = (
        "initial", "window", "limit", "received", "consumed", "final", "_most", "_acked", "_urged", "_lent",
        "_mark", "_known", "_used", "_hungry", "_grown", "_released", "_reserved",
    )  # fmt: skip

    def __init__(self, buffer_size: int, budget: Budget) -> None:
        self._queue = ByteQueue()
        self._budget = budget
        self._most = min(buffer_size, MAX_WINDOW)
        self.initial = self.window = initial_window(buffer_size)
        self.limit = max(self.window, EARLY)  # the offset up to which the peer may send
        self.received = 0  # all before this offset has come
        self.consumed = 0  # all before this offset has left the process; FIN is one more
        self.final: int | None = None
        self.state = Direction.OPEN
        self._acked = 0  # `consumed` as the peer was told last
        self._urged = 0  # what came before this offset is to be acknowledged as soon as it is consumed
        self._lent = 0  # bytes taken and not yet consumed
        self._mark = 0  # where the quarter of a window began that growth looks at
        self._told: list[tuple[float, int]] = []  # when the peer was told of what was consumed
        self._known = 0  # what of that it must know by now
        self._used = 0  # since the mark: the most that it had under way, for all it could know
        self._hungry = False  # whether the reader waited for data since the mark
        self._grown = False  # whether the window grew since the peer was told of it
        self._released = False
        self._reserved = 0  # bytes of the budget, for all that the peer may have us hold beyond `initial`

    def freeze(self) -> dict[str, Any]:
        """The whole state as a plain value, with a copy of what is held."""
        state = {name: getattr(self, name) for name in self._FROZEN} | {"state": self.state.value}
        return state | {"queue": self._queue.freeze(), "told": list(self._told)}

    @classmethod
    def thaw(cls, frozen: dict[str, Any], budget: Budget) -> "ReceiveWindow":
        """A window that goes on from there. What the peer may have it hold is taken of `budget` anyway."""
        window = cls(0, budget)
        for name in cls._FROZEN:
            setattr(window, name, frozen[name])
        window.state = Direction(frozen["state"])
        window._queue, window._told = ByteQueue(frozen["queue"]), list(frozen["told"])
        budget.charge(window._reserved)
        return window

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
        return self.state in CONSUMED

    @property
    def arrived(self) -> int:
        """The offset from which the peer goes on over another stream: FIN is one more."""
        return self.received + (self.final is not None)

    @property
    def idle(self) -> bool:
        """Whether the reader has nothing left, and waits for more."""
        return not (self._queue.size or self._lent)

    def receive(self, offset: int, data: Buffer, now: float, rtt: float) -> Buffer:
        """Bytes from the peer (times in seconds): those that are new. Raises ProtocolError.

        They count as received, and are to go to `consume_now` or `hold`, in order.
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
            return b""
        self._hungry = self._hungry or self.idle
        self.received = end
        while self._told and self._told[0][0] <= now - 1.5 * rtt - REACTION:
            self._known = self._told.pop(0)[1]
        self._used = max(self._used, end - self._known)
        return memoryview(data)[known:] if known else data

    def hold(self, data: Buffer) -> None:
        """Keep received bytes for the reader, as a copy where they are a view."""
        if len(data) and not self._released:
            self._queue.append(bytes(data))

    def consume_now(self, size: int) -> None:
        """The first `size` received bytes went to an idle reader, and have left the process."""
        self._lent = size
        self.consume()

    def finish(self, final: int) -> None:
        """The peer's FIN. Raises ProtocolError if data before it is missing, or it moved."""
        if final != self.received or self.final not in (None, final):
            raise ProtocolError(f"an end at {final} after {self.received} bytes")
        self.final = final
        self.state = DIRECTION[self.state][Cause.FIN]

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
        self._reserved += more
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
        self.state = DIRECTION[self.state][Cause.CONSUMED]
        self.consumed = self.final + 1
        self.shrink()
        self.limit, self._most = self.final, self.initial
        self._give_back()

    def end(self) -> None:
        """The peer's END."""
        self.state = DIRECTION[self.state][Cause.END]

    @property
    def ack_due(self) -> bool:
        """Whether the peer should hear of what was consumed now, lest it runs out of credit."""
        news = self.consumed - self._acked
        if news <= 0:
            return False
        urgent = self._grown or self._acked < self._urged or self.state in CONSUMED
        return urgent or news >= min(self.window // 4, UNTOLD)

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
        if self._reserved > self.window - self.initial:  # it shrank
            self._give_back()
        if len(self._told) == MAX_TOLD:
            self._told.pop()
        self._told.append((now, self.consumed))
        return self.consumed, self.window

    def shrink(self) -> bool:
        """Fall back to the least window, for a session that is idle; whether that changes anything.

        The peer may still use the old one until it has heard of it: see `shrunk`. So its bytes stay reserved.
        """
        if self.window == self.initial:
            return False
        self.window = self.initial
        self._mark, self._used, self._hungry = self.consumed, 0, False
        return True

    def restore(self) -> None:
        """Take a smaller window back, of which the peer may not have heard: it may use the old one."""
        self.window = max(self.window, min(self.limit - self.consumed, self.initial + self._reserved))

    def shrunk(self) -> None:
        """The peer has seen the smaller window: what it sends beyond is an offence."""
        self.limit = max(self.received, self._acked + self.window)
        self._give_back()

    def _give_back(self) -> None:
        """What the peer can't have us hold any more is for others."""
        needed = max(self.window, self.limit - self.consumed) - self.initial
        if self._reserved > needed:
            self._budget.give(self._reserved - needed)
            self._reserved = needed

    def release(self) -> None:
        """Drop all that is held; the window is of no more use, and will not grow any more."""
        self._queue.clear()
        self._released = True
        if self._reserved:
            self._budget.give(self._reserved)
            self._reserved = 0
        self.window = self._most = self.initial
