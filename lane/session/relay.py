"""The relay: bytes between a local socket and a session, until both directions have ended.

Most proxies close both directions at the first end of data. A program that half-closes then loses the answer
for which it waits. Here each direction ends by itself. An error in one direction aborts both, so that a
broken connection never looks finished to the other side.

The greenlet that calls `run` sends the local side's bytes. A second greenlet exists only while there are
bytes to deliver: most sessions are idle, and a waiting greenlet costs more than all of their state.
"""

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event

from lane.errors import Closed, Failure, LaneError, Reset, Suspended
from lane.fair import AT_ONCE, maybe_yield, this_round
from lane.session.byte_queue import Buffer
from lane.session.frame_writer import PIECE
from lane.session.owner import Owner
from lane.session.session import Session
from lane.session.stream_reader import READ_SIZE
from lane.stream import Stream
from lane.supervisor import report
from lane.tasks import start

FIRST_READ = 16384
"""Bytes of the first read from the local socket. They are allocated, so reads grow only while full."""
LARGEST_READ = 2 * PIECE
"""Bytes of the largest read."""
STALLED = 2.0
"""Seconds without progress after which bytes that the local side sent before it broke are given up."""
LOOK = 0.25
"""Seconds between two looks at that progress."""


def _to_nobody(_: object) -> None:
    """For a local side that cannot hand over what is short: see `lane.stream.HandsShort`."""


