"""The sessions that a server has now: whose they are, where they lead, and what they have moved.

Nothing is counted per frame or packet here. Whoever wants to know reads what the sessions count anyway.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from time import monotonic, time

from lane.address import Address
from lane.errors import LaneError
from lane.fair import Walk
from lane.proto.hello import Command, Request
from lane.server.numbers import KINDS, Numbers
from lane.session.packets import Packets
from lane.session.session import Session


class LiveSession:
    """One session. Bytes `up` come from the client, bytes `down` go to it."""

    __slots__ = (
        "_settled", "_settled_packets", "began", "client", "connection", "kind", "moves", "number", "packets",
        "peer", "session", "target", "transport", "user",
    )  # fmt: skip

    def __init__(
        self, session: Session, request: Request, *, user: str, peer: str, transport: str, owner: object
    ) -> None:
        self.session = session
        self.user = user
        self.peer = peer
        """The client's address: see `lane.stream.Carrier`."""
        self.transport = transport
        """What carries it, or carried it last."""
        self.connection = 0
        """The number of the carrier."""
        self.client = b""
        """The device to which the carrier leads."""
        self.number = 0
        """Its own number."""
        self.moves = -1
        """How often it went on over another carrier; -1 until the first one carries it."""
        self.kind = KINDS.get(request.command, str(request.command))
        self.target: Address | None = None if request.command == Command.UDP else request.address
        """None for packets, each of which has its own."""
        self.packets = owner if isinstance(owner, Packets) else None
        self.began = monotonic()
        self._settled = session.moved_elsewhere
        self._settled_packets = (0, 0, 0)

    @property
    def seconds(self) -> float:
        """Its age."""
        return monotonic() - self.began

    @property
    def since(self) -> float:
        """When it began, in seconds since the epoch."""
        return time() - self.seconds

    @property
    def up(self) -> int:
        """Bytes from the client."""
        return self.session.moved[0]

    @property
    def down(self) -> int:
        """Bytes to the client."""
        return self.session.moved[1]

    def settle(self, numbers: Numbers) -> None:
        """Count what it has moved since the last call."""
        way, (was_up, was_down) = self.transport, self._settled
        up, down = self._settled = self.session.moved
        if up != was_up:
            numbers.bytes[way, "up"] += up - was_up
        if down != was_down:
            numbers.bytes[way, "down"] += down - was_down
        if (packets := self.packets) is None:
            return
        was, counted = self._settled_packets, (packets.received, packets.sent, packets.dropped)
        self._settled_packets = counted
        numbers.packets["up",] += counted[0] - was[0]
        numbers.packets["down",] += counted[1] - was[1]
        numbers.dropped_packets[()] += counted[2] - was[2]


Ended = Callable[[LiveSession, LaneError | None], None]
"""Called at the end of a session, with the error that ended it unless the end was clean."""


class LiveSessions:
    """All sessions of a server. `ended` is told of each end; it must not block."""

    def __init__(self, ended: Ended = lambda live, error: None) -> None:
        self.numbers = Numbers()
        """What the server counts: see `settle`."""
        self._ended = ended
        self._sessions: dict[Session, LiveSession] = {}
        self._counting = count(1)

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter([*self._sessions.values()])

    def of(self, sessions: Iterable[Session]) -> list[LiveSession]:
        """Those of `sessions` that are here."""
        return [live for session in sessions if (live := self._sessions.get(session)) is not None]

    def newest(self) -> Iterator[LiveSession]:
        """All sessions, the newest first. None may begin or end meanwhile."""
        return reversed(self._sessions.values())

    def settle(self, some: Iterable[LiveSession] | None = None) -> None:
        """Bring `numbers` up to date, for `some` or all. Other greenlets may run meanwhile."""
        walk = Walk()
        for live in self if some is None else some:
            walk.step()
            if live.session in self._sessions:
                live.settle(self.numbers)

    def begin(self, live: LiveSession) -> None:
        """Add a session."""
        live.number = next(self._counting)
        self._sessions[live.session] = live
        self.numbers.begun[live.kind,] += 1

    def carried(self, session: Session, transport: str, connection: int = 0, client: bytes = b"") -> None:
        """Note that a carrier of `transport`, which has the number `connection`, takes the session.

        It leads to the device `client`.
        """
        if (live := self._sessions.get(session)) is None:
            return
        live.moves += 1
        live.connection, live.client = connection, client
        if live.moves:
            live.settle(self.numbers)
            self.numbers.moves[live.transport, transport] += 1
            live.transport = transport

    def leave(self, session: Session) -> None:
        """Remove a session that goes on in another process, unless it has ended."""
        if (live := self._sessions.pop(session, None)) is not None:
            live.settle(self.numbers)

    def end(self, session: Session, error: LaneError | None) -> None:
        """Remove a session that has ended."""
        if (live := self._sessions.pop(session, None)) is not None:
            live.settle(self.numbers)
            self.numbers.ended["broken" if error else "clean",] += 1
            self._ended(live, error)
