"""The server's path of a session: carrier, stream, HELLO, REQUEST, egress, REPLY, relay.

A stranger is told nothing: what is not a valid HELLO gets a plain close, whatever is wrong with it and
never earlier than a full HELLO would need, and costs only its own carrier. Whoever proved a key is told
the true reason of a refusal.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import gevent
from gevent.event import Event

from lane import census
from lane.address import Address
from lane.errors import Closed, LaneError, ProtocolError, Status, TargetError
from lane.log import Throttle
from lane.net.guesses import Guesses
from lane.net.places import Places, network
from lane.net.shares import Shares
from lane.proto.hello import (
    ANYONE,
    EPOCH_SIZE,
    RESUMABLE,
    Command,
    Reply,
    Request,
    parse_hello,
    parse_request,
)
from lane.server.probe import answer_pings
from lane.server.reader import Reader
from lane.server.resumption import NOWHERE, Entry, Resumption
from lane.server.services import Offers, Service
from lane.session.flows import Flows
from lane.session.registry import Registry
from lane.session.session import Session
from lane.stream import Carrier, Listener, Stream, measured
from lane.supervisor import report, supervise
from lane.tasks import start

_ASKED_BY_CHECK = (Command.CONNECT, Command.RESUME)

log = logging.getLogger("lane.server")

MAX_STRANGERS = 512
"""Carriers at once that have not proven a key, of all transports: see `lane.net.places`."""
SPARES_PER_PEER = 64
"""Carriers that a peer's network may have beyond the sessions it may have."""
MAX_PROBES = 4096
"""Streams at once on which clients ask whether the way works: see `lane.net.shares`."""
REFUSALS_AT_ONCE, REFUSALS_PERIOD = 20, 3.0
"""Refusals of one user that the log has at once, and seconds for each further one."""
LAST_WORDS = 1.0
"""Seconds to let the peer read what a stream said last."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds a client has: for its HELLO, for its REQUEST, and to send the first byte of that one."""

    hello: float = 10.0
    request: float = 10.0
    spare: float = 600.0


