"""A stream that sends a REQUEST, reads the REPLY, and then carries a session.

To its session it is a stream like any other. The session may start before the server has answered. Then
HELLO, REQUEST and the first data leave together, and the answer takes one round trip. If the server refuses,
every read by the session raises the refusal.
"""

from collections.abc import Callable
from contextlib import suppress

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from lane.carriers.lease import Lease
from lane.deadline import deadline
from lane.errors import (
    Closed,
    Failure,
    LaneError,
    ProtocolError,
    Refused,
    Reset,
    Status,
    TargetError,
    TurnedAway,
    Unreachable,
)
from lane.proto.frames import End, FrameReader, aborted
from lane.proto.hello import Reply, Request, parse_reply
from lane.session.aborting import abort_alone
from lane.session.byte_queue import Buffer
from lane.session.flows import Flows
from lane.stream import LinkStats, joiner, measured, receiver
from lane.tasks import start

HEAD_START = 0.003
"""Seconds that REQUEST waits for the application's first data."""
_NOT_LANE = "the server closed the connection without an answer: wrong key, or not a lane server"


class Ended(Closed):
    """The server ended a stream cleanly without a complete REPLY."""


class Unanswered(Refused):
    """The server ended the stream without a REPLY. If it does so again, it does not know the key."""


class _Late(TargetError):
    """The server gave no REPLY in time."""

    def __init__(self) -> None:
        super().__init__(Status.TTL_EXPIRED, "the server gave no answer in time")


def _nobody(_: Reply) -> None:
    """Do nothing: nobody wants the REPLY."""


