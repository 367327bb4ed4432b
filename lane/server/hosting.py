"""Making sessions live at their services: new ones, and those that come from another process.

A session takes places: among all sessions, those of its address and those of its user. It is counted, limited
and shown while it lives. All of that ends with it.
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from lane.address import Address
from lane.errors import LaneError, Status, TargetError
from lane.proto.hello import Request
from lane.server.carriers import Carriers
from lane.server.hosted import Asked, HostedSession, asked_of
from lane.server.live import LiveSession, LiveSessions
from lane.server.resumption import Entry, Resumption
from lane.server.services import Offers, Service
from lane.session.parcel import Parcel
from lane.session.registry import Registry
from lane.session.session import Session
from lane.stream import Carrier
from lane.supervisor import report
from lane.taken import Taken
from lane.tasks import start
from lane.users.traffic import Traffic
from lane.users.users import Users


class Hosting:
    """Hosts sessions at the services of `offers`. For the others see `lane.server.requests`."""

    def __init__(
        self,
        hook: Any,
        offers: Offers,
        registry: Registry,
        resumption: Resumption,
        *,
        traffic: Traffic,
        users: Users,
        live: LiveSessions,
        carriers: Carriers,
    ) -> None:
        self.closing = False
        """Set when no more sessions may begin."""
        self._hook = hook
        self._offers = offers
        self._registry = registry
        self._resumption = resumption
        self._traffic = traffic
        self._users = users
        self._sessions = live
        self._carriers = carriers
        self._names = count(1)

    def count(self, peer: str, user: str) -> Callable[[], None]:
        """Count a session that is not thawed yet. Call what is returned once it does, or ends."""
        held = self._registry.admit(peer, user, known=True)
        self._users.begin(user, known=True)

        def leave() -> None:
            self._users.end(user)
            held.leave()

        return leave

    def thaw(self, parcel: Parcel, entry: Entry) -> HostedSession:
        """Go on with the session in `parcel`. Raises TargetError."""
        state = parcel.state
        with Taken() as taken:
            taken.then(parcel.close)
            asked = asked_of(state)
            offer = self._offers[asked.request.command]
            taken.forget()  # from here on, its service has the descriptors
            taken.then(self._registry.admit(asked.peer, asked.user, known=True).leave)
            self._users.begin(asked.user, known=True)
            taken.then(self._users.end, asked.user)
            frozen, authorize = (state["service"], parcel.descriptors), partial(self._authorize, asked.user)
            service = offer.thaw(frozen, asked.request, asked.user, authorize)
            return self._start(taken, service, asked, entry, state["session"])

    def connect(self, carrier: Carrier, request: Request, user: str, entry: Entry | None) -> HostedSession:
        """A new session with the target, in a greenlet of its own. Raises TargetError."""
        if self.closing:
            raise TargetError(Status.FAILURE, "the server is closing")
        with Taken() as taken:
            taken.then(self._registry.admit(carrier.peer, user).leave)
            self._users.begin(user)
            taken.then(self._users.end, user)
            service = self._offers[request.command](request, user, partial(self._authorize, user))
            closing: bool = self.closing  # closing began meanwhile: nobody would end it
            if service.waits_for_peer and closing:
                service.reset()
                raise TargetError(Status.FAILURE, "the server is closing")
            transport = self._carriers.known(carrier).transport
            return self._start(taken, service, Asked(request, user, carrier.peer, transport), entry)

    def _start(
        self,
        taken: Taken,
        service: Service,
        asked: Asked,
        entry: Entry | None,
        frozen: dict[str, Any] | None = None,
    ) -> HostedSession:
        """Let a session live at `service`, with what it has `taken`. `frozen`: its state, if it goes on."""
        taken.then(service.reset)
        held = self._registry.session(
            asked.request.window,
            service.owner,
            resumable=entry is not None,
            buffer_size=service.buffer_size,
            user=asked.user,
            frozen=frozen,
        )
        taken.then(held.leave)
        session = held.value
        self._traffic.begin(asked.user, session, service.owner)
        taken.then(self._traffic.end, asked.user, session)
        session.protocol.activity.reports = entry is not None
        session.waiting_for_peer = service.waits_for_peer  # from now on, not only from `run` on
        whose = {"user": asked.user, "peer": asked.peer, "transport": asked.transport}
        self._sessions.begin(LiveSession(session, asked.request, owner=service.owner, **whose))
        taken.then(self._sessions.leave, session)
        hosted = HostedSession(service, session, asked, self._hook, str(next(self._names)))
        start(_hold, taken.move(), partial(hosted.run, partial(self._ended, session, entry)))
        return hosted

    def _ended(self, session: Session, entry: Entry | None, error: LaneError | None) -> None:
        if entry:
            refusal = TargetError(Status.GONE, f"the session ended: {error}") if error else None
            self._resumption.ended(entry, refusal, known=session.parted)
        self._sessions.end(session, error)

    def _authorize(self, user: str, target: Address) -> None:
        try:
            allowed = self._hook.lane_authorize(request=target, identity=user)
        except (Exception, SystemExit) as error:
            report("lane_authorize", error)
            raise TargetError(Status.FAILURE, "the server failed to decide whether that is allowed") from None
        if allowed is not True:
            raise TargetError(Status.NOT_ALLOWED, "not allowed")


def _hold(taken: Taken, hosted: Callable[[], None]) -> None:
    with taken:
        hosted()
