"""The process whose place this one takes, and its sessions.

One worker of a server takes over from one worker, and a client from a client: `succeed` before it listens,
`serve` once it does. From then on it asks the other for its sessions: for each whose client comes, or for
those that a client offers. At the end the other sends those that nobody has asked for.
"""

import logging
from collections.abc import Callable
from typing import Any, Protocol

import gevent

from lane.errors import Closed, Fatal, LaneError
from lane.fair import maybe_yield
from lane.handover import channel
from lane.handover.exchange import Others
from lane.handover.succession import FORMAT
from lane.session.parcel import Parcel
from lane.supervisor import report

PAUSE_TIME = 10.0
"""Seconds that the other process has to stop listening."""

log = logging.getLogger("lane.handover")


class Heir(Protocol):
    """What goes on with sessions: see `lane.server.requests` and `lane.handover.arrivals`."""

    def adopt(self, parcel: Parcel) -> None:
        """Go on with a session."""

    def lose_sight(self, seconds: float = ...) -> None:
        """Sessions of a process that has died must not be begun again."""


def _nothing(_: dict[str, Any]) -> None:
    """Do nothing: a server says nothing else."""


def _ignore() -> None:
    """Do nothing."""


class Predecessor:
    """The process with the desk `name`. `again`: this one is started again, and that one may have ended.

    `ended` is called when that process has left, or has died.
    """

    def __init__(self, name: str, ended: Callable[[], None] = _ignore, *, again: bool = False) -> None:
        self.name = name
        self._ended = ended
        self._again = again
        self._sock: Any = None

    def succeed(self) -> None:
        """Have it listen no more. Raises Fatal if it does not make room."""
        try:
            self._sock = channel.connect(self.name)
            with gevent.Timeout(PAUSE_TIME, Closed("no answer")):
                channel.send(self._sock, {"succeed": FORMAT})
                value, _ = channel.receive(self._sock)
        except (OSError, LaneError) as error:
            if self._again:
                self._sock = None
                self._ended()
                return
            raise Fatal(f"the running process does not make room: {error}") from None
        if value != {"paused": True}:
            raise Fatal(f"the running process does not make room: {value}")

    def serve(
        self, heir: Heir, others: Others, desk: str, told: Callable[[dict[str, Any]], None] = _nothing
    ) -> None:
        """Tell it that this process serves and answers at `desk`, and take over its sessions.

        `told` gets what else it says.
        """
        if self._sock is not None:
            gevent.spawn(self._take_over, heir, others, desk, told)

    def _take_over(
        self, heir: Heir, others: Others, desk: str, told: Callable[[dict[str, Any]], None]
    ) -> None:
        try:
            with self._sock:
                with gevent.Timeout(PAUSE_TIME, Closed("no answer")):
                    channel.send(self._sock, {"serving": desk, "keeps": True})
                self._collect(heir, told)
        except (OSError, LaneError) as error:
            log.warning("the process before this one has died, and its last sessions: %s", error)
            heir.lose_sight()
        except Exception as error:
            report("taking over sessions", error)
            heir.lose_sight()
        others.names = [name for name in others.names if name != self.name]
        self._ended()

    def _collect(self, heir: Heir, told: Callable[[dict[str, Any]], None]) -> None:
        """Take what nobody has asked for."""
        count = 0
        while True:
            # no limit: the other process decides when its time is over, and its end is noticed
            value, descriptors = channel.receive(self._sock)
            if "parcel" in value:
                heir.adopt(Parcel(value["parcel"], descriptors))
                count += 1
                maybe_yield()
                continue
            told(value)
            if "end" in value:
                break
        channel.send(self._sock, {"done": True})
        log.info("took over the last %d sessions of the process before this one, which has ended", count)
