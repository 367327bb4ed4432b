"""The server's carriers: it limits them, has them authenticated, and serves their streams.

A stranger, who has not proven a key, learns nothing: see `lane.server.authentication`. It costs only its own
carrier. A client that has proven a key gets the true reason of a refusal: see `lane.server.requests`.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import gevent
from gevent.event import Event

from lane import census
from lane.errors import Closed, LaneError, TargetError
from lane.net.places import Places, network
from lane.net.user_places import UserPlaces
from lane.server.authentication import Authentication
from lane.server.begun import Begin, always
from lane.server.carriers import Carriers
from lane.server.live import LiveSessions
from lane.server.messages import LAST_WORDS, MessageReader, finish, read_request
from lane.server.requests import Requests, UserStream
from lane.server.resumption import Resumption
from lane.server.services import Offers
from lane.server.uplink import Uplink
from lane.session.flows import Flows
from lane.session.registry import Registry
from lane.stream import Carrier, Listener, Stream, renewer
from lane.supervisor import report, supervise
from lane.tally import CARRIERS, Count, alone
from lane.tasks import start
from lane.users.ending import Ending
from lane.users.traffic import Traffic
from lane.users.users import Users, Visit

log = logging.getLogger("lane.server")

MAX_STRANGERS = 512
"""Maximum number of carriers that have not proven a key, over all transports: see `lane.net.places`."""
FAREWELL = 3.0
"""Seconds for the sessions of a user to tell the client why they end, before their carriers are closed."""
SPARES_PER_PEER = 64
"""Carriers that a peer's network may have beyond its maximum number of sessions."""


@dataclass(frozen=True, slots=True)
class ClientDeadlines:
    """Times in seconds."""

    hello: float = 10.0
    """For a valid HELLO on a new carrier."""
    request: float = 10.0
    """From the first byte of a REQUEST to its end."""
    spare: float = 600.0
    """That a stream may wait for the first byte of a REQUEST."""


