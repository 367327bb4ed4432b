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

from lane.errors import LaneError
from lane.fair import be_fair
from lane.proto.frames import ResetFrame, pack, reset_code
from lane.stream import Stream
from lane.tasks import start

IN_ORDER = 1.0
"""Seconds that a RESET may take to be heard before it overtakes what was said before, where it can."""
WITHIN = 10.0
"""Seconds after which nobody waits any more until it was heard."""


def say_abort(stream: Stream, code: int, say: Callable[[], None], ended: Event) -> None:
    """Say on `stream`, by `say`, that the session was aborted with `code`.

    Waits until somebody who reads there has set `ended`: whoever hears of an abort ends the stream.
    """
    overtake: Callable[[int], None] | None = getattr(stream, "abort_sending", None)
    with suppress(LaneError), gevent.Timeout(IN_ORDER if overtake else WITHIN, False):
        say()
        ended.wait()
    if overtake and not ended.is_set():
        overtake(reset_code(code))
        ended.wait(WITHIN)


def abort_alone(stream: Stream, code: int) -> None:
    """Say it on a stream that nobody else uses, and let go of that."""
    ended = Event()

    def say() -> None:
        stream.sendall(pack(ResetFrame(code)))
        stream.finish()

    start(_read_to_end, stream, ended)
    say_abort(stream, code, say, ended)
    stream.reset(reset_code(code))


def _read_to_end(stream: Stream, ended: Event) -> None:
    try:
        while stream.recv():
            be_fair()
    except LaneError:
        pass  # that is an end as well
    finally:
        ended.set()
