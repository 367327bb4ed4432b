"""What the server does at the far end of a session: one service for each command that begins one.

The server knows carriers, users and sessions; a service knows one kind of target. A further kind is one
more class, and one more entry in what the server offers.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from gevent.socket import socket as Socket  # noqa: N812  (the name of the type)

from lane import census
from lane.address import Address
from lane.egress.listening import ListeningPort, Ports
from lane.egress.udp import UdpEgress
from lane.errors import LaneError, Status, TargetError
from lane.proto.hello import ANYONE, Command, Request
from lane.proto.udp import FLOW_SIZE
from lane.session.flows import Flows
from lane.session.owner import Owner
from lane.session.packets import WINDOW, Packets
from lane.session.relay import Relay
from lane.session.session import Session
from lane.session.sockets import SocketStream


class Service(Protocol):
    """One session's target. `run` is called at most once, and `reset` at the end in any case."""

    @property
    def buffer_size(self) -> int | None:
        """The most that a window of the session grows to; None: as much as any."""

    @property
    def owner(self) -> Owner:
        """The owner of its session."""

    @property
    def waits_for_peer(self) -> bool:
        """Whether its session begins by waiting for what may take long: a server that ends resets it."""

    @property
    def bound(self) -> Address:
        """For the REPLY: where the target sees the server from, or may reach it."""

    def run(self, session: Session) -> LaneError | None:
        """Serve until both sides have ended: None, or the error that it ended with."""

    def reset(self) -> None:
        """Let go of everything. Idempotent, and nothing at all after a clean end."""


Authorize = Callable[[Address], None]
"""Whether the user may reach a target. Raises TargetError (NOT_ALLOWED)."""
Offer = Callable[[Request, str, Authorize], Service]
"""Begins the service that a user's request asks for. Raises TargetError."""
Offers = Mapping[int, Offer]
"""From the command of a request."""


class ConnectService:
    """A TCP connection to the target."""

    buffer_size = None
    waits_for_peer = False

    def __init__(self, sock: Socket) -> None:
        self.bound = Address(*sock.getsockname()[:2])
        self.owner = Relay()
        self._target = SocketStream(sock)

    def run(self, session: Session) -> LaneError | None:
        """See `Service`."""
        return self.owner.run(self._target, session)

    def reset(self) -> None:
        """See `Service`."""
        self._target.reset()


class UdpService:
    """Packets to and from anywhere; `release` is called when it ends."""

    buffer_size = WINDOW
    waits_for_peer = False
    bound = Address("0.0.0.0", 0)

    def __init__(self, egress: UdpEgress, flow: bytes, release: Callable[[], None]) -> None:
        self.owner = Packets(flow, egress.send)
        self.owner.peer_ready = True
        self._egress = egress
        self._release: Callable[[], None] | None = release

    def run(self, session: Session) -> LaneError | None:
        """See `Service`."""
        packets = self.owner
        packets.begin(session)
        self._egress.deliver = packets.send
        error = packets.run()
        self._egress.close()
        if error is None:
            packets.finish()
            session.close()
        return error or session.error

    def reset(self) -> None:
        """See `Service`."""
        self._egress.close()
        release, self._release = self._release, None
        if release:
            release()


class Associations:
    """The UDP associations of all users: at most `most` of one user. `make_egress` makes their sockets."""

    def __init__(self, make_egress: Callable[..., UdpEgress], most: int) -> None:
        self._make_egress = make_egress
        self._most = most
        self._users: Counter[str] = Counter()
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"associations": len(self)}

    def __len__(self) -> int:
        return self._users.total()

    def __call__(self, request: Request, user: str, authorize: Authorize) -> Service:
        """An `Offer`."""
        if self._users[user] >= self._most:
            raise TargetError(Status.FAILURE, "too many UDP associations at once")
        self._users[user] += 1
        egress = self._make_egress(authorize, user=user, anyone=bool(request.flags & ANYONE))
        return UdpService(egress, request.session[:FLOW_SIZE], partial(self._release, user))

    def _release(self, user: str) -> None:
        self._users[user] -= 1
        if not self._users[user]:
            del self._users[user]


class _PortRelay(Relay):
    """Has `port` notice when there is a client again for whoever has connected meanwhile."""

    def __init__(self, port: ListeningPort) -> None:
        super().__init__()
        self._port = port

    def carrier_changed(self, flows: Callable[[], Flows | None]) -> None:
        """See `Owner`."""
        self._port.poke()


class AcceptService:
    """A TCP connection that somebody makes to `port`: the first bytes of the session's data say who did.

    What keeps it from coming is the code with which the session is reset.
    """

    buffer_size = None
    waits_for_peer = True

    def __init__(self, port: ListeningPort) -> None:
        self.bound = port.bound
        self.owner = _PortRelay(port)
        self._port = port
        self._target: SocketStream | None = None

    def run(self, session: Session) -> LaneError | None:
        """See `Service`."""
        port = self._port
        session.when_over(port.close)
        try:
            sock, peer = port.accept(lambda: session.carried)
            self._target = SocketStream(sock)
            session.waiting_for_peer = False
            session.sendall(peer.pack())
        except LaneError as error:
            session.reset(error.status if isinstance(error, TargetError) else 0)
            return error
        return self.owner.run(self._target, session)

    def reset(self) -> None:
        """See `Service`."""
        self._port.close()
        if self._target is not None:
            self._target.reset()


def offers(
    connect: Callable[[Address, str], Socket], associate: Offer | None = None, ports: Ports | None = None
) -> Offers:
    """What a server has to offer. `connect` reaches a target for a user, or raises TargetError."""

    def to_target(request: Request, user: str, authorize: Authorize) -> Service:
        authorize(request.address)
        return ConnectService(connect(request.address, user))

    found: dict[int, Offer] = {Command.CONNECT: to_target}
    if associate is not None:
        found[Command.UDP] = associate
    if ports is not None:
        found |= {Command.BIND: partial(_arrive, ports.expect), Command.REVERSE: partial(_arrive, ports.park)}
    return found


def _arrive(
    at: Callable[[Address, str], ListeningPort], request: Request, user: str, authorize: Authorize
) -> Service:
    authorize(request.address)
    return AcceptService(at(request.address, user))
