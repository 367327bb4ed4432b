"""The contract of a congestion controller: the events it receives and the two values it decides.

A controller has no clock, no socket and no timer. It is told of packets that were sent, acknowledged and
lost. It decides a window (bytes that may be in flight) and a pacing rate. recovery/ detects losses and
measures rates for all controllers. What is known of the path is offered to those that can begin with it
(careful_resume.Resumes). Third parties register theirs with the hook `lane_register_congestion`.
lane's own are in controllers.py and bbr.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Packet(Protocol):
    """A packet, as far as a controller knows it."""

    packet_number: int
    """It rises from packet to packet."""
    sent_time: float
    """`time.monotonic()` at its sending."""
    sent_bytes: int
    """Its size on the wire, without IP and UDP headers."""


@dataclass(slots=True)
class Sample:
    """The news from one acknowledgement, or from one timer of the loss detection."""

    now: float
    """`time.monotonic()`."""
    delivered: int = 0
    """Bytes that have arrived at the peer, over the connection's life."""
    lost: int = 0
    """Bytes that were declared lost and did not arrive later, over the connection's life."""
    received: int = 0
    """Bytes of all datagrams that have come, over the connection's life. Forged ones count, too."""
    in_flight: int = 0
    """Bytes sent and neither acknowledged nor lost, after this sample."""
    acked: Sequence[Packet] = ()
    """The newly acknowledged packets."""
    dropped: Sequence[Packet] = ()
    """The packets newly declared lost."""
    persistent: bool = False
    """Whether the packets in `dropped` show persistent congestion (RFC 9002 section 7.6)."""
    rtt: float | None = None
    """Round-trip time of the newest packet, without the peer's own delay, seconds."""
    rate: float = 0.0
    """Delivery rate over about one round trip, bytes a second; 0 if this ACK does not show it."""
    limited: bool = False
    """Whether the application, and not the network, may have limited `rate`."""
    round_delivered: int = -1
    """`delivered` at the time when the newest acknowledged packet was sent; -1 if none was acknowledged.

    A round ends when it passes the value that `delivered` had at the start of the round."""


class Controller(Protocol):
    """A congestion controller of one connection."""

    @property
    def window(self) -> int:
        """Bytes that may be in flight."""

    @property
    def pacing_rate(self) -> float | None:
        """Bytes a second; None for one window in each smoothed round trip."""

    def on_sent(self, packet: Packet, in_flight: int) -> None:
        """Note that `packet` is sent. `in_flight` bytes were in flight before it."""

    def on_sample(self, sample: Sample) -> None:
        """Note that packets were acknowledged or lost."""


Factory = Callable[[int], Controller]
"""Returns a controller for one connection. The argument is its datagram size, bytes."""
