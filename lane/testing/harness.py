"""The harness of the contract's tests: a transport with a listener, pairs of ends, and functions to wait."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import gevent

from lane.errors import Closed
from lane.stream import Address, Carrier, Stream, Transport
from lane.testing.certs import client_tls, server_tls

PATIENCE = 60.0
"""Seconds that one test, or one wait in it, may take."""


class Kit:
    """A transport with one listener, and the carriers and streams between them.

    A test uses either `dial` and `stream`, which accept one by one, or `serve`, which accepts all.
    """

    def __init__(self, transport: Transport, endpoint: Address) -> None:
        self.transport = transport
        self.server_tls = server_tls()
        self.client_tls = client_tls(self.server_tls)
        self.listener = transport.listen(endpoint, self.server_tls)
        self._pairs: list[tuple[Carrier, Carrier]] = []
        self._dialled: list[Carrier] = []
        self._serving: list[gevent.Greenlet[Any, Any]] = []

    @property
    def last(self) -> tuple[Carrier, Carrier]:
        """The newest carrier: our end, the listener's end."""
        return self._pairs[-1]

    def dial(self) -> tuple[Carrier, Carrier]:
        """A new carrier: our end, the listener's end."""
        accepting = gevent.spawn(self.listener.accept)
        self._dialled.append(self.transport.dial(self.listener.address, self.client_tls))
        self._pairs.append((self._dialled[-1], accepting.get()))
        return self._pairs[-1]

    def stream(self) -> tuple[Stream, Stream]:
        """A new stream, over a carrier with capacity: the opening end, the accepting end."""
        near, far = next((pair for pair in self._pairs if pair[0].capacity), None) or self.dial()
        opened = near.open()
        opened.sendall(b"!")  # the peer need not see the stream before its first byte
        accepted = far.accept()
        assert accepted.recv(1) == b"!"
        return opened, accepted

    def open(self) -> Stream:
        """A new stream for `serve` to accept."""
        for carrier in self._dialled:
            if carrier.capacity:
                return carrier.open()
        carrier = self.transport.dial(self.listener.address, self.client_tls)
        self._dialled.append(carrier)
        return carrier.open()

    def serve(self, handle: Callable[[Stream], None]) -> None:
        """Accept all streams, and run `handle` for each one in a greenlet."""

        def streams(carrier: Carrier) -> None:
            with suppress(Closed):
                while True:
                    self._serving.append(gevent.spawn(handle, carrier.accept()))

        def carriers() -> None:
            with suppress(Closed):
                while True:
                    self._serving.append(gevent.spawn(streams, self.listener.accept()))

        self._serving.append(gevent.spawn(carriers))

    def close(self) -> None:
        """End everything."""
        self.listener.close()
        for carrier in [*self._dialled, *(far for _, far in self._pairs)]:
            carrier.close()
        gevent.killall(self._serving)


def echo(stream: Stream) -> None:
    """Send all received bytes back, then the end."""
    while data := stream.recv():
        stream.sendall(data)
    stream.finish()
    stream.close()


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of `call`, or the exception that it raises. For use in a greenlet."""
    try:
        return call(*arguments)
    except Exception as error:
        return error


def read_all(stream: Stream) -> bytes:
    """Read up to the peer's end."""
    pieces = []
    while piece := stream.recv():
        pieces.append(piece)
    return b"".join(pieces)


def read_to_error(stream: Stream) -> Exception:
    """Read until a broken stream raises, and return the exception. A clean end fails the test."""
    while True:
        result = outcome(stream.recv)
        if isinstance(result, Exception):
            return result
        assert result != b"", "a broken stream looked like a clean end"


class Flood:
    """Sends through a stream, in a greenlet, until that fails. `failure.get()` returns the exception."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.sent = 0
        """The number of blocks of 64 KB that were sent."""
        self.failure = gevent.spawn(self._run)

    def wait_until_blocked(self) -> None:
        """Wait until the stream accepts no more data."""
        settled(lambda: self.sent)

    def _run(self) -> Exception:
        block = bytes(65536)
        while True:
            result = outcome(self._stream.sendall, block)
            if isinstance(result, Exception):
                return result
            self.sent += 1
            gevent.sleep(0)


def send_all(stream: Stream, data: bytes) -> None:
    """Send `data`, then the end."""
    stream.sendall(data)
    stream.finish()


def exchange(stream: Stream, data: bytes) -> bytes:
    """Send `data` to an echo, finish, and read the answer."""
    sending = gevent.spawn(send_all, stream, data)
    answer = read_all(stream)
    sending.get()
    stream.close()
    return answer


def until(condition: Callable[[], Any], what: Callable[[], str] | None = None, pause: float = 0.002) -> Any:
    """Wait until `condition()` is true, and return its value. After `PATIENCE` it fails with `what()`.

    `pause`: seconds between two looks; more where each look costs something.
    """
    end = monotonic() + PATIENCE
    while not (value := condition()):
        assert monotonic() < end, what() if what else "what was waited for did not happen"
        gevent.sleep(pause)
    return value


def settled(value: Callable[[], int]) -> int:
    """Wait until `value` has not changed for 0.3 s, and return it. Its producer is blocked then."""
    last, since = value(), 0
    while since < 30:
        gevent.sleep(0.01)
        last, since = value(), since + 1 if value() == last else 0
    return last


def pattern(size: int, seed: int = 0) -> bytes:
    """`size` bytes without nearby repetition."""
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(size)
