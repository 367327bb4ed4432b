"""The packet numbers that came: which are duplicates, and how many of the peer's packets arrive."""

from aioquic.quic.recovery import QuicPacketNumberWindow

from lane_quic.engine.tail_repeat import Arrivals

KNOWN_PACKETS = 1024
"""Packet numbers that are told apart from duplicates: one that was overtaken by more is taken for one."""


class Received(QuicPacketNumberWindow):
    """The packet numbers that came, of which more are told apart than aioquic does, and which are counted."""

    def __init__(self, arrivals: Arrivals) -> None:
        super().__init__()
        self._size = KNOWN_PACKETS
        self._arrivals = arrivals

    def add(self, packet_number: int) -> None:
        self.add_row(packet_number, packet_number + 1)

    def add_row(self, low: int, stop: int) -> None:
        """Packets `low` to `stop` - 1 came, for the first time; more than one only beyond all that came."""
        if low >= self._lower:  # as aioquic does
            self._received.update(range(low, stop))
            lower = stop - KNOWN_PACKETS
            if lower > self._lower:
                self._lower = lower
                if len(self._received) > 2 * KNOWN_PACKETS:
                    self._received = {number for number in self._received if number >= lower}
        self._arrivals.count(low, stop)
