"""How large packets may be: found by trying, since routers no longer say it (RFC 8899, DPLPMTUD).

A connection begins with what every path carries. Larger packets that say nothing are sent now and then; what
arrives is the size from then on, and the loss of one costs nothing. When all large packets vanish (a tunnel
that begins in mid-transfer, a route with a smaller MTU), the size falls back at once, and the search begins
anew. `MtuSearch` is the search, and pure: it is told what arrived and what did not. `MtuDiscovery` is a
connection that sends the probes, and whose packets grow and shrink with what is found.
"""

from collections.abc import Callable
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import pull_quic_transport_parameters
from aioquic.quic.packet_builder import QuicDeliveryState

from lane_quic.configuration import LARGE_DATAGRAM, SMALL_DATAGRAM
from lane_quic.engine.flow_control import FlowControl
from lane_quic.recovery.recovery import Recovery

PROBES = 3
"""Packets of a size that must be lost until it is too large (MAX_PROBES)."""
CLOSE = 16
"""Bytes between what passes and what does not, at which the search is over."""
RAISE_AFTER = 600.0
"""Seconds until a search that ended below the most begins anew (PMTU_RAISE_TIMER)."""
HOLE_PACKETS = 32
"""Large packets lost, while none of them arrived, that mean a black hole..."""
HOLE_TIMEOUTS = 2
"""...and so do as many probe timeouts in a row, where nothing arrives at all."""


class MtuSearch:
    """The search on one path; sizes are bytes of UDP payload, times seconds of one clock."""

    def __init__(self, base: int = SMALL_DATAGRAM, most: int = LARGE_DATAGRAM) -> None:
        self.current = base
        """What packets may have now."""
        self._base, self._most = base, max(base, most)
        self._too_large = self._most + 1
        self._next: int | None = self._most if most > base else None
        self._again_at: float | None = None
        self._failed = 0
        self._out: int | None = None  # the size of the probe that is under way

    def probe(self, now: float) -> int | None:
        """The size of a packet to be sent as a probe now, or None. `probed` must tell what became of it."""
        if self._next is None and self.current < self._most:
            self._again_at = now + RAISE_AFTER if self._again_at is None else self._again_at
            if now >= self._again_at:
                self._begin()
        if self._out is not None or self._next is None:
            return None
        self._out = self._next
        return self._out

    def probed(self, size: int, *, arrived: bool) -> None:
        """What became of a probe of `size`."""
        if size != self._out:
            return  # of a search that is over
        self._out = None
        if arrived:
            self.current, self._failed = size, 0
        else:
            self._failed += 1
            if self._failed < PROBES:
                return
            self._too_large, self._failed = size, 0
        found = self._too_large - self.current <= CLOSE or self.current == self._most
        self._next = None if found else (self._too_large + self.current) // 2

    def postpone(self, size: int) -> None:
        """A probe of `size` was lost together with everything else: try again later."""
        if size == self._out:
            self._out = None

    def black_hole(self) -> bool:
        """Large packets do not pass any more; whether that changes anything."""
        if self.current == self._base:
            return False
        self.current = self._base
        self._begin()
        return True

    def _begin(self) -> None:
        self._too_large, self._next = self._most + 1, self._most
        self._failed, self._out, self._again_at = 0, None, None


class MtuDiscovery(FlowControl):
    """Sends probes, and acts on what becomes of them."""

    __slots__ = ("_largest", "mtu_search")

    loss: Recovery

    def __init__(
        self, configuration: QuicConfiguration, original_cid: bytes | None, retry_cid: bytes | None
    ) -> None:
        super().__init__(configuration, original_cid, retry_cid)
        self._largest = LARGE_DATAGRAM
        self.mtu_search = MtuSearch(configuration.max_datagram_size, self._largest)

    def parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        """As aioquic does; and what the peer does not take is not tried (RFC 9000 section 18.2)."""
        super().parse_transport_parameters(data, from_session_ticket)
        most = pull_quic_transport_parameters(Buffer(data=data)).max_udp_payload_size
        if most is not None and most < self._largest:
            self._largest = most
            self.mtu_search = MtuSearch(self.configuration.max_datagram_size, most)

    def _search_anew(self) -> None:
        """Another path."""
        self.mtu_search = MtuSearch(self.configuration.max_datagram_size, self._largest)
        self._resize(self.mtu_search.current)

    def _leave_black_hole(self) -> None:
        """Send small packets where large ones do not pass any more."""
        loss, search = self.loss, self.mtu_search
        if (loss.timeouts >= HOLE_TIMEOUTS or loss.large_lost >= HOLE_PACKETS) and search.black_hole():
            self._resize(search.current)
        loss.large_lost %= HOLE_PACKETS

    def _find_size(self, now: float, *, busy: bool) -> list[tuple[bytes, Any]]:
        """Let packets be as large as the path carries: a probe, if one is due beside others."""
        loss, search = self.loss, self.mtu_search
        if (
            not busy
            or loss.timeouts
            or not self.network_paths[0].is_validated
            or (size := search.probe(now)) is None
        ):
            return []

        def on_fate(delivery: Any) -> None:
            arrived = delivery is QuicDeliveryState.ACKED
            if arrived or not loss.timeouts:
                search.probed(size, arrived=arrived)
            else:  # nothing arrives: that tells nothing of sizes
                search.postpone(size)
            if search is self.mtu_search:  # else it was another path
                self._resize(search.current)

        return self._size_probe(size, now, on_fate)

    def _size_probe(self, size: int, now: float, on_fate: Callable[[Any], None]) -> list[tuple[bytes, Any]]:
        """A packet of `size` bytes that says nothing; `on_fate` hears whether it arrived."""
        raise NotImplementedError

    def _resize(self, size: int) -> None:
        self.max_datagram_size = self.loss.pacer.datagram_size = size
