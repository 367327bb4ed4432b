"""When packets leave: a budget in bytes that fills at the pacing rate.

Timers fire late and wake-ups cost more than packets, so what is due in a quantum leaves together, and
time lost to a late timer is made good, up to a limit. After a pause a few packets may go at once: a short
answer should not wait for a rate that only a long transfer can measure.
"""

from math import inf

QUANTUM = 0.001
"""Seconds between two bursts, at least: timers are hardly finer."""
FEW, LONGEST_QUANTUM = 8, 0.004
"""Packets that leave together on a slower line, and how long they gather for that: a wake-up costs as much as
several packets, at both ends."""
MAKE_GOOD = 0.006
"""Seconds of the rate that a late timer may leave to make good."""
BURST = 10
"""Packets that may leave at once after a pause (as an initial window of TCP, RFC 6928)."""
BATCH = 160
"""Packets in one go, at most: what 2 Gbit/s take in a millisecond. Others have their turn between two."""


class Pacer:
    """The budget of one connection, for packets of up to `datagram_size` bytes."""

    def __init__(self, datagram_size: int) -> None:
        self.rate: float | None = None
        """Bytes a second; None until something is known of the path: nothing is held back."""
        self.datagram_size = datagram_size
        self._budget = float(BURST * datagram_size)
        self._begun = 0  # bytes of packets that are being built
        self._filled_at = 0.0

    def next_send_time(self, now: float) -> float | None:
        """None if a packet may leave now, else when to ask again. aioquic asks before each packet."""
        if self.rate is None or (left := self.allowance(now) - self._begun) > 0:
            return None
        packet = self.datagram_size / self.rate
        quantum = min(max(QUANTUM, min(FEW * packet, LONGEST_QUANTUM)), BATCH / 2 * packet)
        return now + max(quantum, (1 - left) / self.rate)  # a byte more, so that there is something then

    def allowance(self, now: float) -> float:
        """Bytes that may leave now; the last packet may be larger than what is left of them."""
        if self.rate is None:
            return inf
        if now > self._filled_at:
            size, rate = self.datagram_size, self.rate
            room = min(max(rate * MAKE_GOOD, BURST * size), BATCH * size)
            self._budget = min(self._budget + (now - self._filled_at) * rate, room)
            self._filled_at = now
        return self._budget

    def update_after_send(self, now: float) -> None:
        """A packet has been begun, as large as it may be. aioquic calls this."""
        self.begin(1)

    def begin(self, count: int) -> None:
        """So many packets have been begun, as large as they may be."""
        self._begun += count * self.datagram_size

    def charge(self, size: int) -> None:
        """A packet of `size` bytes was built, with all that were begun before this call."""
        self._begun = 0
        self._budget = max(self._budget - size, -BATCH * self.datagram_size)
