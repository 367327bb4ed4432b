"""Plain HTTP: one exchange after the other between an application and the targets that it names.

An application's connection outlives the connections to its targets, so the two directions of an exchange are
handled apart. The greenlet of the connection passes the response on. A second greenlet sends the request, and
then watches whether the application disconnects. Bodies are streamed: lane holds no more than one read. A
response that breaks off resets the application's connection, because a clean end would make the response
look complete.

A target may close a kept connection just as the next request is on its way. Nobody can tell whether the
target has carried that request out. So a kept connection is used only for requests that may be sent twice;
every other request gets a new connection.
"""

import logging
import os
from contextlib import suppress
from functools import partial

import gevent
import gevent.socket

from lane.address import Address
from lane.errors import Failure, LaneError, ProtocolError, Suspended
from lane.fair import maybe_yield
from lane.inbound.connector import TargetConnection, TargetConnector
from lane.inbound.handshake_io import (
    RECV_SIZE,
    Asked,
    Left,
    read_request,
    refuse,
    say,
    status_of,
)
from lane.inbound.openings import Openings
from lane.net import hangups
from lane.net.sockets import end_on_close, reset_on_close
from lane.proto.events import ForwardRequest, Refusal
from lane.proto.http import Http
from lane.proto.http_messages import HttpResponse
from lane.stream import Stream

IDLE_TIME = 120.0
"""Seconds that an application may take between the end of one exchange and its next request."""
KEEP_TIME = 15.0
"""Seconds that a connection to a target is kept for the next request. It is short: a new one costs little."""
READ_TIME = 3600.0
"""Seconds that an application may take to read one piece of a response."""
PART_TIME = 2.0
"""Seconds that a target may take to close its side after lane has ended its own."""
PART_SIZE = 262144
"""Bytes that it may send meanwhile."""
BODY_SIZE = 65536
"""Bytes of a body per read. Parsing many tiny chunks takes a while, and blocks all other greenlets."""

log = logging.getLogger("lane.inbound")


def forward(
    sock: gevent.socket.socket,
    connector: TargetConnector,
    codec: Http,
    first: ForwardRequest,
    openings: Openings,
) -> Asked | None:
    """Carry out exchanges, beginning with `first`. Return the first request of another kind.

    None: the application's connection is finished, or another process goes on with it. The caller closes
    `sock`, which may be closed already. Between two requests the connection waits in `openings`.
    """
    asked: Asked | None = first
    exchanges = _Exchanges(sock, connector, codec)
    try:
        while isinstance(asked, ForwardRequest):
            if not exchanges.carry(asked):
                return None
            asked = gevent.with_timeout(IDLE_TIME, _next, sock, codec, openings, timeout_value=None)
    except Suspended:
        return None
    except (OSError, ProtocolError) as error:
        if not isinstance(error, Left) or codec.trailing_data:  # a disconnect between two requests is normal
            log.debug("dropped a connection: %s", error)
        return None
    finally:
        exchanges.leave()
    return asked


def _next(sock: gevent.socket.socket, codec: Http, openings: Openings) -> Asked:
    if not codec.trailing_data:
        codec.receive(openings.receive(sock))
    return read_request(sock, codec)


class _ForwardTarget:
    """A connection to a target. It serves one exchange after the other, and may be kept idle between them."""

    def __init__(self, address: Address, connection: TargetConnection) -> None:
        self.address = address
        self.connection = connection
        self.stream = connection.begin()
        self._lost = False
        self._resting: gevent.Greenlet[..., None] | None = None

    def rest(self) -> None:
        """Keep the connection idle for a while, and notice when the target closes it."""
        self._resting = gevent.spawn(self._rest)

    def wake(self) -> bool:
        """End the idle time. Return whether the connection is still usable."""
        if self._resting and not self._lost:
            self._resting.kill()  # no limit: it only reads
            self._resting = None
        return not self._lost

    def leave(self) -> None:
        """Close the connection cleanly, in the background."""
        if self.wake():
            gevent.spawn(self._leave)

    def _rest(self) -> None:
        with suppress(LaneError), gevent.Timeout(KEEP_TIME, False):
            self.stream.recv(1)
        self._lost = True
        self._leave()

    def _leave(self) -> None:
        try:
            with suppress(LaneError), gevent.Timeout(PART_TIME, False):
                self.stream.finish()
                left = PART_SIZE  # a target that sends without end is cut off
                while left > 0 and (unread := self.stream.recv()):
                    left -= len(unread)
                self.stream.close()
        finally:
            self.connection.abort()