class RequestStream:
    """The stream of `lease`, with `request` and the frames `behind` it. `timeout`: seconds until the REPLY.

    `only`: there will be no second request for the session. So if no REPLY arrives in time, the server is
    told to abort the session.
    """

    def __init__(
        self, lease: Lease, request: Request, timeout: float, behind: bytes = b"", *, only: bool = False
    ) -> None:
        self.lease = lease
        self.answered: Callable[[Reply], None] = _nobody
        """Called once with a good REPLY."""
        self.server_epoch: bytes | None = None
        """The server process that sent the REPLY, whether good or a refusal."""
        self.refused = False
        """Whether the server itself ended the stream without a REPLY, and so made no session."""
        self.resumed = bool(behind)
        """Whether the frames begin with RECEIVED, in both directions."""
        self._timeout = timeout
        self._only = only
        self._failure: Failure[LaneError] | None = None  # why there is no good REPLY
        self._unsent = request.pack() + behind
        self._sent = False  # the request was sent completely
        self.send_now: Callable[[bytes], bool] | None = None
        """See `lane.stream.SendsNow`; None where the transport can't, and before the request was sent."""
        self._take: Callable[[bytes | memoryview], bool] | None = None
        self._asked = Event()
        self._lock = BoundedSemaphore(1)
        self._reply: Reply | None = None
        self._rest = b""  # bytes received after the REPLY
        self._recv: Callable[[int], bytes | memoryview] = lease.stream.recv

    @property
    def asked(self) -> bool:
        """Whether the server may know of the request."""
        return not self._unsent

    def stats(self) -> LinkStats:
        """The measurements of the carrier."""
        return measured(self.lease.carrier)

    def flows(self) -> Flows | None:
        """The datagrams of the carrier."""
        return self.lease.flows()

    def reply(self) -> Reply:
        """Send the request at once, and wait for the REPLY. Raises TargetError, Unreachable or Refused."""
        self._asked.set()
        return self._answer()

    # The stream.

    def recv(self, limit: int = 262144) -> bytes:
        """See `lane.stream.Stream`. Also raises the failure of the request."""
        return bytes(self.recv_view(limit))

    def recv_view(self, limit: int = 262144) -> bytes | memoryview:
        """See `lane.stream.Views`."""
        if self._reply is None:
            self._await_data()
            self._answer()
        if self._rest:
            data, self._rest = self._rest[:limit], self._rest[limit:]
            return data
        return self._recv(limit)

    def hand_short_to(self, take: Callable[[bytes | memoryview], bool] | None) -> None:
        """See `lane.stream.HandsShort`. What comes before the REPLY is for the greenlet that waits for it."""
        self._take = take
        if self._reply is not None and (hand := getattr(self.lease.stream, "hand_short_to", None)):
            hand(take)

    def _await_data(self) -> None:
        """Wait until the request was sent, with data, or should wait for data no longer."""
        if not self._asked.is_set():
            timer = gevent.get_hub().loop.timer(HEAD_START)  # cheaper than a wait with a timeout
            timer.start(self._asked.set)
            try:
                self._asked.wait()  # no limit: the timer ends it
            finally:
                timer.close()

    def sendall(self, data: Buffer) -> None:
        """See `lane.stream.Stream`. Before the REPLY, a failure is raised by the read instead."""
        if not self._sent:
            # The greenlet that waits for the REPLY may be sending the request.
            with self._lock:  # no limit: that greenlet has a deadline, at which it resets the stream
                if self._unsent:
                    self._ask(bytes(data))
                    return
        self.lease.stream.sendall(data)

    def send_joined(self, head: bytes, data: Buffer) -> None:
        """See `lane.stream.Joins`. It is the stream's own once the request was sent."""
        self.sendall(b"".join((head, data)))

    @property
    def abort_sending(self) -> Callable[[int], None] | None:
        """See `lane.stream.AbortsSending`; None where the transport can't."""
        found: Callable[[int], None] | None = getattr(self.lease.stream, "abort_sending", None)
        return found

    def finish(self) -> None:
        """See `lane.stream.Stream`."""
        self.lease.stream.finish()

    def reset(self, code: int = 0) -> None:
        """See `lane.stream.Stream`."""
        self.lease.stream.reset(code)

    def close(self) -> None:
        """See `lane.stream.Stream`."""
        self.lease.stream.close()

    def release(self) -> None:
        """Give the carrier back after the stream was closed or reset. Idempotent."""
        self.answered = _nobody
        self.lease.release()

    def keep(self) -> None:
        """Give the stream of a complete session back for another one. Call it instead of `release`."""
        self.lease.keep()

    def discard(self) -> None:
        """Reset the stream and give the carrier back."""
        self.reset()
        self.release()

    def wait_for_end(self, seconds: float) -> bool:
        """Whether the peer's END of a session whose END was sent comes in time. Gives the stream back."""
        reader = FrameReader()
        with suppress(LaneError), gevent.Timeout(seconds, False):
            while data := self.recv_view():
                if any(type(frame) is End for frame in reader.each(data)):
                    self.keep()
                    return True
        self.discard()
        return False

    # REQUEST and REPLY.

    def _answer(self) -> Reply:
        if self._failure is not None:
            raise self._failure.build()
        if self._reply is None:
            try:
                with deadline(self._timeout, _Late):
                    reply, rest = self._exchange()
                self.server_epoch = reply.server_epoch
                if reply.verdict is not Status.OK:
                    raise TargetError(reply.verdict, reply.text or reply.verdict.name.lower())
            except BaseException as error:
                if isinstance(error, LaneError):
                    self._failure = Failure.of(error)
                else:
                    self._failure = Failure.of(Closed("nobody waits for the answer"))
                known = isinstance(error, LaneError) and not isinstance(error, _Late)
                if self._only and self.asked and not known:
                    start(self._part)
                else:
                    self.discard()
                raise
            self._reply, self._rest = reply, rest
            self._recv = receiver(self.lease.stream)
            self.hand_short_to(self._take)
            self.answered(reply)
            self.answered = _nobody  # sessions last
        return self._reply

    def _part(self) -> None:
        """Abort the session that the server may be making, since nobody waits for it any more."""
        abort_alone(self.lease.stream, 0)
        self.release()

    def _exchange(self) -> tuple[Reply, bytes]:
        """Send REQUEST, read REPLY. Raises Unreachable if the carrier was lost, Refused if the server won't.

        A server without room cuts the connection. A server that does not know the key ends the stream
        cleanly. So does a server that is not lane, or it resets the stream with a code unknown to lane.
        """
        with self._lock:  # no limit: `_answer` has one
            if self._unsent:
                self._ask(b"")
        try:
            return read_reply(self.lease.stream.recv)
        except Ended:
            self.refused = True
            raise Unanswered(_NOT_LANE) from None
        except Reset as error:
            self.refused = True
            if aborted(error.code) is not None:
                raise TargetError(Status.GONE, "the session was aborted") from None
            if error.code:
                raise Refused(_NOT_LANE) from None
            raise TurnedAway("the server cut the connection short before it answered") from None
        except Closed as error:
            if self.lease.distrusted or not self.lease.fresh:
                raise Unreachable(f"the connection to the server was lost: {error}") from None
            raise TurnedAway(f"the connection ended before the server answered: {error}") from None
        except ProtocolError as error:
            raise Refused(f"the server does not answer as lane does: {error}") from None

    def _ask(self, data: bytes) -> None:
        """Send the request and `data` in one piece. The caller holds the lock."""
        data, self._unsent = self._unsent + data, b""
        self._asked.set()
        with suppress(Closed):  # the next read raises it, with the reason
            self.lease.send(data)
        self._sent = True
        self.send_joined = joiner(self.lease.stream)  # type: ignore[assignment,method-assign]
        self.send_now = getattr(self.lease.stream, "send_now", None)


def read_reply(recv: Callable[[int], bytes]) -> tuple[Reply, bytes]:
    """The REPLY from a stream, and the bytes after it. Raises ProtocolError or Ended."""
    data = b""
    while (found := parse_reply(data)) is None:
        more = recv(65536)
        if not more:
            raise Ended("the stream ended")
        data += more
    reply, end = found
    return reply, data[end:]
