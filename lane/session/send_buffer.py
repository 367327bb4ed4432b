"""The sending direction of a session: the peer's credit, and the bytes that the peer has not consumed.

A sender retains bytes until they were consumed, because the session may have to send them again on another
stream. Two limits bound the retained bytes: the session's buffer, and one `Budget` for the process.

Offsets are absolute; the FIN counts as one byte after the last (docs/PROTOCOL.md).
"""

from typing import Any

from lane.budget import Budget
from lane.errors import ProtocolError
from lane.session.byte_queue import Buffer, ByteQueue
from lane.session.receive_window import INITIAL_WINDOW
from lane.session.states import CONSUMED, DIRECTION, Cause, Direction


class SendBuffer:
    """The buffer of a session that may hold `buffer_size` bytes. The peer takes data up to offset `limit`."""

    __slots__ = (
        "_budget", "_least", "_most", "_reserved", "_retained", "acked", "final", "limit", "released",
        "sent", "state",
    )  # fmt: skip

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
        """Whether the session is over, and no byte can be sent again."""

    def freeze(self) -> dict[str, Any]:
        """The whole state as a plain value, with a copy of the retained bytes."""
        state = {name: getattr(self, name) for name in self._FROZEN} | {"state": self.state.value}
        return state | {"queue": self._retained.freeze()}

    @classmethod
    def thaw(cls, frozen: dict[str, Any], budget: Budget) -> "SendBuffer":
        """A buffer that goes on from there. It charges its reserved bytes to `budget` in any case."""
        buffer = cls(0, budget, 0)
        for name in cls._FROZEN:
            setattr(buffer, name, frozen[name])
        buffer.state = Direction(frozen["state"])
        buffer._retained = ByteQueue(frozen["queue"])
        budget.charge(buffer._reserved)
        return buffer

    @property
    def retained(self) -> int:
        """Bytes that were sent and that the peer has not consumed."""
        return self._retained.size

    @property
    def held_back(self) -> bool:
        """Whether the peer's window has room: then only the limit of retained bytes can stop us."""
        return self.sent < self.limit

    @property
    def fin_acked(self) -> bool:
        """Whether the peer has consumed all bytes and our FIN."""
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
        """Send `data`, which is within the allowance and must not change any more. Returns its offset."""
        offset = self.sent
        self._retained.append(data)
        self.sent += len(data)
        return offset

    def allows(self, size: int) -> bool:
        """Whether `size` bytes are sure to be within the allowance, without a look at the budget."""
        retained = self._retained.size + size
        if self.sent + size > self.limit or retained > self._least + self._reserved or retained > self._most:
            return False
        return self.state is Direction.OPEN and not self.released

    def send_at_once(self, data: Buffer) -> bool:
        """Send `data` if the buffer `allows` that. Returns whether it does."""
        if not self.allows(len(data)):
            return False
        self._retained.append(data)
        self.sent += len(data)
        return True

    def finish(self) -> int:
        """Send the FIN. Returns the final offset."""
        self.final = self.sent
        self.state = DIRECTION[self.state][Cause.FIN]
        return self.final

    def end(self) -> None:
        """END is sent."""
        self.state = DIRECTION[self.state][Cause.END]

    def resume(self, arrived: int) -> None:
        """Check the offset from which the peer wants data. Raises ProtocolError.

        A later ACK, on the stream before, may have acknowledged more than that.
        """
        if arrived > self.sent + (self.final is not None):
            raise ProtocolError(f"{arrived} bytes came of {self.sent}")

    def again(self, offset: int, limit: int) -> Buffer:
        """Returns 1 to `limit` retained bytes from `offset` on."""
        return self._retained.peek(offset - min(self.acked, self.sent), limit)

    def acknowledge(self, consumed: int, window: int) -> None:
        """Take the peer's ACK. Raises ProtocolError if it is for bytes that were never sent."""
        if consumed < self.acked:
            raise ProtocolError("an ACK that goes back")
        if consumed > self.sent:  # the FIN was consumed as well
            if self.final is None or consumed > self.sent + 1:
                raise ProtocolError(f"an ACK for {consumed} of {self.sent} bytes")
            if self.state is Direction.FINISHED:
                self.state = DIRECTION[self.state][Cause.CONSUMED]
            self._retained.clear()
        elif consumed > self.acked:
            self._retained.drop(consumed - self.acked)
        self.acked = consumed
        self.limit = consumed + window
        if self._reserved and self._retained.size <= self._least:
            self._budget.give(self._reserved)
            self._reserved = 0

    def release(self) -> None:
        """Drop all retained bytes. The buffer must not be used any more."""
        self.released = True
        self._retained.clear()
        if self._reserved:
            self._budget.give(self._reserved)
        self._reserved = 0