class _Exchanges:
    """The exchanges of one application's connection."""

    def __init__(self, sock: gevent.socket.socket, connector: TargetConnector, codec: Http) -> None:
        self._sock = sock
        self._connector = connector
        self._codec = codec
        self._target: _ForwardTarget | None = None
        # State of the current exchange:
        self._sent = False  # the whole request has gone to the target
        self._ended = False  # the application has ended its side, and lane has told the target
        self._fault: Failure[OSError | ProtocolError] | None = None  # the application's error, if any

    def leave(self) -> None:
        """Close the connection to the target, if one is kept."""
        if self._target:
            self._target.leave()
            self._target = None

    def carry(self, request: ForwardRequest) -> bool:
        """Carry out one exchange. Return whether the application may send another request.

        Raises OSError if the application has disconnected.
        """
        reset_on_close(self._sock)
        kept = request.repeatable and self._rested(request.target)
        while True:
            if not kept:
                self.leave()
                try:
                    connection = self._connector.connect(request.target)
                except LaneError as error:
                    return self._failed(error)
                self._target = _ForwardTarget(request.target, connection)
            assert self._target is not None
            target, self._target = self._target, None
            answer = HttpResponse(request, again=kept)
            try:
                broken = self._exchange(request, target.stream, answer)
            except BaseException:
                target.connection.abort()
                raise
            if broken is None:
                return self._finish(target, answer)
            target.connection.abort()
            if self._fault is None and kept and answer.empty:
                kept = False  # the target closed the idle connection: try a new one
                continue
            if self._fault is not None or answer.started:
                return self._broke(answer, broken)
            return self._failed(broken)

    def _rested(self, address: Address) -> bool:
        """Whether a kept connection to `address` exists and seems usable."""
        return self._target is not None and self._target.address == address and self._target.wake()

    def _exchange(self, request: ForwardRequest, stream: Stream, answer: HttpResponse) -> LaneError | None:
        """Send the request and pass the response on. Return the error that cut it short. Raises OSError."""
        self._sent = self._ended = False
        self._fault = None
        hangups.watch(self._sock.fileno(), partial(self._gone, stream))
        sender = gevent.spawn(self._send, request, stream)
        try:
            while not answer.done:
                data = stream.recv(BODY_SIZE)
                if not data:
                    answer.end()
                    break
                out = answer.receive(data, self._codec.uploaded)
                data = b""
                with gevent.Timeout(READ_TIME, TimeoutError("it does not read its answer")):
                    self._sock.sendall(out)
                maybe_yield()
        except LaneError as error:
            return error
        finally:
            sender.kill()  # no limit: it only reads and writes, so it ends at once
            hangups.forget(self._sock.fileno())
        return None

    def _gone(self, stream: Stream) -> None:
        """Handle a broken connection to the application, even while nobody reads from it."""
        number = self._sock.getsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_ERROR)
        if number:
            self._fault = self._fault or Failure.of(OSError(number, os.strerror(number)))
            stream.reset()

    def _send(self, request: ForwardRequest, stream: Stream) -> None:
        """Send the application's request, then watch whether the application leaves before the response."""
        sock, codec = self._sock, self._codec
        try:
            data = request.head + codec.upload(b"")
            while True:
                try:
                    stream.sendall(data)
                except LaneError:
                    return  # the target may have responded nevertheless
                if codec.uploaded:
                    break
                maybe_yield()
                data = sock.recv(BODY_SIZE)
                if not data:
                    raise ProtocolError("the application left in the middle of its request")
                data = codec.upload(data)
            self._sent = True
            if codec.trailing_data:
                return
            data = sock.recv(RECV_SIZE)
            if data:
                codec.receive(data)
                return
        except (OSError, ProtocolError) as error:
            self._fault = Failure.of(error)
            stream.reset()
            return
        self._ended = True
        with suppress(LaneError):
            stream.finish()

    def _finish(self, target: _ForwardTarget, answer: HttpResponse) -> bool:
        """Decide what follows a complete response. Return whether the application may go on."""
        if answer.upgraded:
            target.connection.run(self._sock, self._codec.trailing_data)
            return False
        if not self._sent:  # the target responded before it had the whole request
            target.connection.abort()
        elif answer.reusable and answer.keep and not self._ended:
            self._target = target
            target.rest()
        else:
            target.leave()
        end_on_close(self._sock)
        if answer.keep:
            return True
        refuse(self._sock, b"")
        return False

    def _failed(self, error: LaneError) -> bool:
        """Report a failed request to the application. Return whether it may send another one."""
        response = self._codec.failed(status_of(error), str(error))
        if isinstance(response, Refusal):
            refuse(self._sock, response.data)
            return False
        end_on_close(self._sock)
        say(self._sock, response.data)
        return True

    def _broke(self, answer: HttpResponse, error: LaneError) -> bool:
        """End a connection that can't be used again: a part of a response or of a request went over it."""
        log.debug("an exchange ended: %s", self._fault or error)
        if not answer.started and self._fault is not None and issubclass(self._fault.kind, ProtocolError):
            refuse(self._sock, self._codec.malformed(str(self._fault)))
        return False
