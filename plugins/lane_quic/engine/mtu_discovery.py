"""Path MTU discovery by probing (DPLPMTUD, RFC 8899), since routers no longer report the MTU.

A connection begins with the size that every path carries. Now and then it sends a larger packet without data
as a probe. If the probe arrives, its size becomes the packet size. If the probe is lost, nothing else is
lost. If all large packets are lost (a tunnel or a route with a smaller MTU), the size falls back at once and
the search starts again. `MtuSearch` is the search, without I/O. `MtuDiscovery` is a connection that sends the
probes and changes its packet size.
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
"""Lost probes of one size before it counts as too large (MAX_PROBES)."""
CLOSE = 16
"""The search ends when the largest size that passes is this close to one that does not, bytes."""
RAISE_AFTER = 600.0
"""Seconds before a search that ended below the maximum starts again (PMTU_RAISE_TIMER)."""
HOLE_PACKETS = 32
"""Large packets lost in a row that mean a black hole."""
HOLE_TIMEOUTS = 2
"""Probe timeouts in a row that mean a black hole."""


class MtuSearch:
    """The search on one path. Sizes are bytes of UDP payload, times are seconds of one clock."""

    def __init__(self, base: int = SMALL_DATAGRAM, most: int = LARGE_DATAGRAM) -> None:
        self.current = base
        """The packet size that may be used now."""
        self._base, self._most = base, max(base, most)
        self._too_large = self._most + 1
        self._next: int | None = self._most if most > base else None
        self._again_at: float | None = None
        self._failed = 0
        self._out: int | None = None  # the size of the probe in flight

    def probe(self, now: float) -> int | None:
        """The size of a probe to send now, or None. `probed` must be called with its result."""
        if self._next is None and self.current < self._most:
            self._again_at = now + RAISE_AFTER if self._again_at is None else self._again_at
            if now >= self._again_at:
                self._begin()
        if self._out is not None or self._next is None:
            return None
        self._out = self._next
        return self._out

    def probed(self, size: int, *, arrived: bool) -> None:
        """Note whether a probe of `size` arrived or was lost."""
        if size != self._out:
            return  # the probe belongs to an earlier search
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
        """Try `size` again later: the probe was lost while nothing else arrived either."""
        if size == self._out:
            self._out = None

    def black_hole(self) -> bool:
        """Fall back to the base size, since large packets are lost. Return whether the size changed."""
        if self.current == self._base:
            return False
        self.current = self._base
        self._begin()
        return True

    def _begin(self) -> None:
        self._too_large, self._next = self._most + 1, self._most
        self._failed, self._out, self._again_at = 0, None, None


class MtuDiscovery(FlowControl):
    """A connection that sends probes and adopts the size that they find."""

    __slots__ = ("_largest", "mtu_search")

    loss: Recovery

    def __init__(
        self, configuration: QuicConfiguration, original_cid: bytes | None, retry_cid: bytes | None
    ) -> None:
        super().__init__(configuration, original_cid, retry_cid)
        self._largest = LARGE_DATAGRAM
        self.mtu_search = MtuSearch(configuration.max_datagram_size, self._largest)

    def parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        """Parse as aioquic does. Sizes above the peer's limit are not tried (RFC 9000 section 18.2)."""
        super().parse_transport_parameters(data, from_session_ticket)
        most = pull_quic_transport_parameters(Buffer(data=data)).max_udp_payload_size
        if most is not None and most < self._largest:
            self._largest = most
            self.mtu_search = MtuSearch(self.configuration.max_datagram_size, most)

    def _search_anew(self) -> None:
        """Start again on another path."""
        self.mtu_search = MtuSearch(self.configuration.max_datagram_size, self._largest)
        self._resize(self.mtu_search.current)

    def _leave_black_hole(self) -> None:
        """Send small packets if large ones no longer arrive."""
        loss, search = self.loss, self.mtu_search
        if (loss.timeouts >= HOLE_TIMEOUTS or loss.large_lost >= HOLE_PACKETS) and search.black_hole():
            self._resize(search.current)
        loss.large_lost %= HOLE_PACKETS

    def _find_size(self, now: float) -> list[tuple[bytes, Any]]:
        """The probe that is due, if any. It is only sent beside other packets."""
        loss, search = self.loss, self.mtu_search
        if loss.timeouts or not self.network_paths[0].is_validated or (size := search.probe(now)) is None:
            return []

        def on_fate(delivery: Any) -> None:
            arrived = delivery is QuicDeliveryState.ACKED
            if arrived or not loss.timeouts:
                search.probed(size, arrived=arrived)
            else:  # nothing arrives at all, so the size is not the reason
                search.postpone(size)
            if search is self.mtu_search:  # otherwise the path has changed
                self._resize(search.current)

        return self._size_probe(size, now, on_fate)

    def _size_probe(self, size: int, now: float, on_fate: Callable[[Any], None]) -> list[tuple[bytes, Any]]:
        """A packet of `size` bytes without data. `on_fate` is called when it is acknowledged or lost."""
        raise NotImplementedError

    def _resize(self, size: int) -> None:
        self.max_datagram_size = self.loss.pacer.datagram_size = size
