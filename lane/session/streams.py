"""A session as a `lane.stream.Stream`, for who speaks with the target himself and not through the relay."""

from lane.session.session import READ_SIZE, Session


class SessionStream:
    """The stream of one session, which it does not own: whoever made that lets go of it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.sendall = session.sendall
        self.finish = session.finish
        self.reset = session.reset
        self.close = session.close

    def recv(self, limit: int = READ_SIZE) -> bytes:
        """See `lane.stream.Stream`: a copy, since the session's own buffers are used again."""
        return bytes(self._session.recv(limit))
