"""Congestion control as a contract: what a controller is told, and the two numbers it decides.

A controller is a pure object: no clock, no socket, no timer. It hears of packets that were sent,
acknowledged and lost, and answers with a window (bytes that may be in flight) and a pacing rate. Loss
detection and rate measurements are made once, in recovery/, for all of them. Third parties bring their
own through the hook `lane_register_congestion`; those that ship are in controllers.py and bbr.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Packet(Protocol):
    """What a controller may know of a packet."""

    sent_time: float
    """`time.monotonic()` when it left."""
    sent_bytes: int
    """Its size on the wire, without IP and UDP headers."""


@dataclass(slots=True)
class Sample:
    """What one acknowledgement, or one timer of the loss detection, brought to light."""

    now: float
    delivered: int = 0
    """Bytes that have arrived at the peer, over the connection's life."""
    lost: int = 0
    """Bytes declared lost and not seen to arrive after all, over the connection's life."""
    in_flight: int = 0
    """Bytes sent and neither acknowledged nor lost, after this sample."""
    acked: Sequence[Packet] = ()
    """Packets that were acknowledged now."""
    dropped: Sequence[Packet] = ()
    """Packets that were declared lost now."""
    persistent: bool = False
    """Whether those losses span persistent congestion (RFC 9002 section 7.6)."""
    rtt: float | None = None
    """Round trip of the newest packet, without the peer's own delay, seconds."""
    rate: float = 0.0
    """Delivery rate over about one round trip, bytes a second; 0 where this ACK could not tell."""
    limited: bool = False
    """Whether the application, not the network, may have set that rate."""
    round_delivered: int = -1
    """`delivered` at the time the newest acknowledged packet was sent: a round ends when it passes
    the `delivered` at which the round began. -1 where nothing was acknowledged."""


class Controller(Protocol):
    """A congestion controller of one connection."""

    @property
    def window(self) -> int:
        """Bytes that may be in flight."""

    @property
    def pacing_rate(self) -> float | None:
        """Bytes a second; None where one window a smoothed round trip is meant."""

    def on_sent(self, packet: Packet, in_flight: int) -> None:
        """`packet` leaves; `in_flight` bytes were there before it."""

    def on_sample(self, sample: Sample) -> None:
        """Packets were acknowledged or lost."""


Factory = Callable[[int], Controller]
"""Makes a controller for a connection with datagrams of so many bytes."""
