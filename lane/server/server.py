"""The server's path of a session: carrier, stream, HELLO, REQUEST, egress, REPLY, relay.

A stranger is told nothing: what is not a valid HELLO gets a plain close, whatever is wrong with it and
never earlier than a full HELLO would need, and costs only its own carrier. Whoever proved a key is told
the true reason of a refusal.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import gevent
from gevent.event import Event
from gevent.socket import socket as Socket  # noqa: N812  (the name of the type)

from lane.address import Address
from lane.errors import Closed, LaneError, ProtocolError, Status, TargetError
from lane.proto.hello import (
    BOOT_ID_SIZE,
    HELLO_SIZE,
    MAX_HELLO_PADDING,
    Command,
    Reply,
    Request,
    parse_hello,
    parse_request,
)
from lane.session.registry import Registry
from lane.session.relay import relay
from lane.session.session import Session
from lane.session.sockets import SocketStream
from lane.stream import Carrier, Listener, Stream

log = logging.getLogger("lane.server")

MAX_STRANGERS = 1024
"""Carriers at once that have not proven a key."""
SPARES_PER_PEER = 64
"""Carriers that a peer may have beyond the sessions it may have."""
LAST_WORDS = 1.0
"""Seconds to let the peer read what a stream said last."""
_NOWHERE = Address("0.0.0.0", 0)

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds a client has: for its HELLO, for its REQUEST, and to send the first byte of that one."""

    hello: float = 10.0
    request: float = 10.0
    spare: float = 600.0


