"""A connection whose packets grow to what the path carries, and shrink where that is less (path_size.py)."""

from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import pull_quic_transport_parameters
from aioquic.quic.packet_builder import QuicDeliveryState

from lane_quic import fast_send
from lane_quic.configuration import LARGE_DATAGRAM
from lane_quic.credit import Credit
from lane_quic.path_size import HOLE_PACKETS, HOLE_TIMEOUTS, PathSize
from lane_quic.recovery import Recovery


class Resizing(Credit):
    """Sends probes, and acts on what becomes of them."""

    __slots__ = ("_largest", "path_size")

    _loss: Recovery

    def __init__(
        self, configuration: QuicConfiguration, original_cid: bytes | None, retry_cid: bytes | None
    ) -> None:
        super().__init__(configuration, original_cid, retry_cid)
        self._largest = LARGE_DATAGRAM
        self.path_size = PathSize(configuration.max_datagram_size, self._largest)

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        """As aioquic does; and what the peer does not take is not tried (RFC 9000 section 18.2)."""
        super()._parse_transport_parameters(data, from_session_ticket)
        most = pull_quic_transport_parameters(Buffer(data=data)).max_udp_payload_size
        if most is not None and most < self._largest:
            self._largest = most
            self.path_size = PathSize(self.configuration.max_datagram_size, most)

    def _search_anew(self) -> None:
        """Another path."""
        self.path_size = PathSize(self.configuration.max_datagram_size, self._largest)
        self._resize(self.path_size.current)

    def _leave_black_hole(self) -> None:
        """Send small packets where large ones do not pass any more."""
        loss, search = self._loss, self.path_size
        if (loss.timeouts >= HOLE_TIMEOUTS or loss.large_lost >= HOLE_PACKETS) and search.black_hole():
            self._resize(search.current)
        loss.large_lost %= HOLE_PACKETS

    def _find_size(self, now: float, *, busy: bool) -> list[tuple[bytes, Any]]:
        """Let packets be as large as the path carries: a probe, if one is due beside others."""
        loss, search = self._loss, self.path_size
        if (
            not busy
            or loss.timeouts
            or not self._network_paths[0].is_validated
            or (size := search.probe(now)) is None
        ):
            return []

        def on_fate(delivery: Any) -> None:
            arrived = delivery is QuicDeliveryState.ACKED
            if arrived or not loss.timeouts:
                search.probed(size, arrived=arrived)
            else:  # nothing arrives: that tells nothing of sizes
                search.postpone(size)
            if search is self.path_size:  # else it was another path
                self._resize(search.current)

        return fast_send.probe(self, size, now, on_fate)

    def _resize(self, size: int) -> None:
        self._max_datagram_size = self._loss.pacer.datagram_size = size
