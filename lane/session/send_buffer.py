"""The sending direction of a session: the peer's credit, and what the peer has not consumed yet.

A sender retains what it sent until that has been consumed, because a session may have to send it again over
another stream. What it may retain is bounded, by the session's buffer and by one `Budget` for the process.

Offsets are absolute; the FIN counts as one byte after the last (docs/PROTOCOL.md).
"""

from typing import Any

from lane.budget import Budget
from lane.errors import ProtocolError
from lane.session.byte_queue import Buffer, ByteQueue
from lane.session.receive_window import INITIAL_WINDOW
from lane.session.states import CONSUMED, DIRECTION, Cause, Direction


class SendBuffer:
    """Of a session that may hold `buffer_size` bytes. `limit`: the offset up to which the peer takes data."""

    _FROZEN = "sent", "acked", "limit", "final", "released", "_most", "_least", "_reserved"

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
        self.state = Direction.OPEN
        self.released = False
        """Whether the session is over, and nothing can be sent again."""

    def freeze(self) -> dict[str, Any]:
        """The whole state as a plain value, with a copy of what is retained."""
        state = {name: getattr(self, name) for name in self._FROZEN} | {"state": self.state.value}
        return state | {"queue": self._retained.freeze()}

    @classmethod
    def thaw(cls, frozen: dict[str, Any], budget: Budget) -> "SendBuffer":
        """A buffer that goes on from there. What it retains is taken of `budget` in any case."""
        buffer = cls(0, budget, 0)
        for name in cls._FROZEN:
            setattr(buffer, name, frozen[name])
        buffer.state = Direction(frozen["state"])
        buffer._retained = ByteQueue(frozen["queue"])
        budget.charge(buffer._reserved)
        return buffer

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
        return self.state in CONSUMED

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
        self.state = DIRECTION[self.state][Cause.FIN]
        return self.final

    def end(self) -> None:
        """END is being sent."""
        self.state = DIRECTION[self.state][Cause.END]

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
        if consumed > self.sent and self.state is Direction.FINISHED:
            self.state = DIRECTION[self.state][Cause.CONSUMED]
        self.limit = consumed + window
        if self._reserved and self._retained.size <= self._least:
            self._budget.give(self._reserved)
            self._reserved = 0

    def release(self) -> None:
        """Drop all that is retained; the buffer is of no more use."""
        self.released = True
        self._retained.clear()
        if self._reserved:
            self._budget.give(self._reserved)
        self._reserved = 0