class Server:
    """Serves the carriers of `listeners`.

    `hook`: pluggy's caller for lane's hooks. `offers`: the available services. `registry` has the session
    limits. `per_peer` limits the carriers of one network, `max_carriers` those of all users. `resumption`
    keeps the sessions that clients may resume. A server of several workers has one `epoch`, and each worker
    asks `begin` before it begins a session, and counts its carriers in `count`. `users` has the accounts, and
    `traffic` counts what users move. `live` has the sessions, for others to see. `transports` are the names
    of the listeners' transports.
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
        epoch: bytes | None = None,
        begin: Begin = always,
        count: Count | None = None,
        traffic: Traffic | None = None,
        users: Users | None = None,
        live: LiveSessions | None = None,
        transports: Sequence[str] = (),
    ) -> None:
        live = LiveSessions() if live is None else live
        self._listeners = listeners
        self._numbers = live.numbers
        self._numbers.know(transports)
        self.carriers = Carriers(live.numbers)
        """Those that are open."""
        self.traffic = traffic or Traffic()
        """What users move."""
        self._users = users or Users()
        self._users.ends, self._users.rekeyed = self._end_all, self.users_changed
        self.requests = Requests(
            hook,
            offers,
            registry,
            resumption,
            epoch=epoch,
            begin=begin,
            traffic=self.traffic,
            users=self._users,
            live=live,
            carriers=self.carriers,
        )
        self._registry = registry
        self._resumption = resumption
        self._per_peer = per_peer + SPARES_PER_PEER
        self.deadlines = deadlines or ClientDeadlines()
        """May be replaced at any time."""
        self._era = 0  # number of changes to the set of users
        self._flows: dict[Carrier, Flows] = {}  # of the carriers whose datagrams are in use
        self._strangers: Places[Carrier] = Places(MAX_STRANGERS)
        self._authentication = Authentication(hook, self._strangers.speaks)
        self._peers: Counter[str] = Counter()
        self._count = count or alone(CARRIERS)
        self._owned = UserPlaces(max_carriers, 0, "connections of this user", self._count.elsewhere)
        self._visits: dict[Carrier, Visit] = {}
        self._uplink = Uplink()
        self._closing = False
        for listener, transport in zip_longest(listeners, transports, fillvalue=""):
            supervise("the acceptance of carriers", self._accept, listener, transport)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        users = {"peers": len(self._peers), "strangers": len(self._strangers)}
        return {"carriers": len(self.carriers), "flows": len(self._flows), **users}

    def close(self, grace: float) -> None:
        """Accept no more carriers, let sessions finish for `grace` seconds, then end everything."""
        self._closing = True
        self.requests.close()
        for listener in self._listeners:
            listener.close()
        self._registry.drain(grace)
        self._resumption.close()
        self._users.close()
        closing = [gevent.spawn(carrier.close) for carrier in self.carriers]
        gevent.joinall(closing, timeout=LAST_WORDS)  # a plugin's transport may exceed it

    def unused(self) -> list[Carrier]:
        """The carriers of users that carry no session. Those of strangers are not among them."""
        return [one for one in self._visits if not self.requests.carrying[one]]

    def part(self) -> None:
        """Close all carriers. Sessions that can be resumed wait for their clients."""
        for carrier in self.carriers:
            gevent.spawn(carrier.close, LAST_WORDS)

    @property
    def online(self) -> dict[str, set[str]]:
        """The devices from which each user is connected, as texts."""
        found: dict[str, set[str]] = {}
        for visit in self._visits.values():
            found.setdefault(visit.user, set()).add(visit.device.hex())
        return found

    def kick(self, users: Iterable[str]) -> None:
        """End the sessions of `users`, and then their carriers. They may come back."""
        self._end_all(dict.fromkeys(users, Ending.KICKED))

    def users_changed(self) -> None:
        """Authenticate each client again at its next request. Running sessions continue."""
        self._era += 1

    def _end_all(self, endings: Mapping[str, Ending]) -> None:
        """End the sessions of users, and then their carriers, and tell their clients why."""
        self.requests.thaw(endings)
        last = self._registry.end(endings)
        gevent.spawn(self._see_off, frozenset(endings), last)

    def _see_off(self, users: frozenset[str], last: "list[gevent.Greenlet[..., None]]") -> None:
        gevent.joinall(last, timeout=FAREWELL)
        for carrier, visit in [*self._visits.items()]:
            if visit.user in users:
                gevent.spawn(carrier.close, LAST_WORDS)

    def _accept(self, listener: Listener, transport: str) -> None:
        while True:
            try:
                carrier = listener.accept()
            except Closed:
                return
            try:
                self._welcome(carrier, transport)
            except Exception as error:  # a fault of a plugin's transport costs only this carrier
                report("a carrier that was accepted", error)
                self._forget(carrier)
                gevent.spawn(carrier.close)

    def _welcome(self, carrier: Carrier, transport: str) -> None:
        name = network(carrier.peer)
        if not self._closing and self._peers[name] >= self._per_peer:
            self._turn_away(self._strangers.oldest_of(carrier.peer))
        if self._closing or self._peers[name] >= self._per_peer:
            log.debug(
                "refused a carrier from %s: too many from there, or the server is closing", carrier.peer
            )
            self._numbers.refusals["too_many_connections",] += 1
            carrier.close()
            return
        self.carriers.add(carrier, transport)
        self._peers[name] += 1
        self._turn_away(self._strangers.enter(carrier, carrier.peer))
        judged = Event()
        patience = gevent.get_hub().loop.timer(self.deadlines.hello)  # cheaper than a waiting greenlet
        patience.start(self._expel, carrier, judged)
        serve = partial(start, self._serve, carrier, judged, patience)
        if when_heard := getattr(carrier, "when_heard", None):
            when_heard(serve)
        else:
            serve()

    def _turn_away(self, stranger: Carrier | None) -> None:
        """Close a stranger's carrier to make room. A client recognizes this kind of end, and tries again."""
        if stranger is not None and stranger in self.carriers:
            self._numbers.refusals["too_many_connections",] += 1
            log.debug("closed a stranger's carrier from %s to make room", stranger.peer)
            self._forget(stranger)
            gevent.spawn(stranger.close)

    def _forget(self, carrier: Carrier) -> None:
        """Stop counting a carrier. Idempotent."""
        self._flows.pop(carrier, None)
        self._strangers.leave(carrier)
        if (visit := self._visits.pop(carrier, None)) is not None:  # even if it was turned away before
            self._owned.give_back(visit.user)
            self._uplink.leave(carrier, visit.user)
            self._count.put(len(self._owned))
            self._users.leave(visit)
        if carrier in self.carriers:
            self.carriers.remove(carrier)
            name = network(carrier.peer)
            self._peers[name] -= 1
            if not self._peers[name]:
                del self._peers[name]

    def _serve(self, carrier: Carrier, judged: Event, patience: Any) -> None:
        """Serve all streams of a carrier until it ends. `judged` is set once a key was proven or refused."""
        try:
            if getattr(carrier, "one_stream", False):
                self._stream(carrier, carrier.accept(), judged)
                return
            while True:
                stream = gevent.spawn(self._stream, carrier, carrier.accept(), judged)
                if not judged.is_set():
                    # A stranger may have only one stream at a time.
                    gevent.wait([stream, judged], count=1)  # no limit: a late HELLO sets `judged`
        except Closed as error:
            log.debug("a carrier from %s ended: %s", carrier.peer, error)
        finally:
            patience.close()
            judged.set()
            self._forget(carrier)
            carrier.close()

    def _expel(self, carrier: Carrier, judged: Event) -> None:
        """Send away a carrier that did not prove a key in time."""
        if not judged.is_set():
            self._numbers.refusals["no_hello",] += 1
            start(self._send_away, carrier, judged)

    def _send_away(self, carrier: Carrier, judged: Event) -> None:
        log.debug("closing a stranger's carrier from %s", carrier.peer)
        carrier.close(LAST_WORDS)
        judged.set()

    def _stream(self, carrier: Carrier, stream: Stream, judged: Event) -> None:
        """Serve one stream until it ends. A failure costs only this stream."""
        reader = MessageReader(stream)
        guest: Visit | None = None
        try:
            era = self._era
            user, token, device = self._authentication.greet(carrier, reader, self.deadlines.hello)
            if user is None:
                self._numbers.refusals["wrong_key",] += 1
                self._authentication.pause(carrier)
                finish(stream)  # a clean end tells a client that its key is wrong; see `_turn_away`
                if carrier in self._strangers:
                    self._send_away(carrier, judged)
                return
            if not judged.is_set():
                self._owned.take(user)
                self._count.put(len(self._owned))
                self._visits[carrier] = self._users.enter(user, device or network(carrier.peer).encode())
                self._numbers.proven[self.carriers.known(carrier).transport,] += 1
                self._uplink.enter(carrier, user)
            self._strangers.leave(carrier)
            if not judged.is_set() and (proven := getattr(carrier, "proven", None)):
                proven()
            judged.set()
            visit = self._visits.get(carrier)
            if visit is None or visit.user != user:  # another user of the same carrier, or it has ended
                visit = guest = self._users.enter(user, device or network(carrier.peer).encode())
            asking = UserStream(carrier, stream, reader, visit, partial(self._flows_of, carrier))
            renew = renewer(stream)
            while request := read_request(reader, self.deadlines.spare, self.deadlines.request):
                if renew:
                    renew()
                if era != self._era:  # users changed while the stream was idle or had another session
                    era = self._era
                    if self._authentication.user_of(carrier, token) != user:
                        log.info("%s is not a user any more", user)
                        finish(stream)
                        return
                if not self.requests.serve(asking, request):
                    return
            stream.close()
        except LaneError as error:
            log.debug("a stream from %s ended: %s", carrier.peer, error)
            stream.reset()
            if carrier in self._strangers and isinstance(error, TargetError):
                self._send_away(carrier, judged)  # its user has too many carriers
        except Exception as error:
            report("a stream", error)
            stream.reset()
        finally:
            if guest is not None:
                self._users.leave(guest)

    def _flows_of(self, carrier: Carrier) -> Flows | None:
        if carrier not in self._flows and carrier in self.carriers:
            self._flows[carrier] = Flows(carrier)
        return self._flows.get(carrier)
