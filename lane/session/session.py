"""The runner of a session, as its owner uses it: it connects the protocol with streams and greenlets.

`stream_reader` has what the stream brings, and `stream_writer` what goes to it. A resumable session outlives
its stream. Without a stream, greenlets that wait in its methods go on waiting.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

from lane.budget import Budget
from lane.errors import Closed, LaneError, Suspended
from lane.proto.frames import reset_code
from lane.session.activity import AWAKE
from lane.session.byte_queue import Buffer
from lane.session.frame_writer import MOVE_DUE, PIECE, PING_DUE
from lane.session.owner import Owner
from lane.session.protocol import SessionProtocol
from lane.session.states import Direction, Life
from lane.session.stream_reader import READ_SIZE, StreamReader

LINGER = 5.0
"""Seconds to wait for the peer's END once both directions were consumed."""

_NOBODY = Owner()


class Session(StreamReader):
    """A session of `owner`. It lives on the streams of its `carry` calls, one after the other.

    `credit`: bytes that the peer takes before its first ACK. The session calls `wake` when it needs ticks.
    `resumable`: it survives the loss of a stream. `frozen`: the state of a protocol that goes on here.
    """

    user = ""
    """Whose it is, on a server."""
    moved_elsewhere = (0, 0)
    """What it had moved before it came to this process: see `moved`."""
    waiting_for_peer = False
    """Whether it waits for a peer that may take long. Then it is not idle, and a shutdown resets it."""
    _released = _suspended = False

    def __init__(
        self,
        credit: int,
        buffer_size: int,
        budget: Budget,
        owner: Owner,
        *,
        resumable: bool = False,
        wake: Callable[["Session"], None] = lambda _: None,
        frozen: dict[str, Any] | None = None,
    ) -> None:
        if frozen is None:
            protocol = SessionProtocol(credit, buffer_size, budget, monotonic(), resumable=resumable)
        else:
            protocol = SessionProtocol.thaw(frozen, budget)
        super().__init__(protocol, wake, owner)
        if frozen is not None:
            self.moved_elsewhere = self.moved

    def grant(self, credit: int) -> None:
        """The peer takes `credit` bytes before its first ACK, which is more than was known at the start."""
        self.send_buffer.limit = max(self.send_buffer.limit, credit)
        self._writable.set()

    def recv(self, limit: int = READ_SIZE) -> Buffer:
        """Block for 1 to `limit` bytes, or `b""` at the peer's end. Consumes the bytes of the last call.

        Raises Reset or Closed, after all data before it.
        """
        self.consumed()
        self._check()
        protocol = self.protocol
        while (data := protocol.read(limit)) is None:
            self._readable.clear()
            self._readable.wait()  # no limit: a session that is idle for too long is reset
            self._check()
        if not data and not protocol.complete:
            # A peer that waits in `close` should know at once that its end was consumed. END says so, if both
            # ends were. While ours is to come, the ACK leaves with it, with data before it, or at a tick.
            if self.send_buffer.final is None:
                self._wake(self)
            elif protocol.control_due:
                self._flush()
        return data

    def consumed(self) -> None:
        """The bytes of the last `recv` have left the process. The next `recv` implies this."""
        self.receive_window.consume()
        if self.receive_window.ack_due:
            self._flush()

    def sendall(self, data: Buffer) -> None:
        """Take all of `data`; block while the peer's window is full. Raises Reset or Closed."""
        protocol = self.protocol
        data = bytes(data)  # a copy of what may change
        view, start = data if len(data) <= PIECE else memoryview(data), 0
        while start < len(view):
            if self._suspended:
                raise Suspended(view[start:])
            if self._write_message(piece := view[start : start + PIECE]):
                start += len(piece)
                continue
            # The lock covers the look at the credit: a PONG promises that we know the newest.
            with self._lock:  # no limit: see the lock
                if self.suspended:  # while it waited for the lock
                    continue
                size = protocol.allowance(min(len(view) - start, PIECE))
                if size:
                    protocol.send(view[start : start + size], monotonic())
                    self._wake(self)
                    self._write()
                    start += size
                    continue
            self._writable.clear()
            protocol.want_credit()
            if protocol.control_due:
                self._flush()
            self._writable.wait()  # no limit: a session that is idle for too long is reset
        if protocol.failure:
            raise protocol.failure.build()

    def finish(self) -> None:
        """Half-close our direction. Idempotent."""
        protocol = self.protocol
        if self.send_buffer.state is Direction.OPEN and not protocol.failure:
            with self._lock:  # no limit: see the lock
                protocol.finish()
                self._write()
            if protocol.failure:
                raise protocol.failure.build()

    def reset(self, code: int = 0) -> None:
        """Abort both directions; the peer learns `code`. Never blocks."""
        protocol = self.protocol
        if self._suspended:
            return  # it goes on elsewhere
        if protocol.life is Life.OPEN:
            protocol.abort(code, Closed("the session was reset on this side"))
            self._say_abort()
        if protocol.failure:
            self._owner.broken()  # a greenlet may wait beside a session that was lost long ago
        if not self._released:
            self._released = True
            protocol.release()
            self._settle()
            self._owner = _NOBODY  # which refers to the session, too: nothing is left to tell it

    def close(self) -> None:
        """End the session cleanly if the peer's direction was consumed; otherwise reset it.

        Blocks until the peer has consumed our direction.
        """
        protocol = self.protocol
        try:
            if protocol.life is Life.OPEN and self.receive_window.ended:
                self.finish()
                while not self.send_buffer.fin_acked and not protocol.failure:
                    self._writable.clear()
                    self._writable.wait()  # no limit: a session that is idle for too long is reset
                    self._check()
                if protocol.life is Life.OPEN:
                    protocol.close()
                    with self._lock:  # no limit: see the lock
                        self._write()
                    self._unread.wait(LINGER)
        except LaneError:
            pass  # all data was acknowledged, or `error` says that it was not
        finally:
            self.reset()  # a closed session is only released
            if protocol.life is Life.CLOSED and not self.parted and (stream := self._stream):
                stream.close()

    @property
    def suspended(self) -> bool:
        """Whether it goes on elsewhere."""
        return self._suspended

    @property
    def done_here(self) -> bool:
        """Whether it needs no stream here any more: it is over, or goes on elsewhere."""
        return self.protocol.over or self._suspended

    def suspend(self) -> None:
        """Give up the stream, and wake the greenlets in `recv`, `sendall` and `close` with Suspended.

        The protocol can be frozen then, and goes on elsewhere. Here nothing more can be done with the
        session, except `drop`.
        """
        self._suspended = True
        self.detach()
        self._readable.set()
        self._writable.set()

    def drop(self) -> None:
        """Forget the bytes of a suspended session: they are held elsewhere."""
        if not self._suspended:
            return
        self.receive_window.release()
        self.send_buffer.release()
        self._owner = _NOBODY

    def _check(self) -> None:
        if self._suspended:
            raise Suspended

    def peer_completed(self) -> None:
        """The peer says that the session is complete. Its last ACK was lost."""
        self.protocol.peer_completed()
        if self.protocol.failure and self.aborting is None:
            self.detach(reset_code(0))
        self._settle()
        self._writable.set()

    def note_datagram(self, size: int, *, received: bool) -> None:
        """Count a datagram of `size` bytes: the session is active."""
        protocol, now = self.protocol, self._round.began
        if now - protocol.activity.last_data > AWAKE:
            self._wake(self)
        protocol.activity.note_datagram(size, now, protocol.liveness, received=received)

    def ping(self) -> None:
        """Send a PING, unless one is outstanding."""
        if self.carried and not self.protocol.liveness.asked:
            self.protocol.writer.due |= PING_DUE
            self._flush_soon()

    def ask_to_move(self) -> None:
        """Ask the peer, a client, to move the session to another carrier. One that can't does nothing."""
        if self.carried:
            self.protocol.writer.due |= MOVE_DUE
            self._flush_soon()

    def tick(self, now: float) -> bool:
        """Do the upkeep: late ACKs, liveness, unused windows. Returns whether more ticks are needed."""
        protocol = self.protocol
        if self.carried and protocol.wants_figures(now):
            protocol.liveness.measured(self._stats(), now)
        more = protocol.tick(now)
        if protocol.control_due:
            self._flush_soon()
        return more
