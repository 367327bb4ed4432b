"""What a transport, its carriers and its streams may have besides: lane looks for it, and does without.

Each feature is a Protocol of its own. Most of them save copies or greenlets.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from lane.address import Address
from lane.stream.contract import ServerTLS, Stream

_BEHIND_HEAD = 16384
"""Bytes of the data that are copied, so that they follow the head in one write."""


class Views(Protocol):
    """For streams: receive without a copy."""

    def recv_view(self, limit: int = 262144) -> bytes | memoryview:
        """Receive like `recv`. The returned view is invalid as soon as another greenlet has run."""


def receiver(stream: Stream) -> Callable[[int], bytes | memoryview]:
    """The cheapest receive function of `stream`. Use the returned bytes before another greenlet runs."""
    receive: Callable[[int], bytes | memoryview] = getattr(stream, "recv_view", stream.recv)
    return receive


class Joins(Protocol):
    """For streams: two buffers are sent together without a copy."""

    def send_joined(self, head: bytes, data: bytes | bytearray | memoryview) -> None:
        """Send the short `head` and then `data`, as one `sendall` would."""


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


class SendsNow(Protocol):
    """For streams: send without a wait, so that no greenlet is needed for a small message."""

    def send_now(self, data: bytes) -> bool:
        """Send all of `data` (up to 128 KB) like `sendall`, but never block, while nobody is in `sendall`.

        False: some of it is left. A call of `sendall`, which may be with no bytes, waits until that is sent.
        """


class HandsShort(Protocol):
    """For streams: a callback that saves the reader from waking for each small message."""

    def hand_short_to(self, take: Callable[[bytes | memoryview], bool] | None) -> None:
        """While the reader waits in `recv`, call `take` with what comes, if that is less than 4 KB.

        `take` does not block, and keeps no view of the bytes. If it returns False, the reader has them. If it
        raises, so does the reader's `recv`. None: wake the reader each time.
        """


class AbortsSending(Protocol):
    """For streams: one direction can be aborted, with a code that reaches the peer."""

    def abort_sending(self, code: int) -> None:
        """Abort only our direction, and drop its unsent data. Reading goes on. Never blocks."""


class Renews(Protocol):
    """For streams of carriers with many: the stream of a complete session may carry the next one."""

    def renew(self) -> bool:
        """Note that another session is about to begin, on either side, and return whether it can.

        It can't if the stream has failed or ended, or if bytes of the last session may be on their way: if
        they were lost, the next session would wait for them.
        """


def renewer(stream: Stream) -> Callable[[], bool] | None:
    """`renew` of a stream that has it."""
    renew: Callable[[], bool] | None = getattr(stream, "renew", None)
    return renew


class HandsOver(Protocol):
    """For datagrams: a callback in place of `recv`."""

    def hand_to(self, deliver: Callable[[bytes], None]) -> None:
        """Call `deliver`, which does not block, with each packet from now on. It is let go at the end."""


class Rings(Protocol):
    """For accepted carriers: a callback when the peer sends something.

    With it, no greenlet waits for an unauthenticated peer. Each greenlet would cost 8 KB.
    """

    def when_heard(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, from the event loop, when a stream has data or the carrier has ended.

        Until then nobody calls `accept` or reads. `callback` must not block.
        """


@runtime_checkable
class Paces(Protocol):
    """For accepted carriers: a full server holds users with many of them to their share."""

    @property
    def has_more(self) -> bool:
        """Whether more is to be sent than the network takes now."""

    def belong(self, user: str) -> None:
        """The carrier is one of `user`. Called before the user's first session."""

    def pace(self, rate: float | None) -> None:
        """Send at most `rate` bytes a second from now on, buffered ones included. None: no limit."""


class Proves(Protocol):
    """For accepted carriers: the transport gives authenticated clients precedence."""

    def proven(self) -> None:
        """Note that the client has proven a key. Called at most once."""


@runtime_checkable
class Presents(Protocol):
    """For listeners: the certificate can be replaced."""

    def present(self, tls: ServerTLS) -> None:
        """Use `tls` for all connections from now on. Existing carriers stay open.

        If this raises `lane.errors.ConfigError`, the old certificate stays in use.
        """


@runtime_checkable
class Pauses(Protocol):
    """For listeners: another process takes over the sockets, or gives them back.

    A listener without these methods is closed instead.
    """

    def pause(self) -> None:
        """Take nothing more from the sockets. What has come already goes on, and answers leave here."""

    def resume(self) -> None:
        """Listen again."""


@runtime_checkable
class Prepares(Protocol):
    """For transports: called before a server's workers fork, each of which listens then.

    What it makes and keeps is common to all workers, such as the keys of TLS tickets.
    """

    def prepare(self, tls: ServerTLS) -> None:
        """Make what listeners with this identity share, without the event loop. Raises ConfigError."""


@runtime_checkable
class OverTCP(Protocol):
    """For transports over TCP: lane may replace the function that connects.

    `--via` sets one that connects through a proxy.
    """

    connect: Callable[[Address, float], Any]
    """Return a `gevent.socket.socket` that is connected to the endpoint. The second argument is the time
    limit in seconds. Raises `Unreachable`."""


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
    """For transports: a closer look at the path, for `lane check --deep`."""

    def examine(self, endpoint: Address, seconds: float) -> Iterable[Finding]:
        """Look for about `seconds`. Raises LaneError if there is nothing to look at."""
