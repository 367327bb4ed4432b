"""The services at the far end of a session: one for each command that starts a session.

The server knows carriers, users and sessions. A service knows one kind of target. To add a kind, add a class
and an entry in `offers`.
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
    """One session's target. `run` is called at most once, and `reset` always at the end."""

    @property
    def buffer_size(self) -> int | None:
        """The maximum window of the session in bytes; None: the same as for other sessions."""

    @property
    def owner(self) -> Owner:
        """The owner of its session."""

    @property
    def waits_for_peer(self) -> bool:
        """Whether its session starts with a wait that may be long. A closing server resets the session."""

    @property
    def bound(self) -> Address:
        """The address for the REPLY: from which the target sees the server, or to which it may connect."""

    def run(self, session: Session) -> LaneError | None:
        """Serve until both sides have ended. Returns the error, or None after a clean end."""

    def reset(self) -> None:
        """Release everything. Idempotent, and without effect after a clean end."""


Authorize = Callable[[Address], None]
"""Checks that the user may reach a target. Raises TargetError (NOT_ALLOWED)."""
Offer = Callable[[Request, str, Authorize], Service]
"""Starts the service for a request; the second argument is the user. Raises TargetError."""
Offers = Mapping[int, Offer]
"""The offer for each command."""


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
    """Packets to and from any address. It calls `release` when it ends."""

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
    """The UDP associations of all users, at most `most` for each user. `make_egress` makes their sockets."""

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
    """Tells `port` when a client carries the session again, since a peer may have connected meanwhile."""

    def __init__(self, port: ListeningPort) -> None:
        super().__init__()
        self._port = port

    def carrier_changed(self, flows: Callable[[], Flows | None]) -> None:
        """See `Owner`."""
        self._port.poke()


class AcceptService:
    """A TCP connection that a peer makes to `port`. The session's data begin with the peer's address.

    If no connection comes, the session is reset, and the code of the reset is the reason.
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
    """The services that a server offers. `connect` connects to a target for a user, or raises TargetError."""

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
