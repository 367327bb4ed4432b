"""Who is next, when several wait for the same thing: start-time fair queuing (Goyal, Vin, Cheng, 1996).

Each flow gets as many bytes as any other that wants them, however large its pieces are and however many of
its kind stand in line. A flow that was away gets nothing for that time, but is served before those who have
had something meanwhile. So a few small messages need not wait behind a hundred downloads.
"""

from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

F = TypeVar("F")
W = TypeVar("W")


class Line(Generic[F, W]):
    """Pieces of flows (hashable) in line, each with what waits for it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, F, int, W]] = []
        self._finished: dict[F, float] = {}  # the virtual time at which each flow's last piece is done
        self._now = 0.0  # the virtual time
        self._number = count()

    def __len__(self) -> int:
        return len(self._heap)

    def join(self, flow: F, size: int, waiter: W) -> None:
        """Put a piece of `size` bytes in line."""
        begin = max(self._now, self._finished.get(flow, 0.0))
        self._finished[flow] = begin + size
        heappush(self._heap, (begin, next(self._number), flow, size, waiter))

    def charge(self, flow: F, size: int) -> None:
        """Count a piece that did not stand in line, if others do."""
        if self._heap:
            self._finished[flow] = max(self._now, self._finished.get(flow, 0.0)) + size

    @property
    def size(self) -> int:
        """Bytes of the next piece. There must be one."""
        return self._heap[0][3]

    def next(self) -> tuple[F, int, W]:
        """Remove and return the next piece: flow, size and what waits. There must be one."""
        self._now, _, flow, size, waiter = heappop(self._heap)
        if not self._heap:  # nobody is ahead of anybody any more
            self._finished.clear()
        return flow, size, waiter

    def leave(self, flow: F) -> list[W]:
        """Take a flow out of the line. Returns what waited for its pieces."""
        self._finished.pop(flow, None)
        mine = [entry[4] for entry in self._heap if entry[2] is flow]
        if mine:
            self._heap = [entry for entry in self._heap if entry[2] is not flow]
            heapify(self._heap)
        return mine
