"""Answers to the requests of users: PING, PROBE, RESUME, and the commands of the services.

A request arrives on a stream whose user `lane.server.server` has authenticated. The answer is a REPLY. It
refuses with the true reason, or the session follows it, or the answers to PINGs.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
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
from lane.server.probe import answer_pings
from lane.server.resumption import Entry, Key, Resumption
from lane.server.services import Offers
from lane.session.flows import Flows
from lane.session.parcel import Elsewhere, Parcel
from lane.session.registry import Registry
from lane.stream import Carrier, Stream, measured
from lane.supervisor import report
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
        self._sessions = LiveSessions() if live is None else live
        self._carriers = Carriers(self._sessions.numbers) if carriers is None else carriers
        self._offers = offers
        self._registry = registry
        self._resumption = resumption
        self._server_epoch = epoch or os.urandom(EPOCH_SIZE)
        self._begin = begin
        self._users = users
        self._hosting = Hosting(
            hook, offers, registry, resumption,
            traffic=traffic, users=users, live=self._sessions, carriers=self._carriers,
        )  # fmt: skip
        self.elsewhere: Callable[[Key, int], Parcel | None] = lambda key, generation: None
        """Takes a session from another process that knows it: see `hand_over` there."""
        self._asking: dict[Key, Parcel | None] = {}
        """The sessions that others are being asked for, and those of them that `adopt` got meanwhile."""
        self.tell_lost: Callable[[], None] = _ignore
        """Tells the other workers that a process has died: see `lose_sight`."""
        self._probes = UserPlaces(MAX_PROBES, 0, "probes of this user")
        self._refusals = Throttle(REFUSALS_PERIOD, burst=REFUSALS_AT_ONCE)
        self._left = False
        self._blind_until = 0.0
        self.carrying: Counter[Carrier] = Counter()
        """The sessions on each carrier, those that are about to begin included."""

    def stay(self) -> None:
        """Answer requests again: the process that was to go on with the sessions has died."""
        self._left = False

    def lose_sight(self, seconds: float = LEAST_TIME) -> None:
        """Begin no session again for some time: a process of the server has died that may have begun it."""
        self._blind_until = max(self._blind_until, monotonic() + seconds)
        if seconds:
            self.tell_lost()

    def close(self) -> None:
        """Start no more sessions."""
        self._hosting.closing = True

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
        self._sessions.carried(session, by.transport, by.number)
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
                refusal = error if isinstance(error, TargetError) else TargetError(Status.GONE, str(error))
                self._resumption.ended(entry, refusal, known=False)
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
            refusal = error if isinstance(error, TargetError) else TargetError(Status.GONE, str(error))
            arrived = self._asking[key] is not None
            if arrived or refusal.status is Status.TTL_EXPIRED:  # the client asks again
                self._resumption.forget(entry, refusal)
            else:
                self._resumption.ended(entry, refusal, known=False)
            if refusal is not error or not arrived:
                raise
        finally:
            if (late := self._asking.pop(key)) is not None:
                self.adopt(late)
        return self._resumption.find(key, request.generation)

    def hand_over(self, key: Key, generation: int) -> Parcel | None:
        """Stop a session here, so that another process goes on with it from this generation on.

        None if it is not known here, and then it is not begun here any more. Raises TargetError if it has
        ended, and Elsewhere if it went to yet another process.
        """
        known = self._resumption.get(key)
        if known is not None and known.leaves:
            raise Elsewhere
        entry = self._resumption.find(key, generation, again=True)
        if entry is None:
            was_here = self._resumption.was_here(key)
            self._resumption.moved(key, generation)
            if was_here:
                raise Elsewhere
            return None
        parcel = self._stop(entry, generation)
        self._resumption.moved(key, generation)
        return parcel

    def _stop(self, entry: Entry, generation: int) -> Parcel:
        """Stop a session for another process. Raises TargetError if it has ended."""
        hosted = entry.join(generation)
        try:
            return hosted.stop()
        except TargetError as error:
            if entry.verdict is None:
                self._resumption.ended(entry, error, known=False)
            verdict, text = entry.verdict or error.status, entry.text  # it may have ended in good order
            raise TargetError(verdict, text) from None

    def hand_over_all(self) -> Iterator[Parcel]:
        """Stop all sessions that can be resumed, so that another process goes on with them.

        Those that have ended go along, since their clients may not know. A session that has not reached its
        target yet stays, and no data reach its target here. No request is answered from then on.
        """
        self._left = True
        for entry in self._resumption.entries:
            if self._resumption.get(entry.key) is not entry or entry.leaves:
                continue  # since the last one was stopped, the other process has asked for it
            if entry.verdict is None and entry.hosted is None:
                continue
            parcel = self._packed(entry)
            self._resumption.moved(entry.key, entry.generation)  # also if nobody takes it
            yield parcel

    def _packed(self, entry: Entry) -> Parcel:
        """A session that was begun, or how it has ended, for another process."""
        state = {"key": [*entry.key], "generation": entry.generation}
        verdict, text = entry.verdict, entry.text
        if verdict is None:
            try:
                parcel = self._stop(entry, entry.generation)
            except TargetError as error:
                if error.status is not Status.COMPLETE:
                    log.warning("%s: a session could not go to another process: %s", entry.key[0], error)
                verdict, text = error.status, str(error)
            else:
                parcel.state.update(state)
                return parcel
        return Parcel(state | {"ended": [int(verdict), text]}, [])

    def adopt(self, parcel: Parcel) -> None:
        """Go on with a session of `hand_over_all` of another process."""
        state = parcel.state
        (user, session), generation = state["key"], state["generation"]
        key = user, session
        if self._asking.get(key, parcel) is None:
            self._asking[key] = parcel  # the answer will be that it is elsewhere: it was on its way here
            return
        if self._resumption.knows(key):
            parcel.close()  # it came before, on its own
            return
        entry = self._resumption.begin(key, generation)
        refusal: TargetError | None
        try:
            if "ended" not in state:
                entry.begin(self._hosting.thaw(parcel, entry))
                self._resumption.orphaned(entry)
                return
            status, text = state["ended"]
            refusal = TargetError(Status(status), text) if status != Status.COMPLETE else None
        except Exception as error:
            report("going on with a session of another process", error)
            refusal = TargetError(Status.GONE, "the session could not go on in another process")
        self._resumption.ended(entry, refusal, known=False)

    def _reply(self, stream: Stream, status: Status, text: str = "") -> None:
        stream.sendall(self._message(status, NOWHERE, text))

    def _message(self, status: Status, bound: Address, text: str = "") -> bytes:
        return Reply(status, self._server_epoch, self._registry.window, bound, text).pack()
