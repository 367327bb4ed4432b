"""The receiving direction of a session: received bytes, consumed bytes, and the credit for more.

A receiver grants credit as the application consumes bytes, not as they arrive. So a slow reader slows its
sender down from end to end. Two limits bound the bytes that are held: the window of the session, which starts
small and grows only while it is used, and one `Budget` for the process.

Offsets are absolute; the FIN counts as one byte after the last (docs/PROTOCOL.md).
"""

from math import inf
from typing import Any

from lane.budget import Budget
from lane.errors import ProtocolError
from lane.proto.frames import MAX_WINDOW
from lane.proto.hello import EARLY
from lane.session.byte_queue import Buffer, ByteQueue
from lane.session.states import CONSUMED, DIRECTION, Cause, Direction

INITIAL_WINDOW = 256 * 1024
"""Bytes that a session may hold in each direction before it has shown a need for more."""
SHORT_ANSWER = 8192
"""Bytes of the longest short answer. A session that receives more at once gets a larger window."""
FIRST_STEP = 1024 * 1024
"""Bytes of the window after its first growth."""
GROWTH = 16
"""The ratio of a grown window to the bytes in flight. A window that is too small costs round trips."""
BEHIND = 1024 * 1024
"""Bytes of the window, at least, of a reader that has fallen behind."""
AGAIN = 5.0
"""Seconds within which a reader that caught up and falls behind again is one that reads in bursts."""
ACK_EVERY = 2 * 1024 * 1024
"""Bytes after which an ACK is due, however large the window is: the peer retains all of them until then."""
ACKS_REMEMBERED = 64
"""The most ACKs whose times are remembered. Only very long and fast paths have more in a round trip."""
ACK_NEWS = 1024
"""Bytes for which an ACK is remembered. In an exchange of messages each has an ACK, of which few matter."""
REACTION = 0.020
"""Seconds beyond the round trip until the peer's data can show that it knows an ACK: buffers on the way to
the wire delay both."""


def initial_window(buffer_size: int) -> int:
    """The first window of a session, in bytes, which REQUEST and REPLY carry."""
    return min(buffer_size, INITIAL_WINDOW)