class Relay(Owner):
    """The owner of a session. It moves the session's bytes in `run`. `frozen`: it goes on from there."""

    def __init__(self, frozen: dict[str, Any] | None = None) -> None:
        self._local: Stream | None = None
        self._session: Session
        self._offer: Callable[[Buffer], int] | None = None
        self._failure: Failure[LaneError] | None = None
        self._sent = False  # the local side has ended
        self._settled = False  # the peer has ended, or delivering failed
        self._delivered = Event()  # it is so, or `suspend` was called
        self._delivering = False
        self._ended = False
        self._closing = False  # all is done here, and the peer is to say that it knows
        self._halted = False  # `suspend` was called
        self._pending: Buffer = b""  # what was read from the local side and not sent
        if frozen is not None:
            self._sent, self._settled, self._closing = frozen["sent"], frozen["settled"], frozen["closing"]
            self._pending = frozen["pending"]
            self._failure = Failure.thaw(frozen["failure"]) if frozen["failure"] else None

    def run(self, local: Stream | None, session: Session, early: bytes = b"") -> LaneError | None:
        """Move bytes in both directions until both have ended. Returns None, or the error at the end.

        `early` goes to the session first. Afterwards both sides are closed or reset. `local` is None if a
        relay that goes on here has closed it. Raises Suspended after `suspend`.
        """
        self._local, self._session = local, session
        self._offer = getattr(local, "offer", None)
        if watch := getattr(local, "watch", None):
            watch(partial(start, self._broke))
            if getattr(local, "broken", False) and not self._closing:  # the kernel has said it before
                start(self._broke)
        self.readable()  # bytes may have come already
        try:
            if local is not None and not self._sent:
                self._send(local, bytes(self._pending) or early)
            while not self._settled:
                self._delivered.wait()  # no limit: a session that is idle for too long is reset
                self._check()
        except Suspended:
            while self._delivering:
                gevent.sleep(0)
            raise
        except BaseException:  # this greenlet was killed
            self._abort(Closed("the relay was ended"))
            raise
        finally:
            self._ended = True
        if self._failure:
            self._abort(self._failure.build())
            self._check()
        else:
            self._closing = True
            if local is not None:
                local.close()
            session.close()
        return self._failure.build() if self._failure else session.error

    def suspend(self) -> None:
        """Have `run` raise Suspended. The local side must be suspended as well."""
        self._halted = True
        self._session.suspend()
        self.gates.up.leave(self._session)
        self.gates.down.leave(self._session)
        self._delivered.set()

    def freeze(self) -> dict[str, Any]:
        """What is left to do once `run` has raised Suspended, without both sides, as a plain value."""
        return {
            "sent": self._sent,
            "settled": self._settled,
            "closing": self._closing,
            "pending": bytes(self._pending),
            "failure": self._failure.freeze() if self._failure else None,
        }

    def _check(self) -> None:
        if self._halted:
            raise Suspended

    def _settle(self) -> None:
        self._settled = True
        self._delivered.set()

    def offer(self, data: Buffer) -> int:
        """See `Owner`."""
        return self._offer(data) if self._offer and not self.gates.up.limited else 0

    def broken(self) -> None:
        """See `Owner`."""
        if self._local is not None:
            self._local.reset()
            self.gates.up.leave(self._session)
            self.gates.down.leave(self._session)

    def readable(self) -> None:
        """See `Owner`. A greenlet delivers the received bytes, and ends."""
        if self._local is None or self._delivering or self._settled:
            return
        if self._session.ready:
            self._delivering = True
            start(self._deliver, self._local)

    def _send(self, local: Stream, data: bytes) -> None:
        """Send the local side's bytes, up to its end."""
        session, gates, gate = self._session, self.gates, self.gates.down
        size, short, loop = FIRST_READ, 0, this_round()
        hand_short_to = getattr(local, "hand_short_to", _to_nobody)
        try:
            session.sendall(data)
            data = b""  # a loop that waits keeps no memory
            hand_short_to(self._pass_on)
            waited_in = loop.began
            while data := local.recv(min(size, gate.piece)):
                moved = len(data)
                if moved == size:
                    size = min(2 * size, LARGEST_READ)
                elif size > FIRST_READ:
                    size = max(moved, FIRST_READ)
                if gate.limited:
                    gate.pay(session, moved)
                session.sendall(data)
                data = b""
                if not gates.alone:
                    gates.turn(moved, waited_in)
                elif waited_in == loop.began:  # else others had theirs
                    short = (short + 1) % AT_ONCE if moved < FIRST_READ else 0
                    if not short:
                        maybe_yield(waited_in)
                waited_in = loop.began
            self._pending = b""
            session.finish()
        except Suspended as suspended:
            self._pending = bytes(suspended.rest)
            raise
        except LaneError as error:
            if session.error is None:
                self._abort(error)
                self._settle()
            else:  # bytes before the error are still to be delivered
                self._note(error)
        finally:
            hand_short_to(None)  # it refers to the relay
        self._sent = True

    def _pass_on(self, data: bytes) -> bool:
        """Send the local side's bytes if nobody has to wait for that. Returns whether they were sent."""
        gates = self.gates
        if gates.down.limited or not gates.may_pass(len(data)):
            return False
        return self._session.send_at_once(data)

    def _deliver(self, local: Stream) -> None:
        """Deliver the bytes that have come."""
        session, gate = self._session, self.gates.up
        try:
            while session.ready:
                data = session.recv(min(READ_SIZE, gate.piece))
                if not data:
                    if not self._sent:  # else `close` does it
                        local.finish()
                        if session.error is not None:  # it was lost behind its end, and can send nothing
                            raise session.error
                    self._settle()
                    break
                if gate.limited:
                    gate.pay(session, len(data))
                local.sendall(data)
                data = b""
                session.consumed()
                if session.ready:
                    maybe_yield()
        except Suspended as suspended:
            session.receive_window.untake(suspended.rest)
            session.receive_window.consume()
        except LaneError as error:
            if session.error is None:  # the local side broke; its bytes before that are still sent
                self._note(error)
            else:
                self._abort(error)
            self._settle()
        except Exception as error:  # bytes may be lost, so none may follow them
            report("the delivery of a session's data", error)
            self._abort(Closed("the delivery of its data failed"))
            self._settle()
        finally:
            self._delivering = False

    def _broke(self) -> None:
        """The local side was reset, maybe while no greenlet reads it. The peer must learn of it."""
        buffer = self._session.send_buffer
        taken, last = buffer.acked, monotonic()
        while not self._ended:
            if buffer.acked != taken:
                taken, last = buffer.acked, monotonic()
            # Data with an end is whole, and gets all the time it needs. Data without an end is given up.
            if buffer.fin_acked or (not self._sent and monotonic() - last > STALLED):
                self._abort(Reset())
                self._settle()
                return
            gevent.sleep(LOOK)

    def _note(self, error: LaneError) -> None:
        """Keep the first error."""
        self._failure = self._failure or Failure.of(error)

    def _abort(self, error: LaneError) -> None:
        self._note(error)
        self._session.reset()
        self.broken()
