"""The received packet numbers: they tell duplicates, and how many of the peer's packets arrive."""

from lane_quic.engine.tail_repeat import Arrivals
from lane_quic.internals.parts import PacketNumberWindow

KNOWN_PACKETS = 1024
"""Packet numbers that are remembered. A packet overtaken by more than these counts as a duplicate."""


class ReceivedPackets(PacketNumberWindow):
    """The received packet numbers. It remembers more of them than aioquic does, and counts arrivals."""

    def __init__(self, arrivals: Arrivals) -> None:
        super().__init__()
        self.size = KNOWN_PACKETS
        self._arrivals = arrivals

    def add(self, packet_number: int) -> None:
        self.add_row(packet_number, packet_number + 1)

    def add_row(self, low: int, stop: int) -> None:
        """Add the new packets `low` to `stop` - 1. Several at once must be newer than all others."""
        if low >= self.lower:  # as aioquic does
            if stop - low == 1:
                self.received.add(low)
            else:
                self.received.update(range(low, stop))
            lower = stop - KNOWN_PACKETS
            if lower > self.lower:
                self.lower = lower
                if len(self.received) > 2 * KNOWN_PACKETS:
                    self.received = {number for number in self.received if number >= lower}
        self._arrivals.count(low, stop)
