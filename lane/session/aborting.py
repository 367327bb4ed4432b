"""How one side tells the other that it aborts a session.

Only a frame or a reset code of the peer ends a session. A lost stream means a lost network: the peer waits
for the session to come back. So the news of an abort must arrive, however busy both ends are. First a RESET
frame goes out behind all data. If the peer does not react soon, the code of the stream's own reset follows,
where the transport has one: it overtakes the data. The aborting side waits until the peer has heard.
"""

from collections.abc import Callable
from contextlib import suppress

import gevent
from gevent.event import Event

from lane.errors import LaneError
from lane.fair import maybe_yield
from lane.proto.frames import ResetFrame, pack, reset_code
from lane.stream import Stream
from lane.tasks import start

IN_ORDER = 1.0
"""Seconds for the RESET frame to be heard, before the stream's own reset overtakes it."""
WITHIN = 10.0
"""Seconds after which the aborting side gives up the wait."""


def say_abort(stream: Stream, code: int, say: Callable[[], None], ended: Event) -> None:
    """Tell the peer on `stream` that the session was aborted with `code`. `say` sends the RESET frame.

    Waits until the stream's reader has set `ended`: a peer that hears of an abort ends the stream.
    """
    overtake: Callable[[int], None] | None = getattr(stream, "abort_sending", None)
    with suppress(LaneError), gevent.Timeout(IN_ORDER if overtake else WITHIN, False):
        say()
        ended.wait()
    if overtake and not ended.is_set():
        overtake(reset_code(code))
        ended.wait(WITHIN)


def abort_alone(stream: Stream, code: int) -> None:
    """Tell the peer on a stream that nobody else uses, and close the stream."""
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
            maybe_yield()
    except LaneError:
        pass  # a reset ends the stream as well
    finally:
        ended.set()
