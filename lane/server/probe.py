"""The server's side of a probe: an answer to each PING, until the client ends the stream.

A client keeps one such stream over each transport while it has sessions. It tells whether the way works,
how long an answer takes, and whether the server is still the same process.
"""

from lane.errors import ProtocolError
from lane.fair import be_fair
from lane.proto.frames import FrameReader, Ping, Pong, pack
from lane.stream import Stream


def answer_pings(stream: Stream, early: bytes) -> None:
    """Answer on `stream`, of which `early` was read already. Raises Closed or ProtocolError."""
    frames = FrameReader()
    data = early or stream.recv()
    while data:
        for frame in frames.feed(data):
            if not isinstance(frame, Ping):
                raise ProtocolError("a probe sends nothing but PING")
            stream.sendall(pack(Pong(frame.value)))
            be_fair()
        data = stream.recv()
    stream.close()
