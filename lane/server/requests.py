"""Answers to the requests of users: PING, PROBE, RESUME, and the commands of the services.

A request arrives on a stream whose user `lane.server.server` has authenticated. The answer is a REPLY. It
refuses with the true reason, or the session follows it, or the answers to PINGs.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

from lane.address import Address
from lane.errors import Closed, Status, TargetError
from lane.log import Throttle
from lane.net.user_places import UserPlaces
from lane.proto.hello import ANYONE, EPOCH_SIZE, NOWHERE, RESUMABLE, Command, Reply, Request
from lane.server.begun import LEAST_TIME, Begin, always
from lane.server.carriers import Carriers
from lane.server.hosted import HostedSession
from lane.server.hosting import Hosting
from lane.server.live import LiveSessions
from lane.server.messages import MessageReader, finish
from lane.server.passage import Passage
from lane.server.probe import answer_pings
from lane.server.resumption import Entry, Key, Resumption
from lane.server.services import Offers
from lane.session.flows import Flows
from lane.session.registry import Registry
from lane.session.session import Session
from lane.stream import Carrier, Stream, measured
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


def _ignore() -> None:
    """Do nothing."""


class Requests(Passage):
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
        self._sessions = LiveSessions() if live is None else live
        self._carriers = Carriers(self._sessions.numbers) if carriers is None else carriers
        self._offers = offers
        self._registry = registry
        self._server_epoch = epoch or os.urandom(EPOCH_SIZE)
        self._begin = begin
        self._users = users
        hosting = Hosting(
            hook, offers, registry, resumption,
            traffic=traffic, users=users, live=self._sessions, carriers=self._carriers,
        )  # fmt: skip
        super().__init__(hosting, resumption)
        self.tell_lost: Callable[[], None] = _ignore
        """Tells the other workers that a process has died: see `lose_sight`."""
        self._probes = UserPlaces(MAX_PROBES, 0, "probes of this user")
        self._refusals = Throttle(REFUSALS_PERIOD, burst=REFUSALS_AT_ONCE)
        self._blind_until = 0.0
        self.carrying: Counter[Carrier] = Counter()
        """The sessions on each carrier, those that are about to begin included."""

    def lose_sight(self, seconds: float = LEAST_TIME) -> None:
        """Begin no session again for some time: a process of the server has died that may have begun it."""
        self._blind_until = max(self._blind_until, monotonic() + seconds)
        if seconds:
            self.tell_lost()

    def close(self) -> None:
        """Start no more sessions, and end those that are frozen: their clients can't come any more."""
        self._hosting.closing = True
        self._resumption.frozen.close()

    def client_of(self, session: Session) -> tuple[str, bytes, str]:
        """Whose carriers the session is on: the user, the device and the transport."""
        for live in self._sessions.of([session]):
            return live.user, live.client, live.transport
        return session.user, b"", ""

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
        carrier, stream, reader, visit, _ = asking
        if self._left:  # no answer is better than a wrong one: the client asks the next process
            raise Closed("the server goes on in another process")
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
        self.carrying[carrier] += 1
        try:
            return self._carry(asking, request)
        finally:
            self.carrying[carrier] -= 1
            if not self.carrying[carrier]:
                del self.carrying[carrier]

    def _carry(self, asking: UserStream, request: Request) -> bool:
        """Carry the requested session on the stream."""
        carrier, stream, reader, visit, flows = asking
        entry, hosted = self._session(carrier, request, visit.user)
        session = hosted.session
        session.detach()  # from here on, data on its previous stream are too late
        if entry:
            self._resumption.carried(entry)
        by = self._carriers.known(carrier)
        self._sessions.carried(session, by.transport, by.number, visit.device)
        try:
            rest = session.carry(
                stream,
                partial(measured, carrier),
                first=self._message(Status.OK, hosted.bound),
                early=reader.rest(),
                resumed=request.generation > 0,
                flows=flows,
            )
        finally:
            self._carriers.take(by, session.protocol.liveness.link)
            if entry:
                self._resumption.orphaned(entry)
        reader.put_back(rest or b"")
        return rest is not None

    def _session(self, carrier: Carrier, request: Request, user: str) -> tuple[Entry | None, HostedSession]:
        """The requested session. Raises TargetError."""
        entry = None
        if request.flags & RESUMABLE:
            key = user, request.session
            if (entry := self._find(key, request)) is not None:
                return entry, entry.join(request.generation)
            if request.command != Command.RESUME:
                blind = request.generation and monotonic() < self._blind_until
                if blind or not self._begin(user, request.session, request.generation):
                    raise TargetError(Status.GONE, "another worker of the server may have begun the session")
                entry = self._resumption.begin(key, request.generation)
        if request.command == Command.RESUME:
            raise TargetError(Status.GONE, "there is no such session here")
        try:
            hosted = self._hosting.connect(carrier, request, user, entry)
        except BaseException as error:
            if entry:
                self._resumption.ended(entry, _refusal(error), known=False)
            raise
        if entry:
            entry.begin(hosted)
            if self._left:  # meanwhile: the next process does not know of it, and may begin it
                raise Closed("the server goes on in another process")
            if entry.generation != request.generation:
                raise TargetError(Status.STALE, "a newer request for this session was here before")
        return entry, hosted

    def _find(self, key: Key, request: Request) -> Entry | None:
        """The entry of a session that was begun, here or in another process. Raises TargetError."""
        entry = self._resumption.find(key, request.generation)
        if key in self._sending or (self._leaving and entry is None and request.generation):
            raise Closed("the session is in another process")  # the client asks again, and comes there
        if entry is None and key in self._resumption.frozen:
            self._thaw(key)
            entry = self._resumption.find(key, request.generation)
        if entry is not None or not request.generation:
            return entry
        entry = self._resumption.begin(key, request.generation)  # others who ask for it wait
        self._asking[key] = None
        try:
            parcel = self.elsewhere(key, request.generation)
            if parcel is not None:
                entry.begin(self._hosting.thaw(parcel, entry))
                return entry
            self._resumption.forget(entry, TargetError(Status.GONE, "there is no such session here"))
        except BaseException as error:
            arrived = self._asking[key] is not None
            if arrived or _refusal(error).status is Status.TTL_EXPIRED:  # the client asks again
                self._resumption.forget(entry, _refusal(error))
            else:
                self._resumption.ended(entry, _refusal(error), known=False)
            if not arrived or not isinstance(error, TargetError):
                raise
        finally:
            if (late := self._asking.pop(key)) is not None:
                self.adopt(late)
        return self._resumption.find(key, request.generation)

    def _reply(self, stream: Stream, status: Status, text: str = "") -> None:
        stream.sendall(self._message(status, NOWHERE, text))

    def _message(self, status: Status, bound: Address, text: str = "") -> bytes:
        return Reply(status, self._server_epoch, self._registry.window, bound, text).pack()


def _refusal(error: BaseException) -> TargetError:
    """`error` as a refusal. Whoever raises one must not name it: its traceback refers to his frame."""
    return error if isinstance(error, TargetError) else TargetError(Status.GONE, str(error))