class Server:
    """Serves the carriers of `listeners`.

    `hook`: pluggy's caller for lane's hooks. `connect` reaches a target or raises TargetError. The
    `registry` has the limits, `per_peer` bounds the carriers of one address.
    """

    def __init__(
        self,
        listeners: list[Listener],
        hook: Any,
        connect: Callable[[Address], Socket],
        registry: Registry,
        *,
        per_peer: int,
        deadlines: Deadlines | None = None,
    ) -> None:
        self._listeners = listeners
        self._hook = hook
        self._connect = connect
        self._registry = registry
        self._per_peer = per_peer + SPARES_PER_PEER
        self._deadlines = deadlines or Deadlines()
        self._boot_id = os.urandom(BOOT_ID_SIZE)
        self._carriers: set[Carrier] = set()
        self._strangers: set[Carrier] = set()
        self._peers: Counter[str] = Counter()
        self._closing = False
        self._names = count(1)
        for listener in listeners:
            gevent.spawn(self._accept, listener)

    def close(self, grace: float) -> None:
        """Take no more carriers, let sessions finish for `grace` seconds, then end everything."""
        self._closing = True
        for listener in self._listeners:
            listener.close()
        self._registry.drain(grace)
        gevent.joinall([gevent.spawn(carrier.close) for carrier in list(self._carriers)])

    def _accept(self, listener: Listener) -> None:
        while True:
            try:
                carrier = listener.accept()
            except Closed:
                return
            crowded = len(self._strangers) >= MAX_STRANGERS or self._peers[carrier.peer] >= self._per_peer
            if self._closing or crowded:
                log.debug("a carrier from %s is one too many", carrier.peer)
                carrier.close()
            else:
                self._carriers.add(carrier)
                self._strangers.add(carrier)
                self._peers[carrier.peer] += 1
                gevent.spawn(self._serve, carrier)

    def _serve(self, carrier: Carrier) -> None:
        """All streams of a carrier, until it is gone."""
        judged = Event()
        watch = gevent.spawn(self._expel, carrier, judged)
        try:
            while True:
                stream = gevent.spawn(self._stream, carrier, carrier.accept(), judged)
                if not judged.is_set():
                    gevent.wait([stream, judged], count=1)  # a stranger has one stream at a time
        except Closed as error:
            log.debug("a carrier from %s ended: %s", carrier.peer, error)
        finally:
            watch.kill(block=False)
            self._carriers.discard(carrier)
            self._strangers.discard(carrier)
            self._peers[carrier.peer] -= 1
            if not self._peers[carrier.peer]:
                del self._peers[carrier.peer]
            carrier.close()

    def _expel(self, carrier: Carrier, judged: Event) -> None:
        """Send away a carrier that proves no key in time."""
        if not judged.wait(self._deadlines.hello):
            self._send_away(carrier, judged)

    def _send_away(self, carrier: Carrier, judged: Event) -> None:
        log.debug("a stranger from %s is sent away", carrier.peer)
        carrier.close(LAST_WORDS)
        judged.set()

    def _stream(self, carrier: Carrier, stream: Stream, judged: Event) -> None:
        """One stream, to its end. Whatever goes wrong costs only it."""
        reader = _Reader(stream)
        try:
            user = self._greet(carrier, reader)
            if user is None:
                stream.close()
                if carrier in self._strangers:
                    self._send_away(carrier, judged)
                return
            self._strangers.discard(carrier)
            judged.set()
            while request := self._await_request(reader):
                try:
                    if not self._answer(carrier, stream, reader, request, user):
                        return
                except TargetError as error:
                    log.info("%s: %s refused: %s", user, request.address, error)
                    self._reply(stream, error.status, text=str(error))
                    self._finish(stream)
                    return
            stream.close()
        except LaneError as error:
            log.debug("a stream from %s ended: %s", carrier.peer, error)
            stream.reset()
        except Exception:
            log.exception("a stream from %s failed", carrier.peer)
            stream.reset()

    def _greet(self, carrier: Carrier, reader: "_Reader") -> str | None:
        """The user who proved a key with HELLO, None if nobody did."""
        try:
            with gevent.Timeout(self._deadlines.hello, Closed("no HELLO in time")):
                token, end = reader.parse(parse_hello)
                user: str | None = self._hook.lane_authenticate(token=token, binding=carrier.binding)
                if user is not None:
                    reader.skip(end)
                return user
        except ProtocolError:
            return None

    def _await_request(self, reader: "_Reader") -> Request | None:
        """The REQUEST, which a spare sends when it is needed; None where the client has no more."""
        with gevent.Timeout(self._deadlines.spare, Closed("a spare that nobody used")):
            if not reader.begin():
                return None
        with gevent.Timeout(self._deadlines.request, Closed("no REQUEST in time")):
            request, end = reader.parse(parse_request)
            reader.skip(end)
            return request

    def _answer(
        self, carrier: Carrier, stream: Stream, reader: "_Reader", request: Request, user: str
    ) -> bool:
        """Do what was asked for; whether another REQUEST may follow. Raises TargetError for a refusal."""
        if request.flags or request.command not in list(Command):
            raise TargetError(Status.COMMAND_NOT_SUPPORTED, "this server does not know that command")
        if request.command == Command.PING:
            self._reply(stream, Status.OK)
            self._finish(stream)
            return False
        if self._closing:
            raise TargetError(Status.FAILURE, "the server is closing")
        with self._registry.admit(carrier.peer):
            if not self._hook.lane_authorize(request=request.address, identity=user):
                raise TargetError(Status.NOT_ALLOWED, "not allowed")
            target = SocketStream(sock := self._connect(request.address))
            try:
                self._reply(stream, Status.OK, Address(*sock.getsockname()[:2]))
                with self._registry.session(
                    stream, request.window, lambda: carrier.stats().rtt, reader.rest()
                ) as session:
                    self._relay(target, session, request.address, user)
                reader.put_back(session.rest)
                return session.free
            finally:
                target.reset()

    def _relay(self, target: SocketStream, session: Session, address: Address, user: str) -> None:
        """The life of one session, which observers hear of."""
        name = str(next(self._names))
        self._tell(self._hook.lane_session_started, session=name, target=address, identity=user)
        error: LaneError | None = Closed("the server ended it")
        try:
            error = relay(target, session)
        finally:
            log.debug("%s: %s ended: %s", user, address, error or "in good order")
            self._tell(
                self._hook.lane_session_ended,
                session=name,
                sent=session.inbox.received,
                received=session.outbox.sent,
                error=str(error) if error else None,
            )

    def _tell(self, hook: Callable[..., Any], **what: Any) -> None:
        """Call observers; one that raises is not the session's fault."""
        try:
            hook(**what)
        except Exception:
            log.exception("a plugin failed to observe a session")

    def _reply(self, stream: Stream, status: Status, bound: Address = _NOWHERE, text: str = "") -> None:
        stream.sendall(Reply(status, self._boot_id, self._registry.window, bound, text).pack())

    def _finish(self, stream: Stream) -> None:
        """End a stream so that its last words arrive: a close with unread input would destroy them."""
        stream.finish()
        with gevent.Timeout(LAST_WORDS, False):
            while stream.recv():
                pass
        stream.close()


class _Reader:
    """What has come over a stream before its frames: bounded by the messages' own limits."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._data = b""

    def fill(self, size: int) -> None:
        """Have `size` bytes at least. Raises Closed."""
        while len(self._data) < size:
            data = self._stream.recv(max(size - len(self._data), HELLO_SIZE + MAX_HELLO_PADDING))
            if not data:
                raise Closed("the stream ended")
            self._data += data

    def begin(self) -> bool:
        """Whether anything comes; False for the end of the stream. Raises Closed."""
        self._data = self._data or self._stream.recv(HELLO_SIZE + MAX_HELLO_PADDING)
        return bool(self._data)

    def put_back(self, data: bytes) -> None:
        """Take what was read behind a session."""
        self._data = data

    def parse(self, parser: Callable[[bytes], Message | None]) -> Message:
        """The message that `parser` finds at the start; it bounds the length."""
        while (found := parser(self._data)) is None:
            self.fill(len(self._data) + 1)
        return found

    def skip(self, size: int) -> None:
        """Drop the first `size` bytes, as soon as they have come."""
        self.fill(size)
        self._data = self._data[size:]

    def rest(self) -> bytes:
        """All that came and was not dropped."""
        data, self._data = self._data, b""
        return data
