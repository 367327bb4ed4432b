"""How the side that aborts a session says so: in order if that is quick, past what waits if it is not.

Only what a peer says ends a session. A stream that is merely gone, with its carrier or without, is a lost
network, and the peer waits for the session to come back. So what is said has to arrive, however busy both
ends are: a RESET behind all that was said before, then the code of the stream's own reset, where the
transport has one, which overtakes what waits. And whoever says it waits until it was heard.
"""

from collections.abc import Callable
from contextlib import suppress

import gevent
from gevent.event import Event

from lane.errors import LaneError, Reset
from lane.fair import be_fair
from lane.proto.frames import ResetFrame, pack, reset_code
from lane.stream import Stream
from lane.tasks import start

IN_ORDER = 1.0
"""Seconds that a RESET may take to be heard before it overtakes what was said before, where it can."""
WITHIN = 10.0
"""Seconds after which nobody waits any more until it was heard."""


class Parting:
    """The abort of a session with `code`, on one stream after the other until it was heard."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.heard = False
        """Whether the peer knows."""

    def on(self, stream: Stream, say: Callable[[], None], ended: Event) -> None:
        """Say it on `stream`, by `say`, and wait until somebody who reads there has set `ended`."""
        overtake: Callable[[int], None] | None = getattr(stream, "abort_sending", None)
        with suppress(LaneError), gevent.Timeout(IN_ORDER if overtake else WITHIN, False):
            say()
            ended.wait()
        if overtake and not ended.is_set():
            overtake(reset_code(self.code))
            ended.wait(WITHIN)

    def alone(self, stream: Stream, first: bytes = b"") -> None:
        """Say it on a stream that nobody else uses, behind `first`, and let go of that."""
        ended = Event()

        def say() -> None:
            stream.sendall(first + pack(ResetFrame(self.code)))
            stream.finish()

        start(self._listen, stream, ended)
        self.on(stream, say, ended)
        stream.reset(reset_code(self.code))

    def answered(self, error: LaneError | None) -> None:
        """The stream ended: by `error`, or in good order. Whoever hears of an abort ends it."""
        self.heard = self.heard or error is None or isinstance(error, Reset)

    def _listen(self, stream: Stream, ended: Event) -> None:
        try:
            while stream.recv():
                be_fair()
            self.answered(None)
        except LaneError as error:
            self.answered(error)
        finally:
            ended.set()
