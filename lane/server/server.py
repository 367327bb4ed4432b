"""The server's carriers: who may have one, who has proven a key, and the streams that come over them.

A stranger is told nothing. Something that is not a valid HELLO gets a plain close, whatever is wrong with it
and never earlier than a full HELLO would need. It costs only its own carrier. A client that proved a key is
told the true reason of a refusal: `lane.server.requests`.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import gevent
from gevent.event import Event

from lane import census
from lane.errors import Closed, LaneError, ProtocolError, TargetError
from lane.net.guesses import Guesses
from lane.net.places import Places, network
from lane.net.shares import Shares
from lane.proto.hello import Request, parse_hello, parse_request
from lane.server.messages import LAST_WORDS, MessageReader, finish
from lane.server.requests import Requests
from lane.server.resumption import Resumption
from lane.server.services import Offers
from lane.session.flows import Flows
from lane.session.registry import Registry
from lane.stream import Carrier, Listener, Stream
from lane.supervisor import report, supervise

log = logging.getLogger("lane.server")

MAX_STRANGERS = 512
"""Carriers at once that have not proven a key, of all transports: see `lane.net.places`."""
SPARES_PER_PEER = 64
"""Carriers that a peer's network may have beyond the sessions it may have."""


@dataclass(frozen=True, slots=True)
class ClientDeadlines:
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
        deadlines: ClientDeadlines | None = None,
    ) -> None:
        self._listeners = listeners
        self._hook = hook
        self._requests = Requests(hook, offers, registry, resumption)
        self._registry = registry
        self._resumption = resumption
        self._per_peer = per_peer + SPARES_PER_PEER
        self.deadlines = deadlines or ClientDeadlines()
        """May be replaced at any time."""
        self._era = 0  # of those who are known as users
        self._carriers: set[Carrier] = set()
        self._flows: dict[Carrier, Flows] = {}  # of those of them whose datagrams somebody uses
        self._strangers: Places[Carrier] = Places(MAX_STRANGERS)
        self._peers: Counter[str] = Counter()
        self._owned = Shares(max_carriers, 0, "connections of this user")
        self._users: dict[Carrier, str] = {}
        self._guesses = Guesses("key")
        self._closing = False
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
        self._requests.close()
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
        reader = MessageReader(stream)
        try:
            era, (user, token) = self._era, self._greet(carrier, reader)
            if user is None:
                # Whatever was wrong with it. A right key never waits: nobody guesses 256 bits.
                self._guesses.pause(carrier.peer, self._guesses.wrong(carrier.peer))
                finish(stream)  # a clean end, which no client is turned away with: the key is wrong
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
                        finish(stream)
                        return
                flows = partial(self._flows_of, carrier)
                if not self._requests.serve(carrier, stream, reader, request, user, flows=flows):
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

    def _greet(self, carrier: Carrier, reader: MessageReader) -> tuple[str | None, bytes]:
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

    def _await_request(self, reader: MessageReader) -> Request | None:
        """The REQUEST, which a spare sends when it is needed; None where the client has no more."""
        with gevent.Timeout(self.deadlines.spare, Closed("a spare that nobody used")):
            if not reader.begin():
                return None
        with gevent.Timeout(self.deadlines.request, Closed("no REQUEST in time")):
            request, end = reader.parse(parse_request)
            reader.skip(end)
            return request

    def _flows_of(self, carrier: Carrier) -> Flows | None:
        if carrier not in self._flows and carrier in self._carriers:
            self._flows[carrier] = Flows(carrier)
        return self._flows.get(carrier)
