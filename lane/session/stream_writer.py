"""Writes a session's bytes to the stream that carries it at present.

Writers share one lock. Its holder also sends control frames that become due meanwhile, so that no greenlet
waits behind a full transport just to send an ACK.
"""

from abc import abstractmethod
from collections.abc import Callable
from time import monotonic
from typing import Any

from gevent.lock import BoundedSemaphore

from lane.errors import Closed, LaneError
from lane.fair import this_round
from lane.session.activity import AWAKE
from lane.session.byte_queue import Buffer
from lane.session.protocol import SessionProtocol
from lane.session.session_view import SessionView
from lane.stream import Stream, joiner
from lane.tasks import start


class StreamWriter(SessionView):
    """The writing part of a session.

    It is a part of the same object and not an object of its own: two objects that refer to each other are
    freed by the garbage collector only, and sessions come and go by the thousand.
    """

    def __init__(self, protocol: SessionProtocol, wake: Callable[[Any], None]) -> None:
        super().__init__(protocol)
        self._wake = wake
        self._stream: Stream | None = None  # the one that carries the session now
        # Its holder may be blocked by the stream, until that is lost or `detach` resets it.
        self._lock = BoundedSemaphore(1)
        self._round = this_round()
        self._flushing = False  # a flush is scheduled

    @abstractmethod
    def _lost(self, stream: Stream, error: LaneError | None) -> None:
        """`stream` was lost with `error`, or ended cleanly but too early if that is None."""

    def detach(self, code: int = 0) -> None:
        """Give up the stream, and reset it with `code`. A write that is under way fails."""
        stream, self._stream = self._stream, None
        self.protocol.detach()
        if stream is not None:
            stream.reset(code)

    def _write(self, *, control_only: bool = False) -> None:
        """Write all that is due. The caller holds the lock."""
        stream, protocol = self._stream, self.protocol
        while stream is not None and stream is self._stream:
            began = monotonic()
            chunk = protocol.data_to_send(began, control_only=control_only)
            if chunk is None:
                break
            if not self._hand_over(stream, *chunk, began):
                break

    def _hand_over(self, stream: Stream, head: bytes, data: Buffer, began: float) -> bool:
        """Write a chunk to `stream`, from the time `began` on. Returns whether the stream took it."""
        turn = self._round.began
        try:
            if data:
                joiner(stream)(head, data)
            else:
                stream.sendall(head)
        except LaneError as error:
            self._lost(stream, error)
            return False
        except BaseException:  # a deadline of the caller, which may have cut a frame
            self._lost(stream, Closed("a write was cut off"))
            raise
        finally:
            if self._round.began != turn:  # the event loop went around: the write blocked
                self.protocol.writer.send_blocked_seconds += monotonic() - began
        return True

    def _write_message(self, data: Buffer) -> bool:
        """Send `data`, and write them at once, if that is the only thing to do. Returns whether it was."""
        protocol = self.protocol
        with self._lock:  # no limit: see the lock
            stream, now, last_data = self._stream, monotonic(), protocol.activity.last_data
            if stream is None or (head := protocol.send_message(data, now)) is None:
                return False
            consumed = self.receive_window.consumed
            if now - last_data > AWAKE:
                self._wake(self)
            self._hand_over(stream, head, data, now)
            if protocol.writer.due or self.receive_window.consumed != consumed:  # while it blocked
                self._write()
        return True

    def send_at_once(self, data: bytes) -> bool:
        """Send `data` if nobody has to wait for that, and return whether it was sent. Never blocks."""
        protocol, stream, now = self.protocol, self._stream, monotonic()
        send_now, last_data = getattr(stream, "send_now", None), protocol.activity.last_data
        if stream is None or send_now is None or self._lock.locked():
            return False
        if (head := protocol.send_message(data, now)) is not None:
            frames = head + data
        elif protocol.writer.caught_up and self.send_buffer.allows(len(data)):
            protocol.send(data, now)
            frames = b"".join(protocol.data_to_send(now) or ())
        else:
            return False
        if now - last_data > AWAKE:
            self._wake(self)
        try:
            done = send_now(frames)
        except LaneError as error:
            self._lost(stream, error)
        else:
            if not done:
                self._lock.acquire()  # no limit: it was free, and nobody else ran since
                start(self._write_rest, stream, now)
        return True

    def _write_rest(self, stream: Stream, began: float) -> None:
        """Wait until the stream has taken what it had no room for, and release the lock."""
        try:
            stream.sendall(b"")
            self.protocol.writer.send_blocked_seconds += monotonic() - began
            self._write()
        except LaneError as error:
            self._lost(stream, error)
        finally:
            self._lock.release()

    def _write_locked(self) -> None:
        with self._lock:  # no limit: see the lock
            self._write()

    def _write_soon(self) -> None:
        """Schedule a write."""
        start(self._write_locked)

    def _flush(self) -> None:
        """Write control frames now, unless another greenlet is writing: that one writes them."""
        if not self._lock.locked() and self._stream is not None:
            with self._lock:  # no limit: it is free now
                self._write(control_only=True)

    def _flush_soon(self) -> None:
        """Schedule a flush."""
        if not self._lock.locked() and not self._flushing:
            self._flushing = True
            start(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        self._flush()
