"""The contract between lane and its transports, on one screen.

A transport is only a reliable byte pipe. Windows, back-pressure between the two ends, keepalive and
resumption are the session's, written once in the core, so that a foreign transport stays small.

Rules that the types cannot say (and `lane.testing.TransportContract` checks):

- One reader and one writer greenlet a stream. Deadlines are `gevent.Timeout` around a call; after one
  has cut a `sendall`, only `reset` is legal.
- Calls that a lost carrier leaves blocked raise `Closed`; a peer's reset raises `Reset`. A clean end is
  only ever `b""`, and only because the peer called `finish`: a lost carrier is never a clean end.
- What a peer sends that nobody reads is bounded; a sender that outruns the reader blocks.
- Datagrams arrive whole, at most once, in any order, or not at all. What of them waits is bounded, to be sent
  as well as to be read, and the oldest are dropped for new ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from lane.address import Address
from lane.errors import Closed, Reset
from lane.supervisor import report

__all__ = [
    "AbortsSending", "Address", "Carrier", "ClientTLS", "Closed", "Datagrams", "Joins", "LinkStats",
    "Listener", "OverTCP", "Presents", "Proves", "Reset", "Rings", "ServerTLS", "Stream", "Transport",
    "Views", "measured", "receiver", "send_joined",
]  # fmt: skip

_BEHIND_HEAD = 16384
"""Bytes of data that are copied to stand behind their head."""


class Stream(Protocol):
    """One duplex byte pipe through a carrier, with half-close and reset."""

    def recv(self, limit: int = 262144) -> bytes:
        """Block for 1 to `limit` bytes; `b""` once the peer has finished."""

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Take all of `data`; block while too much is unsent. The buffer may be changed afterwards."""

    def finish(self) -> None:
        """Half-close our direction. Idempotent; the other direction goes on."""

    def reset(self, code: int = 0) -> None:
        """Abort both directions. Never blocks; nothing more is delivered to the peer."""

    def close(self) -> None:
        """Finish, release what the stream holds, and wake who waits here; unread input makes it a reset.

        Idempotent. What was sent before still arrives, whatever the peer says after it.
        """


class Datagrams(Protocol):
    """Unreliable packets beside the streams of a carrier."""

    @property
    def max_size(self) -> int:
        """The largest payload, bytes. It may grow and shrink, and is checked again when sent."""

    def send(self, data: bytes) -> bool:
        """Send one packet; False if that was too large or the carrier is closed. Never blocks.

        True is no promise: it may still be dropped, here for newer ones, or on the way.
        """

    def recv(self) -> bytes:
        """Block for the next packet. Raises Closed with the carrier."""


@dataclass(frozen=True, slots=True)
class LinkStats:
    """What a carrier knows of its link; None where it does not know.

    `--transport auto` goes by `rtt`, `sent` and `lost`. `lane.tcp_info` has them all for TCP.
    """

    rtt: float | None = None
    """Smoothed round trip, seconds."""
    loss: float | None = None
    """Fraction (0 to 1) of what was sent that was lost or sent again, over the carrier's life."""
    sent: int = 0
    """Bytes sent over the carrier's life, as far as their fate is known."""
    lost: int = 0
    """Bytes of these that were lost or sent again."""
    delivered: int = 0
    """Bytes that the peer's side is known to have received, over the carrier's life."""
    in_flight: int = 0
    """Bytes sent and not yet acknowledged."""
    rate: float | None = None
    """Bytes a second that were delivered lately, while there was enough to send."""
    more: Mapping[str, float] | None = None
    """What this transport counts beyond that, by name."""
    measured_at: float | None = None
    """`time.monotonic()` of the newest of these figures."""


class Carrier(Protocol):
    """One live connection between client and server.

    An attribute `one_stream = True` beside this says that there is never a second stream: the server does not
    wait for one then, which saves it a greenlet, and closes the carrier once the stream has ended.
    """

    @property
    def capacity(self) -> int:
        """Streams that may still be opened; 0 for good once the carrier is closed."""

    @property
    def closed(self) -> bool:
        """Whether the carrier is known to be dead: looked up now, cheap, never blocks."""

    @property
    def datagrams(self) -> Datagrams | None:
        """None where the transport, or the peer, has none: the same over the carrier's life."""

    @property
    def binding(self) -> bytes:
        """SHA-256 of the server certificate's SubjectPublicKeyInfo, the same at both ends: it ties keys."""

    @property
    def peer(self) -> str:
        """The other end's address as text, without the port where that means nothing; for limits and logs."""

    def open(self) -> Stream:
        """A new stream to the peer, who sees it with the first bytes. Raises Closed at capacity 0."""

    def accept(self) -> Stream:
        """Block for the next stream that the peer opened. Raises Closed with the carrier."""

    def stats(self) -> LinkStats:
        """The link as measured now."""

    def close(self, grace: float = 0) -> None:
        """Close all streams and the connection; give finished streams up to `grace` seconds to drain."""


