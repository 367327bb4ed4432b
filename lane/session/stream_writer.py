"""Writes a session's bytes to the stream that carries it at present.

Writers share one lock. Its holder also sends control frames that become due meanwhile, so that no greenlet
waits behind a full transport just to send an ACK.
"""

from collections.abc import Callable
from time import monotonic

from gevent.lock import BoundedSemaphore

from lane.errors import Closed, LaneError
from lane.fair import this_round
from lane.session.protocol import SessionProtocol
from lane.stream import Stream, send_joined
from lane.tasks import start


class StreamWriter:
    """Calls `lost(stream, error)` when a write to a stream fails."""

    def __init__(self, protocol: SessionProtocol, lost: Callable[[Stream, LaneError], None]) -> None:
        self.stream: Stream | None = None
        """The stream that carries the session now."""
        self.lock = BoundedSemaphore(1)
        """Its holder may be blocked by the stream, until that is lost or `detach` resets it."""
        self._protocol = protocol
        self._lost = lost
        self._round = this_round()
        self._flushing = False  # a flush is scheduled

    def detach(self, code: int = 0) -> None:
        """Give up the stream, and reset it with `code`. A write that is under way fails."""
        stream, self.stream = self.stream, None
        self._protocol.detach()
        if stream is not None:
            stream.reset(code)

    def write(self, *, control_only: bool = False) -> None:
        """Write all that is due. The caller holds the lock."""
        stream, protocol = self.stream, self._protocol
        while stream is not None and stream is self.stream:
            began, turn = monotonic(), self._round.began
            chunk = protocol.data_to_send(began, control_only=control_only)
            if chunk is None:
                break
            head, data = chunk
            try:
                if data:
                    send_joined(stream, head, data)
                else:
                    stream.sendall(head)
            except LaneError as error:
                self._lost(stream, error)
                break
            except BaseException:  # a deadline of the caller, which may have cut a frame
                self._lost(stream, Closed("a write was cut off"))
                raise
            finally:
                if self._round.began != turn:  # the event loop went around: the write blocked
                    protocol.writer.send_blocked_seconds += monotonic() - began

    def write_soon(self) -> None:
        """Schedule a `write`."""
        start(self._write_locked)

    def flush(self) -> None:
        """Write control frames now, unless another greenlet is writing: that one writes them."""
        if not self.lock.locked() and self.stream is not None:
            with self.lock:  # no limit: it is free now
                self.write(control_only=True)

    def flush_soon(self) -> None:
        """Schedule a `flush`."""
        if not self.lock.locked() and not self._flushing:
            self._flushing = True
            start(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        self.flush()

    def _write_locked(self) -> None:
        with self.lock:  # no limit: see the lock
            self.write()
