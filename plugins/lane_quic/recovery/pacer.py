"""Pacing: a budget in bytes that fills at the pacing rate.

Timers fire late, and a wake-up costs more than a packet. So the packets of one quantum are sent together, and
time lost to a late timer is made up for, up to a limit. After a pause a few packets may be sent at once: a
short answer should not wait for a rate that only a long transfer can measure.
"""

from math import inf

QUANTUM = 0.001
"""Seconds between two bursts, at least. Timers are hardly finer."""
FEW = 8
"""Packets of a burst on a slower path. A wake-up costs as much as several packets, at both ends."""
LONGEST_QUANTUM = 0.004
"""Seconds between two bursts on a slower path, at most."""
HURRY = 1.0
"""Seconds in which bursts are no longer than `QUANTUM`, since somebody waits for an answer behind them."""
MAKE_GOOD = 0.006
"""Seconds of a late timer that are made up for."""
BURST = 10
"""Packets that may be sent at once after a pause, as in TCP's initial window (RFC 6928)."""
BATCH = 160
"""Packets of a burst, at most: a millisecond at 2 Gbit/s. Other connections are served between bursts."""


class Pacer:
    """The budget of one connection, for packets of up to `datagram_size` bytes."""

    def __init__(self, datagram_size: int) -> None:
        self.rate: float | None = None
        """Bytes a second; None, for no pacing, until the path was measured."""
        self.most = inf
        """Bytes a second that the rate may be, whatever the path takes."""
        self.datagram_size = datagram_size
        self._budget = float(BURST * datagram_size)
        self._begun = 0  # bytes of packets being built
        self._filled_at = 0.0
        self._hurried_until = 0.0
        self._probes = False

    def let_probe(self) -> None:
        """Let the next packet leave whatever the budget is: a probe timeout does not wait for the rate."""
        self._probes = True

    def hurry(self, now: float) -> None:
        """Keep bursts short for some time."""
        self._hurried_until = now + HURRY

    @property
    def advance(self) -> int:
        """Bytes that a short answer may be ahead of the budget. The budget makes them good afterwards."""
        return BURST * self.datagram_size

    def next_send_time(self, now: float) -> float | None:
        """None if a packet may be sent now, else the time of the next one. aioquic calls this for each."""
        if self.rate is None or self._probes or (left := self.allowance(now) - self._begun) > 0:
            return None
        packet = self.datagram_size / self.rate
        few = 0.0 if now < self._hurried_until else min(FEW * packet, LONGEST_QUANTUM)
        quantum = min(max(QUANTUM, few), BATCH / 2 * packet)
        return now + max(quantum, (1 - left) / self.rate)  # one byte more: the budget must be positive

    def allowance(self, now: float) -> float:
        """Bytes that may be sent now. The last packet may exceed them."""
        if self.rate is None:
            return inf
        if now > self._filled_at:
            rate, good = self.rate, self.rate * MAKE_GOOD
            least, most = BURST * self.datagram_size, BATCH * self.datagram_size
            room = most if good > most else max(good, least)
            self._budget = min(self._budget + (now - self._filled_at) * rate, room)
            self._filled_at = now
        return self._budget

    def update_after_send(self, now: float) -> None:
        """Reserve the bytes of one full packet. Called by aioquic."""
        self.begin(1)

    def begin(self, count: int) -> None:
        """Reserve the bytes of `count` full packets that are being built."""
        self._probes = False
        self._begun += count * self.datagram_size

    def charge(self, size: int) -> None:
        """Replace all reservations with the `size` bytes that were built."""
        self._begun, self._probes = 0, False
        self._budget = max(self._budget - size, -BATCH * self.datagram_size)