class Rings(Protocol):
    """What a carrier that was accepted has as well if it can say when there is work.

    A greenlet that waits for strangers would cost 8 KB for each of them.
    """

    def when_heard(self, callback: Callable[[], None]) -> None:
        """Call back once, from the event loop, when the peer says something on a stream, or with the end.

        Nobody waits in `accept` or reads until then. `callback` does not block.
        """


class Listener(Protocol):
    """Where a transport's carriers arrive."""

    @property
    def address(self) -> Address:
        """The bound address; its port where port 0 was asked for."""

    def accept(self) -> Carrier:
        """Block for the next carrier, handshake done. Raises Closed with the listener.

        A peer that does not complete its handshake keeps nobody waiting, and is given up after a while.
        """

    def close(self) -> None:
        """Stop taking carriers. Those that were accepted go on."""


class Proves(Protocol):
    """What an accepted carrier has as well if its transport prefers those who are known."""

    def proven(self) -> None:
        """The client has proven a key: it is no stranger. Called once at most."""


@runtime_checkable
class Presents(Protocol):
    """What a listener has as well if it can go on with another certificate."""

    def present(self, tls: "ServerTLS") -> None:
        """Prove oneself with `tls` to whoever connects from now on. Carriers that are there stay.

        Raises `lane.errors.ConfigError`, and goes on with the one before.
        """


class ClientTLS(Protocol):
    """Whom a client expects. A transport that has certificates calls `verify` after every handshake."""

    @property
    def server_name(self) -> str | None:
        """For the SNI extension, as it has names: ASCII, without a final dot; None to send none."""

    def verify(self, chain: list[bytes]) -> bytes:
        """Judge the server's certificates (DER, leaf first): the binding, or raises `lane.errors.Refused`.

        Called on every handshake, resumed ones too, before the first byte is sent to the server.
        """


class ServerTLS(Protocol):
    """What a server proves itself with."""

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
    """Dials and listens for carriers. `tls` is for transports that have certificates; others ignore it."""

    name: str
    """What `--transport` calls it. An attribute `cost: float` beside it (CPU a byte, as a multiple of
    what TLS over TCP needs) has the transport take part in `--transport auto`."""

    def dial(self, endpoint: Address, tls: ClientTLS) -> Carrier:
        """A carrier to `endpoint`. Raises `lane.errors.Unreachable` or `lane.errors.Refused`."""

    def listen(self, endpoint: Address, tls: ServerTLS) -> Listener:
        """Listen; an empty host means every address of IPv4 and IPv6. Raises `lane.errors.ConfigError`."""


class Views(Protocol):
    """What a stream has as well if it can hand out bytes without a copy."""

    def recv_view(self, limit: int = 262144) -> memoryview:
        """As `recv`, but what is returned is gone as soon as another greenlet has run."""


def receiver(stream: Stream) -> Callable[[int], bytes | memoryview]:
    """The cheapest way to receive from `stream`; what it gives is to be used before anything else runs."""
    receive: Callable[[int], bytes | memoryview] = getattr(stream, "recv_view", stream.recv)
    return receive


def measured(carrier: Carrier) -> LinkStats:
    """What `carrier` knows of its link: nothing where a foreign one fails to say so."""
    try:
        return carrier.stats()
    except Exception as error:
        report("a carrier that was asked for its figures", error)
        return LinkStats()


class AbortsSending(Protocol):
    """What a stream has as well if its resets have codes, and reach a peer whose carrier lives."""

    def abort_sending(self, code: int) -> None:
        """Abort our direction alone, past what was not sent yet; reading goes on. Never blocks."""


class Joins(Protocol):
    """What a stream has as well if two buffers can leave together without a copy."""

    def send_joined(self, head: bytes, data: bytes | bytearray | memoryview) -> None:
        """As one `sendall` of `head`, which is short, and `data` behind it."""


def send_joined(stream: Stream, head: bytes, data: bytes | bytearray | memoryview) -> None:
    """Send `head` and `data` behind it in the cheapest way that `stream` has.

    Where it has none, only the start of `data` is copied to stand behind its head, so that no write is tiny;
    the rest, which is most of it, goes out from where it is.
    """
    joined: Callable[..., None] | None = getattr(stream, "send_joined", None)
    if joined is not None:
        joined(head, data)
        return
    view = memoryview(data)
    stream.sendall(b"".join((head, view[:_BEHIND_HEAD])))
    if len(view) > _BEHIND_HEAD:
        stream.sendall(view[_BEHIND_HEAD:])


@runtime_checkable
class OverTCP(Protocol):
    """What a transport has as well if its dials begin with a TCP connection: lane may set another way.

    With `--via` that leads through a proxy.
    """

    connect: Callable[[Address, float], Any]
    """A connected `gevent.socket.socket` to the endpoint, within so many seconds. Raises `Unreachable`."""
