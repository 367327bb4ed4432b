"""Freeing what a connection has at its end, without the garbage collector.

The parts of a connection refer to it: the callbacks of keys, TLS and recovery, the handlers of frames, and
those of packets in flight. Such objects wait for the collector, which looks at old ones seldom (`lane.heap`).
"""

from lane_quic.engine.ack_timing import AckTiming


def _nothing() -> None:
    pass


class LettingGo(AckTiming):
    """A connection that can let go of its parts."""

    __slots__ = ()

    def let_go(self) -> None:
        """Free all but the figures of a connection that has ended. It can't be used any more."""
        self.wake = _nothing
        self.frame_handlers = self.frame_budget = {}  # type: ignore[assignment]
        self.tls = self.keys = None  # type: ignore[assignment]
        self.cryptos, self.cryptos_initial = {}, {}
        for space in self.spaces.values():
            space.sent_packets.clear()
        self.loss.let_go()
        self.streams.clear()
        self.streams_queue = []
