"""Answers to the requests of users: PING, PROBE, RESUME, and the commands of the services.

A request arrives on a stream whose user `lane.server.server` has authenticated. The answer is a REPLY. It
refuses with the true reason, or the session follows it, or the answers to PINGs.
"""

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from lane.address import Address
from lane.errors import Closed, LaneError, Status, TargetError
from lane.log import Throttle
from lane.net.user_places import UserPlaces
from lane.proto.hello import ANYONE, EPOCH_SIZE, RESUMABLE, Command, Reply, Request
from lane.server.begun import Begin, always
from lane.server.carriers import Carriers
from lane.server.live import LiveSession, LiveSessions
from lane.server.messages import MessageReader, finish
from lane.server.probe import answer_pings
from lane.server.resumption import NOWHERE, Entry, Resumption
from lane.server.services import Offers, Service
from lane.session.flows import Flows
from lane.session.registry import Registry
from lane.session.session import Session
from lane.stream import Carrier, Stream, measured
from lane.supervisor import report
from lane.tasks import start
from lane.users.traffic import Traffic
from lane.users.users import Users, Visit

_ASKED_BY_CHECK = (Command.CONNECT, Command.RESUME)

log = logging.getLogger("lane.server")

MAX_PROBES = 4096
"""Maximum number of probe streams, over all users: see `lane.net.user_places`."""
REFUSALS_AT_ONCE = 20
"""Refusals of one user that may appear in the log in a burst."""
REFUSALS_PERIOD = 3.0
"""Seconds after which one more refusal of that user may appear."""


class UserStream(NamedTuple):
    """A stream whose user has proven a key. `flows` returns the datagrams of its carrier."""

    carrier: Carrier
    stream: Stream
    reader: MessageReader
    visit: Visit
    flows: Callable[[], Flows | None]

    @property
    def user(self) -> str:
        """The user's name."""
        return self.visit.user


