"""A stream from its REQUEST to its REPLY, and then the rest of its life.

It is a stream like any other to the session on top of it, which may begin before the server has answered:
then HELLO, REQUEST and the first data leave together, and the answer is one round trip away. What the
server refuses is raised where the session reads, each time that it does.
"""

from collections.abc import Callable
from contextlib import suppress

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from lane.address import Address
from lane.carriers.lease import Lease
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
from lane.proto.frames import aborted
from lane.proto.hello import Reply, Request, parse_reply
from lane.session.aborting import abort_alone
from lane.session.flows import Flows
from lane.stream import LinkStats, measured, receiver, send_joined
from lane.tasks import start

NOWHERE = Address("0.0.0.0", 0)
"""The address of a request that has none, and of a target that has not answered yet."""
HEAD_START = 0.003
"""Seconds that REQUEST waits for the application's first data."""
_NOT_LANE = "the server closed the connection without an answer: wrong key, or not a lane server"


class Ended(Closed):
    """The server has ended a stream in good order, without a whole REPLY."""


class Unanswered(Refused):
    """The same, for whoever asked: the server does not know the key, if that comes again."""


def _nobody(_: Reply) -> None:
    """Nobody asked."""


class RequestStream:
    """The stream of `lease` with `request`, and frames `behind` it. `timeout`: seconds until the REPLY.

    `only`: nobody asks again where no REPLY comes in time; then the server is told so.
    """

    def __init__(
        self, lease: Lease, request: Request, timeout: float, behind: bytes = b"", *, only: bool = False
    ) -> None:
        self.lease = lease
        self.answered: Callable[[Reply], None] = _nobody
        """Called once with a good REPLY."""
        self.server_epoch: bytes | None = None
        """Which server process sent the REPLY, good or not."""
        self.refused = False
        """Whether the server itself ended it without a REPLY: it has made nothing of it."""
        self.resumed = bool(behind)
        """Whether frames begin with RECEIVED, in both directions."""
        self._timeout = timeout
        self._only = only
        self._failure: Failure[LaneError] | None = None  # why there is no good REPLY
        self._unsent = request.pack() + behind
        self._sent = False  # all of that was sent, and nobody is about to
        self._asked = Event()
        self._lock = BoundedSemaphore(1)
        self._reply: Reply | None = None
        self._rest = b""  # what came behind the REPLY
        self._recv: Callable[[int], bytes | memoryview] = lease.stream.recv

    @property
    def asked(self) -> bool:
        """Whether the server may know of the request."""
        return not self._unsent

    def stats(self) -> LinkStats:
        """Of the carrier."""
        return measured(self.lease.carrier)

    def flows(self) -> Flows | None:
        """The datagrams of the carrier."""
        return self.lease.flows()

    def reply(self) -> Reply:
        """Ask at once, and wait for the answer. Raises TargetError, Unreachable or Refused."""
        self._asked.set()
        return self._answer()

    # The stream.

    def recv(self, limit: int = 262144) -> bytes:
        """See `lane.stream.Stream`. Raises what the request failed with, too."""
        return bytes(self.recv_view(limit))

    def recv_view(self, limit: int = 262144) -> bytes | memoryview:
        """See `lane.stream.Views`."""
        if self._reply is None:
            self._asked.wait(HEAD_START)
            self._answer()
        if self._rest:
            data, self._rest = self._rest[:limit], self._rest[limit:]
            return data
        return self._recv(limit)

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """See `lane.stream.Stream`. Before the REPLY, a failure shows where the session reads."""
        if not self._sent:
            # The request may be on its way, from whoever waits for its answer.
            with self._lock:  # no limit: that one has a deadline, and resets the stream then
                if self._unsent:
                    self._ask(bytes(data))
                    return
        self.lease.stream.sendall(data)

    def send_joined(self, head: bytes, data: bytes | bytearray | memoryview) -> None:
        """See `lane.stream.Joins`."""
        if self._sent:
            send_joined(self.lease.stream, head, data)
        else:
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
        """Give the carrier back; the stream is closed or was reset. Idempotent."""
        self.lease.release()

    def keep(self) -> None:
        """Give the stream back for another session, instead of `release`: this one is complete."""
        self.lease.keep()

    def discard(self) -> None:
        """Reset the stream and give the carrier back."""
        self.reset()
        self.release()

    # REQUEST and REPLY.

    def _answer(self) -> Reply:
        if self._failure is not None:
            raise self._failure.build()
        if self._reply is None:
            late = TargetError(Status.TTL_EXPIRED, "the server gave no answer in time")
            try:
                with gevent.Timeout(self._timeout, late):
                    reply, rest = self._exchange()
                self.server_epoch = reply.server_epoch
                if reply.verdict is not Status.OK:
                    raise TargetError(reply.verdict, reply.text or reply.verdict.name.lower())
            except BaseException as error:
                told = error if isinstance(error, LaneError) else Closed("nobody waits for the answer")
                self._failure = Failure.of(told)
                if self._only and self.asked and (error is late or told is not error):
                    start(self._part)
                else:
                    self.discard()
                raise
            self._reply, self._rest = reply, rest
            self._recv = receiver(self.lease.stream)
            self.answered(reply)
            self.answered = _nobody  # sessions last
        return self._reply

    def _part(self) -> None:
        """Nobody wants the session any more that the server may be making."""
        abort_alone(self.lease.stream, 0)
        self.release()

    def _exchange(self) -> tuple[Reply, bytes]:
        """REQUEST out, REPLY in. Raises Unreachable if the carrier was lost, Refused if the server won't.

        A server that has no room cuts the connection short. One that does not know the key ends it in good
        order; so does something that is not lane, unless it gives a code that says nothing to lane.
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
        """Send the request and `data` in one piece; under the lock."""
        data, self._unsent = self._unsent + data, b""
        self._asked.set()
        with suppress(Closed):  # whoever reads learns it, and why
            self.lease.send(data)
        self._sent = True


def read_reply(recv: Callable[[int], bytes]) -> tuple[Reply, bytes]:
    """The REPLY from a stream, and what came behind it. Raises ProtocolError, or Ended."""
    data = b""
    while (found := parse_reply(data)) is None:
        more = recv(65536)
        if not more:
            raise Ended("the stream ended")
        data += more
    reply, end = found
    return reply, data[end:]
