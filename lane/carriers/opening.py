"""A stream from its REQUEST to its REPLY, and then the rest of its life.

It is a stream like any other to the session on top of it, which may begin before the server has answered:
then HELLO, REQUEST and the first data leave together, and the answer is one round trip away. What was sent
is kept until the REPLY, because a carrier may turn out to be dead of old age: it is replaced once, and
nobody notices. But an application's data are never sent twice where the first ones may have arrived: it
would not know that it has bought the same thing again. What the server refuses is raised where the session
reads.
"""

from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from lane.carriers.pool import Lease, Pool
from lane.errors import Closed, LaneError, ProtocolError, Refused, Reset, Status, TargetError, Unreachable
from lane.proto.hello import EARLY, Reply, Request, parse_reply
from lane.stream import LinkStats, receiver

HEAD_START = 0.003
"""Seconds that REQUEST waits for the application's first data."""
_NOT_LANE = "the server closed the connection without an answer: wrong key, or not a lane server"


def _nobody(_: LaneError | None) -> None:
    """Nobody asked."""


class Opening:
    """The stream of `lease` with `request`; `pool` replaces it. `timeout`: seconds until the REPLY."""

    def __init__(self, pool: Pool, lease: Lease, request: Request, timeout: float) -> None:
        self.answered: Callable[[LaneError | None], None] = _nobody
        """Called once with what came of the request: None for a good REPLY."""
        self._pool = pool
        self._lease = lease
        self._timeout = timeout
        self._unsent = request.pack()
        self._request_size = len(self._unsent)
        self._delivered: int | None = None  # by the carrier, before the request
        self._kept = b""  # what was sent, until the REPLY
        self._asked = Event()
        self._lock = BoundedSemaphore(1)
        self._reply: Reply | None = None
        self._rest = b""  # what came behind the REPLY
        self._recv: Callable[[int], bytes | memoryview] = lease.stream.recv
        self._over = False  # nobody waits for the answer any more

    @property
    def credit(self) -> int:
        """Bytes that may be sent before the first ACK, as far as is known now."""
        return max(self._reply.window, EARLY) if self._reply else EARLY

    def stats(self) -> LinkStats:
        """Of the carrier."""
        return self._lease.carrier.stats()

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
        if self._reply is None:
            with self._lock:
                if self._reply is None:
                    self._asked.set()
                    self._send_kept(bytes(data))
                    return
        self._lease.stream.sendall(data)

    def finish(self) -> None:
        """See `lane.stream.Stream`."""
        self._lease.stream.finish()

    def reset(self, code: int = 0) -> None:
        """See `lane.stream.Stream`."""
        self._over = True
        self._lease.stream.reset(code)

    def close(self) -> None:
        """See `lane.stream.Stream`."""
        self._over = True
        self._lease.stream.close()

    def release(self) -> None:
        """Give the carrier back; the stream is closed or was reset. Idempotent."""
        self._over = True
        self._lease.release()

    def keep(self) -> None:
        """Give the stream back for another session, instead of `release`: this one is complete."""
        self._over = True
        self._lease.keep()

    def discard(self) -> None:
        """Reset the stream and give the carrier back."""
        self.reset()
        self.release()

    # REQUEST and REPLY.

    def _answer(self) -> Reply:
        try:
            late = TargetError(Status.TTL_EXPIRED, "the server gave no answer in time")
            with gevent.Timeout(self._timeout, late):
                reply, rest = self._exchange_twice()
            if reply.verdict is not Status.OK:
                raise TargetError(reply.verdict, reply.text or reply.verdict.name.lower())
        except BaseException as error:
            if isinstance(error, LaneError) and not self._over:
                self.answered(error)
            self.discard()
            raise
        self._reply, self._rest, self._kept = reply, rest, b""
        self._recv = receiver(self._lease.stream)
        self.answered(None)
        self.answered = _nobody  # sessions last
        return reply

    def _exchange_twice(self) -> tuple[Reply, bytes]:
        """A second time if the carrier was an old one: that it died is not the target's fault."""
        try:
            return self._exchange()
        except (Unreachable, Refused):  # a server may also end what waited for too long
            if self._lease.fresh or self._given_up() or self._may_have_arrived():
                raise
        self._lease.discard()
        lease = self._pool.lease(fresh=True)
        if self._given_up():  # meanwhile
            lease.discard()
            raise Closed("nobody waits for the answer any more")
        with self._lock:
            self._lease = lease
            self._unsent, self._kept = self._kept + self._unsent, b""
        return self._exchange()

    def _exchange(self) -> tuple[Reply, bytes]:
        """REQUEST out, REPLY in. Raises Unreachable if the carrier was lost, Refused if the server won't."""
        with self._lock:
            self._send_kept(b"")
        try:
            return read_reply(self._lease.stream.recv)
        except Reset:
            raise Refused(_NOT_LANE) from None
        except Closed as error:
            if self._lease.carrier.closed:
                raise Unreachable(f"the connection to the server was lost: {error}") from None
            raise Refused(_NOT_LANE) from None
        except ProtocolError as error:
            raise Refused(f"the server does not answer as lane does: {error}") from None

    def _given_up(self) -> bool:
        return self._over

    def _may_have_arrived(self) -> bool:
        """Whether the server may have got data of the application's on the carrier that was lost."""
        unmoved = self._delivered and self._delivered == self.stats().delivered
        return len(self._kept) > self._request_size and not unmoved

    def _send_kept(self, data: bytes) -> None:
        """Send what waits and `data`, and keep it; under the lock."""
        if self._delivered is None:
            self._delivered = self.stats().delivered
        data, self._unsent = self._unsent + data, b""
        self._kept += data
        try:
            if data:
                self._lease.send(data)
        except Closed:
            pass  # whoever reads learns it, and why


def read_reply(recv: Callable[[int], bytes]) -> tuple[Reply, bytes]:
    """The REPLY from a stream, and what came behind it. Raises ProtocolError, or Reset at its end."""
    data = b""
    while (found := parse_reply(data)) is None:
        more = recv(65536)
        if not more:
            raise Reset(0, "the stream ended")
        data += more
    reply, end = found
    return reply, data[end:]