class Requests:
    """Answers the requests of all users. `hook`: pluggy's caller for lane's hooks.

    `epoch` tells servers apart (EPOCH_SIZE bytes); None: a new one. `live` has the sessions, for others to
    see. `carriers` has those that are open.
    """

    def __init__(
        self,
        hook: Any,
        offers: Offers,
        registry: Registry,
        resumption: Resumption,
        *,
        epoch: bytes | None = None,
        begin: Begin = always,
        traffic: Traffic,
        users: Users,
        live: LiveSessions | None = None,
        carriers: Carriers | None = None,
    ) -> None:
        self._hook = hook
        self._traffic = traffic
        self._sessions = LiveSessions() if live is None else live
        self._carriers = Carriers(self._sessions.numbers) if carriers is None else carriers
        self._offers = offers
        self._registry = registry
        self._resumption = resumption
        self._server_epoch = epoch or os.urandom(EPOCH_SIZE)
        self._begin = begin
        self._users = users
        self._probes = UserPlaces(MAX_PROBES, 0, "probes of this user")
        self._refusals = Throttle(REFUSALS_PERIOD, burst=REFUSALS_AT_ONCE)
        self._closing = False
        self._names = count(1)

    def close(self) -> None:
        """Start no more sessions."""
        self._closing = True

    def serve(self, asking: UserStream, request: Request) -> bool:
        """Answer a request. Returns whether another one may follow on the stream. Raises LaneError."""
        try:
            return self._answer(asking, request)
        except TargetError as error:
            stream, user = asking.stream, asking.user
            # `lane check` sends such requests to learn which commands the server knows.
            asked = request.address == NOWHERE and request.command in _ASKED_BY_CHECK
            if not asked and error.status is not Status.COMPLETE:
                self._sessions.numbers.refusals[error.status.name.lower(),] += 1
            missed = None if asked else self._refusals.allows(user)
            level = logging.DEBUG if missed is None else logging.INFO
            more = f" ({missed} more refusals since the last one in the log)" if missed else ""
            log.log(level, "%s: %s refused: %s%s", user, request.address, error, more)
            self._reply(stream, error.status, text=str(error))
            finish(stream)
            return False

    def _answer(self, asking: UserStream, request: Request) -> bool:
        """Carry out a request. Returns whether another one may follow. Raises TargetError for a refusal."""
        carrier, stream, reader, visit, flows = asking
        user = visit.user
        self._users.check(visit)
        known = request.command in (Command.PING, Command.PROBE, Command.RESUME, *self._offers)
        flags = RESUMABLE | (ANYONE if request.command == Command.UDP else 0)
        if request.flags & ~flags or not known:
            raise TargetError(Status.COMMAND_NOT_SUPPORTED, "this server does not know that command")
        if request.command == Command.PING:
            self._reply(stream, Status.OK)
            finish(stream)
            return False
        if request.command == Command.PROBE:
            with self._probes.place(user):
                self._reply(stream, Status.OK)
                answer_pings(stream, reader.rest())
            return False
        entry, session, bound = self._session(carrier, request, user)
        session.detach()  # from here on, data on its previous stream are too late
        if entry:
            self._resumption.carried(entry)
        by = self._carriers.known(carrier)
        self._sessions.carried(session, by.transport, by.number)
        try:
            rest = session.carry(
                stream,
                partial(measured, carrier),
                first=self._message(Status.OK, bound),
                early=reader.rest(),
                resumed=request.generation > 0,
                flows=flows,
            )
        finally:
            self._carriers.take(carrier, session.protocol.liveness.link)
            if entry:
                self._resumption.orphaned(entry)
        reader.put_back(rest or b"")
        return rest is not None

    def _session(
        self, carrier: Carrier, request: Request, user: str
    ) -> tuple[Entry | None, Session, Address]:
        """The requested session, and the address from which its target sees it. Raises TargetError."""
        entry = None
        if request.flags & RESUMABLE:
            key = user, request.session
            if entry := self._resumption.find(key, request.generation):
                session = entry.join(request.generation)
                return entry, session, entry.bound
            if request.command != Command.RESUME:
                if not self._begin(user, request.session, request.generation):
                    raise TargetError(Status.GONE, "another worker of the server may have begun the session")
                entry = self._resumption.begin(key, request.generation)
        if request.command == Command.RESUME:
            raise TargetError(Status.GONE, "there is no such session here")
        try:
            session, bound = self._connected(carrier, request, user, entry)
        except BaseException as error:
            if entry:
                refusal = error if isinstance(error, TargetError) else TargetError(Status.GONE, str(error))
                self._resumption.ended(entry, refusal, known=False)
            raise
        if entry:
            entry.begin(session, bound)
            if entry.generation != request.generation:
                raise TargetError(Status.STALE, "a newer request for this session was here before")
        return entry, session, bound

    def _connected(
        self, carrier: Carrier, request: Request, user: str, entry: Entry | None
    ) -> tuple[Session, Address]:
        """A new session with the target, in a greenlet of its own, and its address. Raises TargetError."""
        if self._closing:
            raise TargetError(Status.FAILURE, "the server is closing")
        with ExitStack() as resources:
            resources.enter_context(self._registry.admit(carrier.peer, user))
            self._users.begin(user)
            resources.callback(self._users.end, user)
            service = self._offers[request.command](request, user, partial(self._authorize, user))
            resources.callback(service.reset)
            if service.waits_for_peer and self._closing:  # closing began meanwhile: nobody would end it
                raise TargetError(Status.FAILURE, "the server is closing")
            session = resources.enter_context(
                self._registry.session(
                    request.window,
                    service.owner,
                    resumable=entry is not None,
                    buffer_size=service.buffer_size,
                    user=user,
                )
            )
            resources.enter_context(self._traffic.session(user, session))
            session.protocol.activity.reports = entry is not None
            session.waiting_for_peer = service.waits_for_peer  # from now on, not only from `run` on
            transport = self._carriers.known(carrier).transport
            whose = {"user": user, "peer": carrier.peer, "transport": transport}
            self._sessions.begin(LiveSession(session, request, owner=service.owner, **whose))
            live = partial(self._live, service, session, request.address, user, entry)
            start(_hold, resources.pop_all(), live)
            return session, service.bound

    def _authorize(self, user: str, target: Address) -> None:
        try:
            allowed = self._hook.lane_authorize(request=target, identity=user)
        except (Exception, SystemExit) as error:
            report("lane_authorize", error)
            raise TargetError(Status.FAILURE, "the server failed to decide whether that is allowed") from None
        if allowed is not True:
            raise TargetError(Status.NOT_ALLOWED, "not allowed")

    def _live(
        self, service: Service, session: Session, address: Address, user: str, entry: Entry | None
    ) -> None:
        """Run one session to its end, and tell observers of its start and end."""
        name = str(next(self._names))
        self._tell(self._hook.lane_session_started, session=name, target=address, identity=user)
        error: LaneError | None = Closed("the server ended it")
        try:
            error = service.run(session)
        finally:
            if entry:
                refusal = TargetError(Status.GONE, f"the session ended: {error}") if error else None
                self._resumption.ended(entry, refusal, known=session.parted)
            log.debug("%s: %s ended: %s", user, address, error or "in good order")
            self._sessions.end(session, error)
            self._tell(
                self._hook.lane_session_ended,
                session=name,
                sent=session.receive_window.received,
                received=session.send_buffer.sent,
                error=str(error) if error else None,
            )

    def _tell(self, hook: Callable[..., Any], **what: Any) -> None:
        """Call observers. An exception in one of them does not affect the session."""
        try:
            hook(**what)
        except Exception as error:
            report("a hook that observes sessions", error)

    def _reply(self, stream: Stream, status: Status, text: str = "") -> None:
        stream.sendall(self._message(status, NOWHERE, text))

    def _message(self, status: Status, bound: Address, text: str = "") -> bytes:
        return Reply(status, self._server_epoch, self._registry.window, bound, text).pack()


def _hold(resources: ExitStack, live: Callable[[], None]) -> None:
    with resources:
        live()
