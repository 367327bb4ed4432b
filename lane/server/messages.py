"""Messages on a stream, before the frames of a session and between two sessions, and the end of a stream."""

from collections.abc import Callable
from typing import TypeVar

import gevent

from lane.errors import Closed
from lane.proto.hello import HELLO_SIZE, MAX_HELLO_PADDING
from lane.stream import Stream

Message = TypeVar("Message")

LAST_WORDS = 1.0
"""Seconds to let the peer read what a stream said last."""


class MessageReader:
    """What has come over a stream before its frames: bounded by the messages' own limits."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._data = b""

    def fill(self, size: int) -> None:
        """Have `size` bytes at least. Raises Closed."""
        while len(self._data) < size:
            data = self._stream.recv(max(size - len(self._data), HELLO_SIZE + MAX_HELLO_PADDING))
            if not data:
                raise Closed("the stream ended")
            self._data += data

    def begin(self) -> bool:
        """Whether anything comes; False for the end of the stream. Raises Closed."""
        self._data = self._data or self._stream.recv(HELLO_SIZE + MAX_HELLO_PADDING)
        return bool(self._data)

    def put_back(self, data: bytes) -> None:
        """Take what was read behind a session."""
        self._data = data

    def parse(self, parser: Callable[[bytes], Message | None]) -> Message:
        """The message that `parser` finds at the start; it bounds the length."""
        while (found := parser(self._data)) is None:
            self.fill(len(self._data) + 1)
        return found

    def skip(self, size: int) -> None:
        """Drop the first `size` bytes, as soon as they have come."""
        self.fill(size)
        self._data = self._data[size:]

    def rest(self) -> bytes:
        """All that came and was not dropped."""
        data, self._data = self._data, b""
        return data


def finish(stream: Stream) -> None:
    """End a stream so that its last bytes arrive: a close with unread input would destroy them."""
    stream.finish()
    with gevent.Timeout(LAST_WORDS, False):
        while stream.recv():
            pass
    stream.close()
