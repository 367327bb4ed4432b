"""The sessions that a server has now: whose they are, where they lead, and what they have moved.

Nothing is counted per frame or packet here. Whoever wants to know reads what the sessions count anyway.
"""

from collections.abc import Callable, Iterator
from time import monotonic, time

from lane.address import Address
from lane.errors import LaneError
from lane.proto.hello import Command, Request
from lane.session.session import Session

KINDS: dict[int, str] = {
    Command.CONNECT: "tcp",
    Command.UDP: "udp",
    Command.BIND: "bind",
    Command.REVERSE: "reverse",
}
"""What a session is, by the command that began it: a connection to a target, packets, or a port here."""


class LiveSession:
    """One session. Bytes `up` come from the client, bytes `down` go to it."""

    __slots__ = ("began", "kind", "peer", "session", "since", "target", "transport", "user")

    def __init__(self, session: Session, user: str, peer: str, transport: str, request: Request) -> None:
        self.session = session
        self.user = user
        self.peer = peer
        """The client's address: see `lane.stream.Carrier`."""
        self.transport = transport
        """What carries it, or carried it last."""
        self.kind = KINDS.get(request.command, str(request.command))
        self.target: Address | None = None if request.command == Command.UDP else request.address
        """None for packets, each of which has its own."""
        self.since = time()
        """When it began, in seconds since the epoch."""
        self.began = monotonic()

    @property
    def seconds(self) -> float:
        """Its age."""
        return monotonic() - self.began

    @property
    def up(self) -> int:
        """Bytes from the client."""
        return self.session.receive_window.received + self.session.protocol.activity.datagrams_in

    @property
    def down(self) -> int:
        """Bytes to the client."""
        return self.session.send_buffer.sent + self.session.protocol.activity.datagrams_out


Ended = Callable[[LiveSession, LaneError | None], None]
"""Called at the end of a session, with the error that ended it unless the end was clean."""


class LiveSessions:
    """All sessions of a server. `ended` is told of each end; it must not block."""

    def __init__(self, ended: Ended = lambda live, error: None) -> None:
        self._ended = ended
        self._sessions: dict[Session, LiveSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter([*self._sessions.values()])

    def begin(self, live: LiveSession) -> None:
        """Add a session."""
        self._sessions[live.session] = live

    def carried(self, session: Session, transport: str) -> None:
        """Note that a carrier of `transport` takes the session."""
        if transport and (live := self._sessions.get(session)) is not None:
            live.transport = transport

    def end(self, session: Session, error: LaneError | None) -> None:
        """Remove a session that has ended."""
        if (live := self._sessions.pop(session, None)) is not None:
            self._ended(live, error)
