"""lane's congestion controllers, by name: its own BBR, and aioquic's Cubic and Reno."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lane_quic.congestion import Controller, Factory, Sample
from lane_quic.congestion.bbr import Bbr

if TYPE_CHECKING:
    from aioquic.quic.congestion.base import QuicCongestionControl


@dataclass
class _Windowed:
    """A controller of aioquic. It has a window, and counts the bytes in flight itself."""

    control: "QuicCongestionControl"
    pacing_rate: float | None = field(default=None, init=False)

    @property
    def window(self) -> int:
        return self.control.congestion_window

    def on_sent(self, packet: Any, in_flight: int) -> None:
        self.control.bytes_in_flight = in_flight
        self.control.on_packet_sent(packet=packet)

    def on_sample(self, sample: Sample) -> None:
        for packet in sample.acked:
            self.control.on_packet_acked(now=sample.now, packet=packet)  # type: ignore[arg-type]
        if sample.rtt is not None:
            self.control.on_rtt_measurement(now=sample.now, rtt=sample.rtt)
        if sample.dropped:
            self.control.bytes_in_flight = sample.in_flight + sum(p.sent_bytes for p in sample.dropped)
            self.control.on_packets_lost(now=sample.now, packets=sample.dropped)  # type: ignore[arg-type]
            if sample.persistent:
                self.control.on_persistent_congestion()


def _cubic(size: int) -> Controller:
    from aioquic.quic.congestion.cubic import CubicCongestionControl  # noqa: PLC0415 - see lane_quic.plugin

    return _Windowed(CubicCongestionControl(max_datagram_size=size))


def _reno(size: int) -> Controller:
    from aioquic.quic.congestion.reno import RenoCongestionControl  # noqa: PLC0415 - see lane_quic.plugin

    return _Windowed(RenoCongestionControl(max_datagram_size=size))


CONTROLLERS: dict[str, Factory] = {"bbr": Bbr, "cubic": _cubic, "reno": _reno}
