"""The server's side of a probe: an answer to each PING, until the client ends the stream.

A client keeps one such stream over each transport while it has sessions. It tells whether the way works,
how long an answer takes, and whether the server is still the same process.
"""

import gevent

from lane.errors import Closed, ProtocolError
from lane.fair import maybe_yield
from lane.proto.frames import FrameReader, Ping, Pong, pack
from lane.stream import Stream

SILENCE = 120.0
"""Seconds that a client may ask nothing: it asks every few seconds, or ends the stream."""


def answer_pings(stream: Stream, early: bytes) -> None:
    """Answer on `stream`, of which `early` was read already. Raises Closed or ProtocolError."""
    frames = FrameReader()
    data = early or _more(stream)
    while data:
        for frame in frames.feed(data):
            if not isinstance(frame, Ping):
                raise ProtocolError("a probe sends nothing but PING")
            stream.sendall(pack(Pong(frame.value)))
            maybe_yield()
        data = _more(stream)
    stream.close()


def _more(stream: Stream) -> bytes:
    with gevent.Timeout(SILENCE, Closed("a probe that asks nothing")):
        return stream.recv()
