"""The packets of one association and one direction, while its user has a rate.

A packet can't be held back from its sender, as bytes of a stream can. So packets wait in a short queue for
the user's gate, and beyond that the oldest ones are dropped: an old packet is worth less than a new one.
"""

from collections import deque
from collections.abc import Callable

from lane.address import Address
from lane.tasks import start
from lane.users.gate import Flow, Gate

LONGEST = 0.1
"""Seconds of the rate that the queue holds."""
LEAST = 4 * 1460
"""Bytes that it holds in any case: a few packets."""

Pass = Callable[[Address, bytes], None]


class PacketLine:
    """Packets of `flow` on their way to `onward`, through `gate`."""

    __slots__ = ("_flow", "_gate", "_moving", "_onward", "_queue", "_queued")

    def __init__(self, gate: Gate, flow: Flow, onward: Pass) -> None:
        self._gate = gate
        self._flow = flow
        self._onward = onward
        self._queue: deque[tuple[Address, bytes]] = deque()
        self._queued = 0  # bytes
        self._moving = False

    def add(self, address: Address, payload: bytes) -> int:
        """Put a packet into the queue. Never blocks. Returns how many packets were dropped for it."""
        dropped = 0
        self._queue.append((address, payload))
        self._queued += len(payload)
        longest = max(LEAST, self._gate.rate * LONGEST)
        while self._queued > longest and len(self._queue) > 1:
            self._queued -= len(self._queue.popleft()[1])
            dropped += 1
        if not self._moving:
            self._moving = True
            start(self._move)
        return dropped

    def _move(self) -> None:
        try:
            while self._queue and not self._flow.over:
                address, payload = self._queue.popleft()
                self._queued -= len(payload)
                self._gate.pay(self._flow, len(payload))
                if not self._flow.over:
                    self._onward(address, payload)
        finally:
            self._moving = False
