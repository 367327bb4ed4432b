"""What every transport has: it dials carriers and listens for them, and carriers have streams."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from lane.address import Address
from lane.supervisor import report


class Stream(Protocol):
    """One duplex byte pipe through a carrier, with half-close and reset."""

    def recv(self, limit: int = 262144) -> bytes:
        """Block until there is data. Return 1 to `limit` bytes, or `b""` once the peer has finished."""

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Accept all of `data`; block while too much is unsent. The buffer may be changed afterwards."""

    def finish(self) -> None:
        """Half-close our direction. The other direction stays open. Idempotent."""

    def reset(self, code: int = 0) -> None:
        """Abort both directions. Nothing more is delivered to the peer. Never blocks."""

    def close(self) -> None:
        """Finish, free the stream's resources and wake the greenlets that wait on it. Idempotent.

        Unread input turns this into a reset. Otherwise the data sent before still arrives, whatever the peer
        sends after it.
        """


class Datagrams(Protocol):
    """Unreliable packets, carried beside the streams."""

    @property
    def max_size(self) -> int:
        """The largest payload, bytes. It may grow and shrink; `send` checks each packet again."""

    def send(self, data: bytes) -> bool:
        """Send one packet. False if it is too large or the carrier is closed. Never blocks.

        True does not promise delivery. The queue may drop the packet for a newer one, or the network may.
        """

    def recv(self) -> bytes:
        """Block until the next packet arrives, and return it. Raises Closed once the carrier is closed."""


class LinkStats(NamedTuple):
    """A carrier's measurements of its link; None where a value is unknown.

    `--transport auto` uses `rtt`, `sent` and `lost`. `lane.tcp_info` reads all values for TCP.
    """

    rtt: float | None = None
    """Smoothed round-trip time, seconds."""
    loss: float | None = None
    """Fraction (0 to 1) of the sent bytes that were lost or sent again, over the carrier's life."""
    sent: int = 0
    """Bytes sent over the carrier's life that are known to be delivered or lost."""
    lost: int = 0
    """Bytes of `sent` that were lost or sent again."""
    delivered: int = 0
    """Bytes that the peer is known to have received, over the carrier's life."""
    in_flight: int = 0
    """Bytes sent and not yet acknowledged."""
    rate: float | None = None
    """Recent delivery rate while there was enough data to send, bytes a second."""
    more: Mapping[str, float] | None = None
    """Further counters of this transport, by name."""
    measured_at: float | None = None
    """`time.monotonic()` of the newest of these values."""


class Carrier(Protocol):
    """One live connection between client and server.

    A carrier that never has a second stream sets the attribute `one_stream = True`. The server then saves the
    greenlet that would wait for one, and closes the carrier when the stream has ended.
    """

    @property
    def capacity(self) -> int:
        """Number of streams that may still be opened. Once the carrier is closed it stays 0."""

    @property
    def closed(self) -> bool:
        """Whether the carrier is known to be dead. The check is made now, is cheap and never blocks."""

    @property
    def datagrams(self) -> Datagrams | None:
        """None if the transport or the peer has no datagrams. The same over the carrier's life."""

    @property
    def binding(self) -> bytes:
        """SHA-256 of the server certificate's SubjectPublicKeyInfo. It is the same at both ends.

        lane's keys are tied to it.
        """

    @property
    def peer(self) -> str:
        """The peer's address as text, for limits and logs. The port is left out where it means nothing."""

    def open(self) -> Stream:
        """Open a stream. The peer sees it when the first bytes arrive. Raises Closed at capacity 0."""

    def accept(self) -> Stream:
        """Block until the peer opens a stream, and return it. Raises Closed once the carrier is closed."""

    def stats(self) -> LinkStats:
        """The current measurements of the link."""

    def close(self, grace: float = 0) -> None:
        """Close all streams and the connection. Finished streams have up to `grace` seconds to drain."""


class Listener(Protocol):
    """Accepts a transport's carriers."""

    @property
    def address(self) -> Address:
        """The bound address. For port 0 it has the port that the system chose."""

    def accept(self) -> Carrier:
        """Block until a carrier has completed its handshake. Raises Closed once the listener is closed.

        A peer that does not complete its handshake delays nobody, and is dropped after a timeout.
        """

    def close(self) -> None:
        """Accept no more carriers. The accepted ones stay open."""


class ClientTLS(Protocol):
    """The server that a client expects. Transports with certificates call `verify` after each handshake."""

    @property
    def server_name(self) -> str | None:
        """The name for the SNI extension: ASCII, without a final dot; None to send no name."""

    def verify(self, chain: list[bytes]) -> bytes:
        """Check the server's certificates (DER, leaf first) and return the binding.

        Called after every handshake, also a resumed one, before the first byte is sent to the server. Raises
        `lane.errors.Refused`.
        """


class ServerTLS(Protocol):
    """A server's identity: its certificate and key."""

    @property
    def chain_pem(self) -> bytes:
        """Certificates, leaf first."""

    @property
    def key_pem(self) -> bytes:
        """The leaf's private key, unencrypted."""

    @property
    def binding(self) -> bytes:
        """SHA-256 of the leaf's SubjectPublicKeyInfo."""


class Transport(Protocol):
    """Dials carriers and listens for them. Transports without certificates ignore `tls`."""

    name: str
    """The transport's name in `--transport`. A transport with an attribute `cost: float` takes part in
    `--transport auto`. The cost is the CPU time a byte, as a multiple of that of TLS over TCP."""

    def dial(self, endpoint: Address, tls: ClientTLS) -> Carrier:
        """Connect to `endpoint`. Raises `lane.errors.Unreachable` or `lane.errors.Refused`."""

    def listen(self, endpoint: Address, tls: ServerTLS) -> Listener:
        """Listen; an empty host means every address of IPv4 and IPv6. Raises `lane.errors.ConfigError`."""


def measured(carrier: Carrier) -> LinkStats:
    """The measurements of `carrier`; no values if a third party's carrier fails here."""
    try:
        return carrier.stats()
    except Exception as error:
        report("a carrier that was asked for its figures", error)
        return LinkStats()
