"""Messages on a stream (before the first session and between two sessions), and the end of a stream."""

from collections.abc import Callable
from typing import TypeVar

import gevent

from lane.deadline import deadline
from lane.errors import Closed
from lane.proto.hello import HELLO_SIZE, MAX_HELLO_PADDING, Request, parse_request
from lane.stream import Stream

Message = TypeVar("Message")

LAST_WORDS = 1.0
"""Seconds that the peer has to read the last bytes of a stream."""


class MessageReader:
    """Reads messages from a stream. The parsers bound the length of a message, and so the buffer."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._data = b""

    def fill(self, size: int) -> None:
        """Read until at least `size` bytes are buffered. Raises Closed."""
        while len(self._data) < size:
            data = self._stream.recv(max(size - len(self._data), HELLO_SIZE + MAX_HELLO_PADDING))
            if not data:
                raise Closed("the stream ended")
            self._data += data

    def begin(self) -> bool:
        """Wait for the first bytes of a message. False at the end of the stream. Raises Closed."""
        self._data = self._data or self._stream.recv(HELLO_SIZE + MAX_HELLO_PADDING)
        return bool(self._data)

    def put_back(self, data: bytes) -> None:
        """Put back bytes that were read after the end of a session."""
        self._data = data

    def try_parse(self, parser: Callable[[bytes], Message | None]) -> Message | None:
        """The message that `parser` finds at the start of what was read; None if it is not whole."""
        return parser(self._data)

    def parse(self, parser: Callable[[bytes], Message | None]) -> Message:
        """Read until `parser` finds a message at the start. Raises Closed, and what `parser` raises."""
        while (found := parser(self._data)) is None:
            self.fill(len(self._data) + 1)
        return found

    def take(self, size: int) -> bytes:
        """Wait for the first `size` bytes, and take them. Raises Closed."""
        self.fill(size)
        data, self._data = self._data[:size], self._data[size:]
        return data

    def rest(self) -> bytes:
        """Take all buffered bytes."""
        data, self._data = self._data, b""
        return data


def read_request(reader: MessageReader, spare: float, within: float) -> Request | None:
    """Read a REQUEST, which a spare stream sends late. None if the client ended the stream.

    Its first byte has `spare` seconds, and its end then `within` seconds. Raises Closed and ProtocolError.
    """
    if (found := reader.try_parse(parse_request)) is None:  # most come together with HELLO
        with deadline(spare, _unused):
            if not reader.begin():
                return None
        with deadline(within, _no_request):
            found = reader.parse(parse_request)
    request, end = found
    reader.take(end)
    return request


def _unused() -> Closed:
    return Closed("a spare that nobody used")


def _no_request() -> Closed:
    return Closed("no REQUEST in time")


def finish(stream: Stream) -> None:
    """End a stream so that its last bytes arrive: a close with unread input would destroy them."""
    stream.finish()
    with gevent.Timeout(LAST_WORDS, False):
        while stream.recv():
            pass
    stream.close()
