"""The services at the far end of a session: one for each command that starts a session.

The server knows carriers, users and sessions. A service knows one kind of target. To add a kind, add a class
and an entry in `offers`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from socket import socket as Socket  # noqa: N812  (the name of the type)
from typing import Any, Protocol

from lane import census
from lane.address import Address
from lane.egress.listening import Ports
from lane.egress.listening_port import ListeningPort
from lane.egress.udp import UdpEgress
from lane.errors import LaneError, Status, TargetError
from lane.proto.hello import ANYONE, NOWHERE, Command, Request
from lane.proto.udp import FLOW_SIZE
from lane.server.measuring import Measurements
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
        """Serve until both sides have ended. Returns the error, or None after a clean end.

        Raises Suspended after `suspend`.
        """

    def suspend(self) -> None:
        """Have `run`, which has begun, raise Suspended. The session is suspended with it."""

    def freeze(self) -> tuple[dict[str, Any], list[int]]:
        """What `Offer.thaw` needs once `run` has raised Suspended.

        This is a plain value, and descriptors, which are the caller's now.
        """

    def reset(self) -> None:
        """Release everything. Idempotent, and without effect after a clean end."""


Authorize = Callable[[Address], None]
"""Checks that the user may reach a target. Raises TargetError (NOT_ALLOWED)."""
Frozen = tuple[dict[str, Any], list[int]]
"""A service that is to go on in this process: see `Service.freeze`."""


class Offer(Protocol):
    """Makes the services for one command."""

    def __call__(self, request: Request, user: str, authorize: Authorize) -> Service:
        """Start the service for a request. Raises TargetError."""

    def thaw(self, frozen: Frozen, request: Request, user: str, authorize: Authorize) -> Service:
        """The service that goes on here. It takes over the descriptors, also if this raises TargetError."""


Offers = Mapping[int, Offer]
"""The offer for each command."""


class ConnectService:
    """A TCP connection to the target, which may have ended: then `target` is None, and `frozen` says so."""

    buffer_size = None
    waits_for_peer = False

    def __init__(
        self, target: SocketStream | None, bound: Address, frozen: dict[str, Any] | None = None
    ) -> None:
        self.bound = bound
        self.owner = Relay(frozen)
        self._target = target

    def run(self, session: Session) -> LaneError | None:
        """See `Service`."""
        return self.owner.run(self._target, session)

    def suspend(self) -> None:
        """See `Service`."""
        if self._target is not None:
            self._target.suspend()
        self.owner.suspend()

    def freeze(self) -> Frozen:
        """See `Service`."""
        return _freeze(self, self._target)

    def reset(self) -> None:
        """See `Service`."""
        if self._target is not None:
            self._target.reset()


class Connects:
    """The `Offer` of connections to targets. `connect` connects for a user, or raises TargetError."""

    def __init__(self, connect: Callable[[Address, str], Socket]) -> None:
        self._connect = connect

    def __call__(self, request: Request, user: str, authorize: Authorize) -> Service:
        """See `Offer`."""
        authorize(request.address)
        sock = self._connect(request.address, user)
        bound = Address(*sock.getsockname()[:2])
        return ConnectService(SocketStream(sock), bound)

    def thaw(self, frozen: Frozen, request: Request, user: str, authorize: Authorize) -> Service:
        """See `Offer`."""
        return _thaw(frozen)


class _Relayed(Protocol):
    """A service whose session is relayed."""

    owner: Relay
    bound: Address


def _freeze(service: _Relayed, target: SocketStream | None) -> Frozen:
    """A relay and its target, as a plain value and at most one descriptor."""
    state, descriptor = target.freeze() if target is not None else ({}, None)
    whole = {"relay": service.owner.freeze(), "target": state, "bound": [*service.bound]}
    return whole, [] if descriptor is None else [descriptor]


def _thaw(frozen: Frozen) -> ConnectService:
    """The service that goes on with a relay and its target."""
    state, descriptors = frozen
    target = SocketStream.thaw(state["target"], descriptors[0]) if descriptors else None
    return ConnectService(target, Address(*state["bound"]), state["relay"])


class UdpService:
    """Packets to and from any address. It calls `release` when it ends."""

    buffer_size = WINDOW
    waits_for_peer = False
    bound = NOWHERE

    def __init__(
        self,
        egress: UdpEgress,
        flow: bytes,
        release: Callable[[], None],
        frozen: dict[str, Any] | None = None,
    ) -> None:
        self.owner = Packets(flow, egress.send, frozen)
        self.owner.peer_ready = True
        self._egress = egress
        self._release: Callable[[], None] | None = release

    def run(self, session: Session) -> LaneError | None:
        """See `Service`."""
        packets, self._session = self.owner, session
        packets.begin(session)
        self._egress.deliver = packets.send
        error = packets.run()
        self._egress.close()
        if error is None:
            packets.finish()
            session.close()
        return error or session.error

    def suspend(self) -> None:
        """See `Service`."""
        self._session.suspend()

    def freeze(self) -> Frozen:
        """See `Service`."""
        state, descriptors = self._egress.freeze()
        return {"egress": state, "packets": self.owner.freeze()}, descriptors

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
        """See `Offer`."""
        if self._users[user] >= self._most:
            raise TargetError(Status.FAILURE, "too many UDP associations at once")
        return self._serve(request, user, authorize)

    def thaw(self, frozen: Frozen, request: Request, user: str, authorize: Authorize) -> Service:
        """See `Offer`. It had its place in another process, so it has one here."""
        state, descriptors = frozen
        return self._serve(request, user, authorize, (state["egress"], descriptors), state["packets"])

    def _serve(
        self,
        request: Request,
        user: str,
        authorize: Authorize,
        egress: Frozen | None = None,
        packets: dict[str, Any] | None = None,
    ) -> Service:
        self._users[user] += 1
        made = self._make_egress(authorize, user=user, anyone=bool(request.flags & ANYONE), frozen=egress)
        return UdpService(made, request.session[:FLOW_SIZE], partial(self._release, user), packets)

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
        self.owner: Relay = _PortRelay(port)
        self._port = port
        self._target: SocketStream | None = None

    def run(self, session: Session) -> LaneError | None:
        """See `Service`."""
        port, self._session = self._port, session
        session.when_over(port.close)
        try:
            sock, peer = port.accept(lambda: session.carried)
        except LaneError as error:
            session.reset(error.status if isinstance(error, TargetError) else 0)
            return error
        self._target = SocketStream(sock)
        session.waiting_for_peer = False
        return self.owner.run(self._target, session, peer.pack())

    def suspend(self) -> None:
        """See `Service`."""
        if self._target is None:
            self._port.suspend()
            self._session.suspend()
        else:
            self._target.suspend()
            self.owner.suspend()

    def freeze(self) -> Frozen:
        """See `Service`."""
        return self._port.freeze() if self._target is None else _freeze(self, self._target)

    def reset(self) -> None:
        """See `Service`."""
        self._port.close()
        if self._target is not None:
            self._target.reset()


class Accepts:
    """The `Offer` of connections from peers. `at` opens the port for a user, or raises TargetError."""

    def __init__(self, ports: Ports, at: Callable[[Address, str], ListeningPort]) -> None:
        self._ports = ports
        self._at = at

    def __call__(self, request: Request, user: str, authorize: Authorize) -> Service:
        """See `Offer`."""
        authorize(request.address)
        return AcceptService(self._at(request.address, user))

    def thaw(self, frozen: Frozen, request: Request, user: str, authorize: Authorize) -> Service:
        """See `Offer`."""
        state, descriptors = frozen
        if "relay" in state:  # the connection has come
            return _thaw(frozen)
        return AcceptService(self._ports.thaw(state, descriptors, user))


def offers(
    connect: Callable[[Address, str], Socket],
    associate: Offer | None = None,
    ports: Ports | None = None,
    measurements: Offer | None = None,
) -> Offers:
    """The services that a server offers. `connect` connects to a target for a user, or raises TargetError."""
    found: dict[int, Offer] = {
        Command.CONNECT: Connects(connect),
        Command.MEASURE: measurements or Measurements(),
    }
    if associate is not None:
        found[Command.UDP] = associate
    if ports is not None:
        found[Command.BIND] = Accepts(ports, ports.expect)
        found[Command.REVERSE] = Accepts(ports, ports.park)
    return found
