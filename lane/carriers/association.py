"""A UDP association through the server, from its session to its end."""

import logging
from contextlib import ExitStack

import gevent
from gevent.event import Event

from lane.address import Address
from lane.errors import LaneError
from lane.session.byte_queue import Buffer
from lane.session.packets import GOODBYE, Packets
from lane.session.session import Session

log = logging.getLogger("lane.client")


class TunnelAssociation:
    """`packets` to and from anywhere, through `session`, which is theirs."""

    def __init__(self, session: Session, packets: Packets) -> None:
        self.over = Event()
        """Set when nothing will come any more."""
        self._session = session
        self._packets = packets
        packets.begin(session)
        self._life: gevent.Greenlet[..., None] | None = None
        self._closing = False

    def begin(self, resources: ExitStack) -> None:
        """Deliver what comes, until the end, when `resources` are closed."""
        self._life = gevent.spawn(self._live, resources)

    def answered(self, error: LaneError | None) -> None:
        """The server knows the association, unless there is an `error`, which ends the session."""
        self._packets.peer_ready = error is None

    def send(self, target: Address, payload: Buffer) -> None:
        """Send one packet. Never blocks; it may be lost, as packets are."""
        self._packets.send(target, payload)

    def close(self) -> None:
        """End the association. Idempotent, never blocks: what waits still has some seconds to leave."""
        if not self._closing:
            self._closing = True
            gevent.spawn(self._end)

    def _live(self, resources: ExitStack) -> None:
        with resources:
            error = self._packets.run()
            self.over.set()
            if error is None:
                self._session.close()
        how, dropped = error or "in good order", self._packets.dropped
        log.debug("an association ended: %s; %d packets dropped", how, dropped)

    def _end(self) -> None:
        with gevent.Timeout(GOODBYE, False):
            self._packets.finish()
            if self._life:
                self._life.join()
        self._session.reset()