class Server:
    """Serves the carriers of `listeners`.

    `hook`: pluggy's caller for lane's hooks. `offers`: what may be asked for. The `registry` has the
    limits, `per_peer` bounds the carriers of one network, `max_carriers` those of all users. `resumption`
    keeps the sessions that clients may come back to.
    """

    def __init__(
        self,
        listeners: list[Listener],
        hook: Any,
        offers: Offers,
        registry: Registry,
        resumption: Resumption,
        *,
        per_peer: int,
        max_carriers: int = 1 << 16,
        deadlines: Deadlines | None = None,
    ) -> None:
        self._listeners = listeners
        self._hook = hook
        self._offers = offers
        self._registry = registry
        self._resumption = resumption
        self._per_peer = per_peer + SPARES_PER_PEER
        self.deadlines = deadlines or Deadlines()
        """May be replaced at any time."""
        self._era = 0  # of those who are known as users
        self._epoch = os.urandom(EPOCH_SIZE)
        self._carriers: set[Carrier] = set()
        self._flows: dict[Carrier, Flows] = {}  # of those of them whose datagrams somebody uses
        self._strangers: Places[Carrier] = Places(MAX_STRANGERS)
        self._peers: Counter[str] = Counter()
        self._probes = Shares(MAX_PROBES, 0, "probes of this user")
        self._owned = Shares(max_carriers, 0, "connections of this user")
        self._users: dict[Carrier, str] = {}
        self._guesses = Guesses("key")
        self._refusals = Throttle(REFUSALS_PERIOD, burst=REFUSALS_AT_ONCE)
        self._closing = False
        self._names = count(1)
        for listener in listeners:
            supervise("the acceptance of carriers", self._accept, listener)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        users = {"peers": len(self._peers), "strangers": len(self._strangers)}
        return {"carriers": len(self._carriers), "flows": len(self._flows), **users}

    def close(self, grace: float) -> None:
        """Take no more carriers, let sessions finish for `grace` seconds, then end everything."""
        self._closing = True
        for listener in self._listeners:
            listener.close()
        self._registry.drain(grace)
        self._resumption.close()
        closing = [gevent.spawn(carrier.close) for carrier in list(self._carriers)]
        gevent.joinall(closing, timeout=LAST_WORDS)  # a transport may not keep to it

    def users_changed(self) -> None:
        """Whoever proved a key before proves it again with his next request; what runs goes on."""
        self._era += 1

    def _accept(self, listener: Listener) -> None:
        while True:
            try:
                carrier = listener.accept()
            except Closed:
                return
            try:
                self._welcome(carrier)
            except Exception as error:  # of a foreign transport: it costs this carrier
                report("a carrier that was accepted", error)
                self._forget(carrier)
                gevent.spawn(carrier.close)

    def _welcome(self, carrier: Carrier) -> None:
        name = network(carrier.peer)
        if not self._closing and self._peers[name] >= self._per_peer:
            self._turn_away(self._strangers.oldest_of(carrier.peer))
        if self._closing or self._peers[name] >= self._per_peer:
            log.debug("a carrier from %s is one too many", carrier.peer)
            carrier.close()
            return
        self._carriers.add(carrier)
        self._peers[name] += 1
        self._turn_away(self._strangers.enter(carrier, carrier.peer))
        judged = Event()
        patience = gevent.get_hub().loop.timer(self.deadlines.hello)  # a greenlet that waits costs more
        patience.start(gevent.spawn, self._expel, carrier, judged)
        serve = partial(gevent.spawn, self._serve, carrier, judged, patience)
        if when_heard := getattr(carrier, "when_heard", None):
            when_heard(serve)
        else:
            serve()

    def _turn_away(self, stranger: Carrier | None) -> None:
        """Make room: a client takes such an end for what it is, and tries again."""
        if stranger is not None and stranger in self._carriers:
            log.debug("a stranger from %s makes room", stranger.peer)
            self._forget(stranger)
            gevent.spawn(stranger.close)

    def _forget(self, carrier: Carrier) -> None:
        """Count a carrier no more. Idempotent."""
        self._flows.pop(carrier, None)
        self._strangers.leave(carrier)
        if (user := self._users.pop(carrier, None)) is not None:  # maybe since it was turned away
            self._owned.give_back(user)
        if carrier in self._carriers:
            self._carriers.discard(carrier)
            name = network(carrier.peer)
            self._peers[name] -= 1
            if not self._peers[name]:
                del self._peers[name]

    def _serve(self, carrier: Carrier, judged: Event, patience: Any) -> None:
        """All streams of a carrier, until it is gone. It is `judged` when it has shown who it is."""
        try:
            if getattr(carrier, "one_stream", False):
                self._stream(carrier, carrier.accept(), judged)
                return
            while True:
                stream = gevent.spawn(self._stream, carrier, carrier.accept(), judged)
                if not judged.is_set():
                    # A stranger has one stream at a time.
                    gevent.wait([stream, judged], count=1)  # no limit: it is judged when its HELLO is late
        except Closed as error:
            log.debug("a carrier from %s ended: %s", carrier.peer, error)
        finally:
            patience.close()
            judged.set()
            self._forget(carrier)
            carrier.close()

    def _expel(self, carrier: Carrier, judged: Event) -> None:
        """Send away a carrier that proves no key in time."""
        if not judged.is_set():
            self._send_away(carrier, judged)

    def _send_away(self, carrier: Carrier, judged: Event) -> None:
        log.debug("a stranger from %s is sent away", carrier.peer)
        carrier.close(LAST_WORDS)
        judged.set()

    def _stream(self, carrier: Carrier, stream: Stream, judged: Event) -> None:
        """One stream, to its end. Whatever goes wrong costs only it."""
        reader = Reader(stream)
        try:
            era, (user, token) = self._era, self._greet(carrier, reader)
            if user is None:
                # Whatever was wrong with it. A right key never waits: nobody guesses 256 bits.
                self._guesses.pause(carrier.peer, self._guesses.wrong(carrier.peer))
                self._finish(stream)  # a clean end, which no client is turned away with: the key is wrong
                if carrier in self._strangers:
                    self._send_away(carrier, judged)
                return
            if not judged.is_set():
                self._owned.take(user)
                self._users[carrier] = user
            self._strangers.leave(carrier)
            if not judged.is_set() and (proven := getattr(carrier, "proven", None)):
                proven()
            judged.set()
            while request := self._await_request(reader):
                if era != self._era:  # while the stream was a spare, or had another session
                    era = self._era
                    if self._authenticate(carrier, token) != user:
                        log.info("%s is no user any more", user)
                        self._finish(stream)
                        return
                try:
                    if not self._answer(carrier, stream, reader, request, user):
                        return
                except TargetError as error:
                    # `lane check` asks for nothing, to see what the server knows.
                    asked = request.address == NOWHERE and request.command in _ASKED_BY_CHECK
                    missed = None if asked else self._refusals.allows(user)
                    level = logging.DEBUG if missed is None else logging.INFO
                    more = f" ({missed} more refusals since the last one in the log)" if missed else ""
                    log.log(level, "%s: %s refused: %s%s", user, request.address, error, more)
                    self._reply(stream, error.status, text=str(error))
                    self._finish(stream)
                    return
            stream.close()
        except LaneError as error:
            log.debug("a stream from %s ended: %s", carrier.peer, error)
            stream.reset()
            if carrier in self._strangers and isinstance(error, TargetError):
                self._send_away(carrier, judged)  # one too many of its user
        except Exception as error:
            report("a stream", error)
            stream.reset()

    def _greet(self, carrier: Carrier, reader: Reader) -> tuple[str | None, bytes]:
        """The user who proved a key with HELLO, None if nobody did; and the token that proves it."""
        try:
            with gevent.Timeout(self.deadlines.hello, Closed("no HELLO in time")):
                if reader.begin():
                    self._strangers.speaks(carrier)
                token, end = reader.parse(parse_hello)
                user = self._authenticate(carrier, token)
                if user is not None:
                    reader.skip(end)
                return user, token
        except ProtocolError:
            return None, b""

    def _authenticate(self, carrier: Carrier, token: bytes) -> str | None:
        user = self._hook.lane_authenticate(token=token, binding=carrier.binding)
        if user is not None and not isinstance(user, str):
            raise TypeError(f"lane_authenticate of a plugin names a user {user!r}")
        return user

    def _await_request(self, reader: Reader) -> Request | None:
        """The REQUEST, which a spare sends when it is needed; None where the client has no more."""
        with gevent.Timeout(self.deadlines.spare, Closed("a spare that nobody used")):
            if not reader.begin():
                return None
        with gevent.Timeout(self.deadlines.request, Closed("no REQUEST in time")):
            request, end = reader.parse(parse_request)
            reader.skip(end)
            return request

    def _answer(self, carrier: Carrier, stream: Stream, reader: Reader, request: Request, user: str) -> bool:
        """Do what was asked for; whether another REQUEST may follow. Raises TargetError for a refusal."""
        known = request.command in (Command.PING, Command.PROBE, Command.RESUME, *self._offers)
        flags = RESUMABLE | (ANYONE if request.command == Command.UDP else 0)
        if request.flags & ~flags or not known:
            raise TargetError(Status.COMMAND_NOT_SUPPORTED, "this server does not know that command")
        if request.command == Command.PING:
            self._reply(stream, Status.OK)
            self._finish(stream)
            return False
        if request.command == Command.PROBE:
            with self._probes.place(user):
                self._reply(stream, Status.OK)
                answer_pings(stream, reader.rest())
            return False
        entry, session, bound = self._session(carrier, request, user)
        session.detach()  # what another stream still brings is too late from here on
        if entry:
            self._resumption.carried(entry)
        try:
            rest = session.carry(
                stream,
                partial(measured, carrier),
                first=self._message(Status.OK, bound),
                early=reader.rest(),
                resumed=request.generation > 0,
                flows=partial(self._flows_of, carrier),
            )
        finally:
            if entry:
                self._resumption.orphaned(entry)
        reader.put_back(rest or b"")
        return rest is not None

    def _flows_of(self, carrier: Carrier) -> Flows | None:
        if carrier not in self._flows and carrier in self._carriers:
            self._flows[carrier] = Flows(carrier)
        return self._flows.get(carrier)

    def _session(
        self, carrier: Carrier, request: Request, user: str
    ) -> tuple[Entry | None, Session, Address]:
        """The session that was asked for, and where its target sees it from. Raises TargetError."""
        entry = None
        if request.flags & RESUMABLE:
            key = user, request.session
            if entry := self._resumption.find(key, request.generation):
                session = entry.join(request.generation)
                return entry, session, entry.bound
            if request.command != Command.RESUME:
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
        """A session with the target of a request, which has a greenlet of its own. Raises TargetError."""
        if self._closing:
            raise TargetError(Status.FAILURE, "the server is closing")
        with ExitStack() as resources:
            resources.enter_context(self._registry.admit(carrier.peer, user))
            service = self._offers[request.command](request, user, partial(self._authorize, user))
            resources.callback(service.reset)
            if service.waits_for_peer and self._closing:  # it took a while, and nobody would end it now
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
            session.protocol.activity.reports = entry is not None
            session.waiting_for_peer = service.waits_for_peer  # from now on, and not only once it runs
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
        """The life of one session, which observers hear of."""
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
            self._tell(
                self._hook.lane_session_ended,
                session=name,
                sent=session.receive_window.received,
                received=session.send_buffer.sent,
                error=str(error) if error else None,
            )

    def _tell(self, hook: Callable[..., Any], **what: Any) -> None:
        """Call observers; one that raises is not the session's fault."""
        try:
            hook(**what)
        except Exception as error:
            report("a hook that observes sessions", error)

    def _reply(self, stream: Stream, status: Status, text: str = "") -> None:
        stream.sendall(self._message(status, NOWHERE, text))

    def _message(self, status: Status, bound: Address, text: str = "") -> bytes:
        return Reply(status, self._epoch, self._registry.window, bound, text).pack()

    def _finish(self, stream: Stream) -> None:
        """End a stream so that its last words arrive: a close with unread input would destroy them."""
        stream.finish()
        with gevent.Timeout(LAST_WORDS, False):
            while stream.recv():
                pass
        stream.close()


def _hold(resources: ExitStack, live: Callable[[], None]) -> None:
    with resources:
        live()
