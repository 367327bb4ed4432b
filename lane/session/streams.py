"""A session as a `lane.stream.Stream`, for callers that talk to the target without the relay."""

from lane.session.session import Session
from lane.session.stream_reader import READ_SIZE


class SessionStream:
    """The stream of one session. The caller that made the session releases it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.sendall = session.sendall
        self.finish = session.finish
        self.reset = session.reset
        self.close = session.close

    def recv(self, limit: int = READ_SIZE) -> bytes:
        """See `lane.stream.Stream`: a copy, because the session reuses its buffers."""
        return bytes(self._session.recv(limit))