class ReceiveWindow:
    """The window of a session that may hold `buffer_size` bytes, those beyond `initial` out of `budget`."""

    __slots__ = (
        "_ack_requested", "_acked", "_budget", "_fell_at", "_grown", "_growth_start", "_in_flight",
        "_known_consumed", "_least", "_most", "_per_round", "_queue", "_reader_waited", "_released",
        "_reserved", "_round_began", "_round_start", "_sent_acks", "_taken", "_waited_at", "consumed",
        "final", "initial", "limit", "received", "state", "window",
    )  # fmt: skip

    _FROZEN = (
        "initial", "window", "limit", "received", "consumed", "final", "_most", "_acked", "_ack_requested",
        "_taken", "_growth_start", "_known_consumed", "_in_flight", "_reader_waited", "_grown", "_released",
        "_reserved",
    )  # fmt: skip

    _FROZEN_SINCE = "_round_began", "_round_start", "_per_round", "_waited_at", "_least", "_fell_at"
    """Earlier versions lack these."""

    def __init__(self, buffer_size: int, budget: Budget) -> None:
        self._queue = ByteQueue()
        self._budget = budget
        self._most = min(buffer_size, MAX_WINDOW)
        self.initial = self.window = initial_window(buffer_size)
        self.limit = max(self.window, EARLY)  # the peer may send up to this offset
        self.received = 0  # all bytes before this offset were received
        self.consumed = 0  # all bytes before this offset have left the process; FIN is one more
        self.final: int | None = None
        self.state = Direction.OPEN
        self._acked = 0  # `consumed` in the last ACK
        self._ack_requested = 0  # an ACK is due once this offset is consumed
        self._taken = 0  # bytes that the reader took and has not consumed
        self._growth_start = 0  # the offset at which the present look for growth began
        self._sent_acks: list[tuple[float, int]] = []  # when ACKs were sent, with `consumed`
        self._known_consumed = 0  # `consumed` of the newest ACK that the peer must know
        self._in_flight = 0  # the most bytes in flight since `_growth_start`
        self._reader_waited = False  # whether it waited for data since `_growth_start`
        self._grown = False  # whether the window grew since the last ACK
        self._round_began, self._round_start = 0.0, 0  # when the present round trip began, with `consumed`
        self._per_round = 0  # bytes that the reader consumed in a round trip of late
        self._waited_at = inf  # when data came last for a reader that waited, if that is known
        self._least = BEHIND  # bytes of the window of a reader that is behind
        self._fell_at = -inf  # when the window fell last for one
        self._released = False
        self._reserved = 0  # bytes of the budget: all that the peer may make us hold beyond `initial`

    def freeze(self) -> dict[str, Any]:
        """The whole state as a plain value, with a copy of the held bytes."""
        names = self._FROZEN + self._FROZEN_SINCE
        state = {name: getattr(self, name) for name in names} | {"state": self.state.value}
        return state | {"queue": self._queue.freeze(), "sent_acks": list(self._sent_acks)}

    @classmethod
    def thaw(cls, frozen: dict[str, Any], budget: Budget) -> "ReceiveWindow":
        """A window that goes on from there. It charges its reserved bytes to `budget` in any case."""
        window = cls(0, budget)
        for name in cls._FROZEN:
            setattr(window, name, frozen[name])
        for name in cls._FROZEN_SINCE:
            if name in frozen:
                setattr(window, name, frozen[name])
        window.state = Direction(frozen["state"])
        window._queue, window._sent_acks = ByteQueue(frozen["queue"]), list(frozen["sent_acks"])
        budget.charge(window._reserved)
        return window

    @property
    def held(self) -> int:
        """Received bytes that the reader has not taken."""
        return self._queue.size

    @property
    def at_end(self) -> bool:
        """Whether the reader has taken all bytes, and FIN came behind them."""
        if self.final is None or self._queue.size:
            return False
        return not (self._released and self.state is Direction.FINISHED)  # then bytes were dropped

    @property
    def ended(self) -> bool:
        """Whether the reader has consumed the end as well."""
        return self.state in CONSUMED

    @property
    def arrived(self) -> int:
        """The offset from which the peer continues on another stream. FIN counts as one byte."""
        return self.received + (self.final is not None)

    @property
    def idle(self) -> bool:
        """Whether the reader has consumed all bytes, and waits for more."""
        return not (self._queue.size or self._taken)

    def receive(self, offset: int, data: Buffer, now: float, rtt: float) -> Buffer:
        """Check bytes from the peer, and return the new ones among them. Raises ProtocolError.

        They count as received. The caller passes them to `consume_now` or `hold`, in order. `now` and `rtt`
        are seconds.
        """
        end, received = offset + len(data), self.received
        if offset > received:
            raise ProtocolError(f"a gap in the data before offset {offset}")
        if end > self.limit:
            raise ProtocolError("more data than the window allows")
        if self.final is not None and end > self.final:
            raise ProtocolError("data after the end")
        if end <= received:
            return b""
        if not (self._queue.size or self._taken):
            self._reader_waited, self._waited_at = True, now
        self._advance(end, now, rtt)
        return data if offset == received else memoryview(data)[received - offset :]

    def receive_message(self, end: int, now: float, rtt: float) -> bool:
        """Count the bytes up to `end`, which follow those before, as received by a reader that waits.

        Returns False, and does nothing, if `receive` would raise, or if the reader has not consumed all.
        """
        if self.received != self.consumed or end > self.limit or self.final is not None:
            return False
        self._reader_waited, self._waited_at = True, now
        self._advance(end, now, rtt)
        return True

    def _advance(self, end: int, now: float, rtt: float) -> None:
        self.received = end
        acks = self._sent_acks
        if acks:
            known = now - 1.5 * rtt - REACTION
            while acks and acks[0][0] <= known:
                self._known_consumed = acks.pop(0)[1]
        if (in_flight := end - self._known_consumed) > self._in_flight:
            self._in_flight = in_flight
        if self.window >= BEHIND and (took := now - self._round_began) > rtt:  # smaller ones stay
            if read := self.consumed - self._round_start:  # else it pauses, which says nothing of its rate
                self._per_round = max(int(read * rtt / took), self._per_round * 7 // 8)
            self._round_began, self._round_start = now, self.consumed

    def withhold(self, now: float, rtt: float) -> bool:
        """Take back credit if the reader is behind. Returns whether the peer needs an ACK for that.

        The window is large for what may hold up data on the way. A reader that stops, as a paused video,
        would fill it, and the peer would retain as much. So one that has not caught up for a round trip gets
        twice what it consumes in one: enough for the path to stay busy. The window grows again once the
        reader waits for data. If it soon falls behind again, it reads in bursts, or the round trip is longer
        than we know, as behind a proxy: then it gets twice as much each time, until its pauses cost nothing.
        The peer may use what it had before. `now` and `rtt` are seconds. On a busy machine a reader may get
        its turn `REACTION` later.
        """
        window = max(self._least, 2 * self._per_round)
        behind = self.window > window and self._queue.size > window // 2
        if not behind or now - self._waited_at <= rtt + REACTION:
            return False
        if now - self._fell_at > AGAIN:
            self._least = BEHIND
        elif self._waited_at > self._fell_at:
            self._least = 2 * window  # less than twice the window, since it was larger
        self._fell_at = now
        window = max(self._least, 2 * self._per_round)
        if window >= self.window:
            return False
        self.window = window
        self._growth_start, self._in_flight, self._reader_waited = self.consumed, 0, False
        return True

    def hold(self, data: Buffer) -> None:
        """Keep received bytes for the reader. A view is copied."""
        if len(data) and not self._released:
            self._queue.append(bytes(data))

    def pass_on(self, data: Buffer, taken: int) -> None:
        """The first `taken` of the new bytes `data` went to an idle reader: see `consume_now` and `hold`."""
        self._taken = taken
        self.consume()
        if taken != len(data):
            self.hold(data[taken:])

    def consume_now(self, size: int) -> None:
        """The first `size` of the new bytes went to an idle reader, and have left the process."""
        self._taken = size
        self.consume()

    def finish(self, final: int) -> None:
        """Take the peer's FIN. Raises ProtocolError if data before it is missing, or if it moved."""
        if final != self.received or self.final not in (None, final):
            raise ProtocolError(f"an end at {final} after {self.received} bytes")
        if self.state is Direction.ENDED:
            raise ProtocolError("a FIN behind END")
        self.final = final
        self.state = DIRECTION[self.state][Cause.FIN]

    def consume(self) -> None:
        """The taken bytes have left the process. They count as consumed, and the window may grow.

        It grows if the reader was waiting for data, to many times the bytes in flight. So it grows well
        before the peer runs out of credit, and does not hold back a transfer that speeds up. On a lossy path
        growth takes several round trips, because a retransmission holds up all data behind it. That may
        happen from the first packet on, so the first step comes as soon as more than a short answer came at
        once.
        """
        self.consumed += self._taken
        self._taken = 0
        read, waited = self.consumed - self._growth_start, self._reader_waited
        at_once = waited and read > SHORT_ANSWER < self._in_flight
        if at_once and self.window == self.initial and self._budget.plenty:
            self._grow_to(FIRST_STEP)
        elif read >= self.window // 4:
            self._grow_to(self._in_flight * GROWTH if waited else 0)

    def _grow_to(self, size: int) -> None:
        """Grow to `size` bytes if the budget has room, and begin a new look for growth."""
        size = min(size, self._most)
        self._reserved += self._budget.take_most(size - self.initial - self._reserved)
        size = min(size, self.initial + self._reserved)
        if size > self.window:
            self.window, self._grown = size, True
        self._growth_start, self._in_flight, self._reader_waited = self.consumed, 0, False

    def take(self, limit: int) -> Buffer:
        """Hand out 1 to `limit` bytes, of which there must be some. The next `consume` consumes them."""
        chunk = self._queue.take(limit)
        self._taken += len(chunk)
        return chunk

    def untake(self, rest: Buffer) -> None:
        """Take back the last `rest` of the bytes that were handed out. Those before them are consumed."""
        if len(rest):
            self._queue.prepend(bytes(rest))
            self._taken -= len(rest)

    def take_end(self) -> None:
        """Hand out the end. No more data can come, so the window is no longer needed."""
        assert self.final is not None
        self.state = DIRECTION[self.state][Cause.CONSUMED]
        self.consumed = self.final + 1
        self.shrink()
        self.limit, self._most = self.final, self.initial
        self._give_back()

    def end(self) -> None:
        """Take the peer's END. Raises ProtocolError."""
        if self.state is not Direction.CONSUMED:
            raise ProtocolError("an END where it was not due")
        self.state = DIRECTION[self.state][Cause.END]

    @property
    def ack_due(self) -> bool:
        """Whether the peer needs an ACK now, before it runs out of credit."""
        news = self.consumed - self._acked
        if news <= 0:
            return False
        if news >= self.window // 4 or news >= ACK_EVERY or self._grown:
            return True
        return self._acked < self._ack_requested or self.state in CONSUMED

    def request_ack(self) -> None:
        """The peer asked for an ACK: it may be able to retain less than our window allows it to send."""
        self._ack_requested = self.received

    @property
    def unacknowledged(self) -> int:
        """Consumed bytes that the peer does not know of."""
        return self.consumed - self._acked

    def acknowledge(self, now: float) -> tuple[int, int]:
        """The fields `consumed` and `window` of an ACK that is sent now."""
        self._acked, self._grown = self.consumed, False
        consumed, window = self.consumed, self.window
        self.limit = max(self.limit, consumed + window)
        if self._reserved > window - self.initial:  # it shrank
            self._give_back()
        acks = self._sent_acks
        if consumed - (acks[-1][1] if acks else self._known_consumed) >= ACK_NEWS:
            if len(acks) == ACKS_REMEMBERED:
                acks.pop()
            acks.append((now, consumed))
        return consumed, window

    def shrink(self) -> bool:
        """Fall back to the first window, because the session is idle. Returns whether that changes anything.

        The peer may use the old window until it knows the new one: see `shrunk`. So its bytes stay reserved.
        """
        if self.window == self.initial:
            return False
        self.window, self._least = self.initial, BEHIND
        self._growth_start, self._in_flight, self._reader_waited = self.consumed, 0, False
        return True

    def restore(self) -> None:
        """Take a smaller window back, because the peer may not know it and may use the old one."""
        self.window = max(self.window, min(self.limit - self.consumed, self.initial + self._reserved))

    def shrunk(self) -> None:
        """The peer knows the smaller window. New data beyond it is an offence."""
        self.limit = max(self.received, self._acked + self.window)
        self._give_back()

    def _give_back(self) -> None:
        """Return reserved bytes that the peer can't use any more."""
        needed = max(self.window, self.limit - self.consumed) - self.initial
        if self._reserved > needed:
            self._budget.give(self._reserved - needed)
            self._reserved = needed

    def release(self) -> None:
        """Drop all bytes. The window must not be used any more, and does not grow any more."""
        self._queue.clear()
        self._released = True
        if self._reserved:
            self._budget.give(self._reserved)
            self._reserved = 0
        self.window = self._most = self.initial
