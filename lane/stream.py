"""The contract between lane and its transports, on one screen.

A transport is only a reliable byte pipe. The session adds flow control between the two ends, keepalive and
resumption. They are written once, in the core, so that a third party's transport stays small.

The types cannot express these rules. `lane.testing.TransportContract` checks them:

- A stream has one reader greenlet and one writer greenlet. A deadline is a `gevent.Timeout` around a call.
  After a timeout has interrupted a `sendall`, only `reset` is legal.
- When a carrier is lost, the calls that are blocked in it raise `Closed`. When the peer resets a stream, they
  raise `Reset`. A clean end is always `b""`, and only follows the peer's `finish`. A lost carrier is never a
  clean end.
- Received data that nobody reads is bounded. A sender that is faster than the reader blocks.
- Each datagram arrives whole and at most once, in any order, or not at all. The queues for sending and for
  reading are bounded. A full queue drops its oldest datagrams.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from lane.address import Address
from lane.errors import Closed, Reset
from lane.supervisor import report

__all__ = [
    "AbortsSending", "Address", "Carrier", "ClientTLS", "Closed", "Datagrams", "Examines", "Finding",
    "HandsOver", "HandsShort", "Joins", "LinkStats", "Listener", "OverTCP", "Paces", "Pauses", "Prepares",
    "Presents", "Proves", "Reset", "Rings", "SendsNow", "ServerTLS", "Stream", "Transport", "Views",
    "joiner", "measured", "receiver",
]  # fmt: skip

_BEHIND_HEAD = 16384
"""Bytes of the data that are copied, so that they follow the head in one write."""


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


class Rings(Protocol):
    """Optional, for accepted carriers: a callback when the peer sends something.

    With it, no greenlet waits for an unauthenticated peer. Each greenlet would cost 8 KB.
    """

    def when_heard(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, from the event loop, when a stream has data or the carrier has ended.

        Until then nobody calls `accept` or reads. `callback` must not block.
        """


@runtime_checkable
class Paces(Protocol):
    """Optional, for accepted carriers: a full server holds users with many of them to their share."""

    @property
    def has_more(self) -> bool:
        """Whether more is to be sent than the network takes now."""

    def belong(self, user: str) -> None:
        """The carrier is one of `user`. Called before the user's first session."""

    def pace(self, rate: float | None) -> None:
        """Send at most `rate` bytes a second from now on, buffered ones included. None: no limit."""


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


class Proves(Protocol):
    """Optional, for accepted carriers: the transport gives authenticated clients precedence."""

    def proven(self) -> None:
        """Note that the client has proven a key. Called at most once."""


@runtime_checkable
class Presents(Protocol):
    """Optional, for listeners: the certificate can be replaced."""

    def present(self, tls: "ServerTLS") -> None:
        """Use `tls` for all connections from now on. Existing carriers stay open.

        If this raises `lane.errors.ConfigError`, the old certificate stays in use.
        """


@runtime_checkable
class Pauses(Protocol):
    """Optional, for listeners: another process takes over the sockets, or gives them back.

    A listener without these methods is closed instead.
    """

    def pause(self) -> None:
        """Take nothing more from the sockets. What has come already goes on, and answers leave here."""

    def resume(self) -> None:
        """Listen again."""


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


class Views(Protocol):
    """Optional, for streams: receive without a copy."""

    def recv_view(self, limit: int = 262144) -> bytes | memoryview:
        """Receive like `recv`. The returned view is invalid as soon as another greenlet has run."""


def receiver(stream: Stream) -> Callable[[int], bytes | memoryview]:
    """The cheapest receive function of `stream`. Use the returned bytes before another greenlet runs."""
    receive: Callable[[int], bytes | memoryview] = getattr(stream, "recv_view", stream.recv)
    return receive


def measured(carrier: Carrier) -> LinkStats:
    """The measurements of `carrier`; no values if a third party's carrier fails here."""
    try:
        return carrier.stats()
    except Exception as error:
        report("a carrier that was asked for its figures", error)
        return LinkStats()


class AbortsSending(Protocol):
    """Optional, for streams: one direction can be aborted, with a code that reaches the peer."""

    def abort_sending(self, code: int) -> None:
        """Abort only our direction, and drop its unsent data. Reading goes on. Never blocks."""


class Joins(Protocol):
    """Optional, for streams: two buffers are sent together without a copy."""

    def send_joined(self, head: bytes, data: bytes | bytearray | memoryview) -> None:
        """Send the short `head` and then `data`, as one `sendall` would."""


class SendsNow(Protocol):
    """Optional, for streams: send without a wait, so that no greenlet is needed for a small message."""

    def send_now(self, data: bytes) -> bool:
        """Send all of `data` (up to 128 KB) like `sendall`, but never block, while nobody is in `sendall`.

        False: some of it is left. A call of `sendall`, which may be with no bytes, waits until that is sent.
        """


class HandsShort(Protocol):
    """Optional, for streams: a callback that saves the reader from waking for each small message."""

    def hand_short_to(self, take: Callable[[bytes | memoryview], bool] | None) -> None:
        """While the reader waits in `recv`, call `take` with what comes, if that is less than 4 KB.

        `take` does not block, and keeps no view of the bytes. If it returns False, the reader has them. If it
        raises, so does the reader's `recv`. None: wake the reader each time.
        """


class HandsOver(Protocol):
    """Optional, for datagrams: a callback in place of `recv`."""

    def hand_to(self, deliver: Callable[[bytes], None]) -> None:
        """Call `deliver`, which does not block, with each packet from now on. It is let go at the end."""


def joiner(stream: Stream) -> Callable[[bytes, bytes | bytearray | memoryview], None]:
    """The cheapest way of `stream` to send a head and then data.

    A stream without `send_joined` gets two writes. The start of the data is copied behind the head, so that
    no write is tiny. The rest, which is most of it, is sent without a copy.
    """
    joined: Callable[..., None] | None = getattr(stream, "send_joined", None)
    return joined or partial(_send_both, stream)


def _send_both(stream: Stream, head: bytes, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    stream.sendall(b"".join((head, view[:_BEHIND_HEAD])))
    if len(view) > _BEHIND_HEAD:
        stream.sendall(view[_BEHIND_HEAD:])


@runtime_checkable
class Prepares(Protocol):
    """Optional, for transports: called before a server's workers fork, each of which listens then.

    What it makes and keeps is common to all workers, such as the keys of TLS tickets.
    """

    def prepare(self, tls: ServerTLS) -> None:
        """Make what listeners with this identity share, without the event loop. Raises ConfigError."""


class Finding(NamedTuple):
    """What a closer look found: see `Examines`."""

    state: Literal["ok", "note", "warn"]
    what: str
    """The subject, in a word or two."""
    text: str
    mend: str = ""
    """What the user can do about it."""


@runtime_checkable
class Examines(Protocol):
    """Optional, for transports: a closer look at the path, for `lane check --deep`."""

    def examine(self, endpoint: Address, seconds: float) -> Iterable[Finding]:
        """Look for about `seconds`. Raises LaneError if there is nothing to look at."""


@runtime_checkable
class OverTCP(Protocol):
    """Optional, for transports over TCP: lane may replace the function that connects.

    `--via` sets one that connects through a proxy.
    """

    connect: Callable[[Address, float], Any]
    """Return a `gevent.socket.socket` that is connected to the endpoint. The second argument is the time
    limit in seconds. Raises `Unreachable`."""
