"""The requests of one client session: what is asked of the server, again and again, on one stream each.

The first request of a session has a command such as CONNECT. A later one requests the same session: with
RESUME if the server may know the session, otherwise with the first command again. Each request has a higher
generation, so a late one does no harm.
"""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Any

import gevent

from lane.carriers.lanes import Lane, Lanes, Leased
from lane.carriers.request_stream import RequestStream, Unanswered
from lane.errors import Closed, LaneError, Refused, Status, TargetError, TurnedAway, Unreachable
from lane.proto.frames import End, Received, pack, pack_ack
from lane.proto.hello import EARLY, NOWHERE, RESUMABLE, Command, Reply, Request
from lane.session.session import Session

TRIES = 3
"""Number of requests for a session that no server has answered yet."""
PAUSE = 0.25
"""Seconds before the second request to a server that turned the first one away; doubled before the third."""
PATIENCE = 1.0
"""Seconds that a server has to answer RESUME; more on a long path."""


def _nobody(_: LaneError | None) -> None:
    """Do nothing: nobody wants the outcome."""


class SessionRequests:
    """Requests `session`. `first` is its first request, except the generation.

    `deadline`: the time until which the server must have sent its first REPLY.
    """

    def __init__(self, lanes: Lanes, session: Session, first: Request, deadline: float) -> None:
        self.first = first
        """The first request."""
        self.generation = -1
        """That of the newest request."""
        self.server_epoch: bytes | None = None
        """The server process that has the session; None before the first REPLY."""
        self.lane: Lane | None = None
        """The lane of the newest request."""
        self.answered: Callable[[LaneError | None], None] = _nobody
        """Called once with the outcome of the request: None for a good REPLY, otherwise the error."""
        self._lanes = lanes
        self._session = session
        self._deadline = deadline
        self._first_epoch: bytes | None = None  # the last server process known at the first request
        self._tries = TRIES

    def thaw(self, frozen: dict[str, Any]) -> None:
        """Go on with those of another process."""
        self.generation, self.server_epoch = frozen["generation"], frozen["epoch"]

    def freeze(self) -> dict[str, Any]:
        """What `thaw` needs in another process, as a plain value."""
        return {"request": self.first.freeze(), "generation": self.generation, "epoch": self.server_epoch}

    def ask(
        self,
        command: int,
        lane: Lane | None = None,
        fresh: bool = False,
        *,
        farewell: bool = False,
        leased: Leased | None = None,
    ) -> RequestStream:
        """A stream with a request for the session. Raises Unreachable or Refused, Closed if it is over.

        `farewell`: the session is over, and the request is only to tell the server so.
        """
        found, lease = leased or self._lanes.lease(lane, fresh=fresh)
        if self._session.done_here and not farewell:  # meanwhile
            lease.discard()
            raise Closed("the session is over")
        self.lane = found
        self.generation += 1
        if self._first_epoch is None:
            self._first_epoch = self._lanes.server_epoch
        request = self.first
        if request.generation != self.generation:
            request = replace(request, generation=self.generation)
        if command == Command.RESUME:
            request = replace(request, command=command, address=NOWHERE, flags=RESUMABLE)
        window = self._session.receive_window
        behind = pack(Received(window.arrived)) if self.generation else b""
        if farewell and self._session.complete:
            behind += pack_ack(window.consumed, window.window) + pack(End())
        only = self.server_epoch is None and not farewell
        timeout = self._deadline - monotonic() if only else found.patience(PATIENCE)
        stream = RequestStream(lease, request, max(timeout, 0.0), behind, only=only)
        stream.answered = self._replied
        return stream

    def insist(self, stream: RequestStream) -> RequestStream:
        """The stream with the first good REPLY: `stream` or a later one. Raises the final failure."""
        while True:
            try:
                stream.reply()
            except LaneError as error:
                if (following := self._retry(stream, error)) is None:
                    raise
                stream = following
            else:
                return stream

    def _retry(self, lost: RequestStream, error: LaneError) -> RequestStream | None:
        """Repeat a request without a REPLY on another carrier. None if that can't help.

        The server may have received the first request with data, and data must not reach the target twice.
        So the repeated request is RESUME. It is the first command again only if no data were sent, or if the
        same server process has said that it does not know the session.
        """
        self._tries -= 1
        gone = isinstance(error, TargetError) and error.status is Status.GONE
        aged = isinstance(error, Unreachable | Refused) and (lost.lease.distrusted or not lost.lease.fresh)
        turned_away = isinstance(error, TurnedAway | Unanswered) and not aged
        if not self._tries or self._session.done_here or not (gone or aged or turned_away):
            return None
        if turned_away:
            gevent.sleep(PAUSE * (TRIES - self._tries))
        if gone and (lost.server_epoch is None or lost.server_epoch != self._first_epoch):
            raise Closed("the connection to the server was lost, and data with it")
        begin = gone or not self._session.send_buffer.sent
        return self.ask(self.first.command if begin else Command.RESUME, fresh=True)

    def resume(
        self,
        lane: Lane | None,
        fresh: bool = False,
        *,
        farewell: bool = False,
        leased: Leased | None = None,
    ) -> RequestStream:
        """A stream on `lane` (None: on any) on which the server resumed the session. Raises LaneError.

        `leased`: the stream.
        """
        stream = self.ask(Command.RESUME, lane, fresh, farewell=farewell, leased=leased)
        try:
            stream.reply()
        except TargetError as error:
            if error.status is Status.TTL_EXPIRED:
                stream.lease.distrust()
            raise
        return stream

    def _replied(self, reply: Reply) -> None:
        first, self.server_epoch = self.server_epoch is None, reply.server_epoch
        self._lanes.heard(reply.server_epoch)
        if first:
            self._session.grant(max(reply.window, EARLY))
            self.tell(None)

    def tell(self, error: LaneError | None) -> None:
        """Call `answered`, and let go of it."""
        answered, self.answered = self.answered, _nobody
        answered(error)
