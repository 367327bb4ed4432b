"""Writes what a session's protocol has to say to whatever stream carries it at the moment.

Writers share one lock. The holder also sends the control frames that came up meanwhile, so that nobody waits
behind a full transport to send an ACK.
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
    """`lost(stream, error)` hears that writing to a stream failed."""

    def __init__(self, protocol: SessionProtocol, lost: Callable[[Stream, LaneError], None]) -> None:
        self.stream: Stream | None = None
        """What carries the session now."""
        self.lock = BoundedSemaphore(1)
        """Whoever has it may be held up by the stream: until that is lost, or `detach` resets it."""
        self._protocol = protocol
        self._lost = lost
        self._round = this_round()
        self._flushing = False  # somebody is about to

    def detach(self, code: int = 0) -> None:
        """Write to nothing, until there is another stream. Whoever is writing fails, and does not mind.

        `code`: what the stream is reset with.
        """
        stream, self.stream = self.stream, None
        self._protocol.detach()
        if stream is not None:
            stream.reset(code)

    def write(self, *, control_only: bool = False) -> None:
        """Write all that there is, under the lock."""
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
            except BaseException:  # a deadline of the caller's: it may have left half a frame behind
                self._lost(stream, Closed("a write was cut off"))
                raise
            finally:
                if self._round.began != turn:  # the event loop went around: it was not taken at once
                    protocol.writer.send_blocked_seconds += monotonic() - began

    def write_soon(self) -> None:
        """Have all written that there is, without waiting for it."""
        start(self._write_locked)

    def flush(self) -> None:
        """Write control frames, unless somebody is writing, who will do it."""
        if not self.lock.locked() and self.stream is not None:
            with self.lock:  # no limit: it is free now
                self.write(control_only=True)

    def flush_soon(self) -> None:
        """Write control frames without waiting for it."""
        if not self.lock.locked() and not self._flushing:
            self._flushing = True
            start(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        self.flush()

    def _write_locked(self) -> None:
        with self.lock:  # no limit: see the lock
            self.write()
