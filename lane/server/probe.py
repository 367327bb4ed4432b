"""The server's side of a probe: it answers each PING until the client ends the stream.

While a client has sessions, it keeps one such stream on each transport. The probe shows whether the path
works, how long an answer takes, and whether the server is still the same process.
"""

import gevent

from lane.errors import Closed, ProtocolError
from lane.fair import maybe_yield
from lane.proto.frames import FrameReader, Ping, Pong, pack
from lane.stream import Stream

SILENCE = 120.0
"""Maximum number of seconds between two PINGs. A client sends one every few seconds."""


def answer_pings(stream: Stream, early: bytes) -> None:
    """Answer the PINGs on `stream`, of which `early` was already read. Raises Closed or ProtocolError."""
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
