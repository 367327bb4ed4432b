"""A UDP association through the server."""

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
    """Sends and receives `packets` for any address through `session`, which it owns."""

    def __init__(self, session: Session, packets: Packets) -> None:
        self.over = Event()
        """Set when no more packets will arrive."""
        self._session = session
        self._packets = packets
        packets.begin(session)
        self._life: gevent.Greenlet[..., None] | None = None
        self._closing = False

    def begin(self, resources: ExitStack) -> None:
        """Start to deliver packets. `resources` are closed at the end."""
        self._life = gevent.spawn(self._live, resources)

    def answered(self, error: LaneError | None) -> None:
        """Note the server's answer: None if it knows the association. An `error` ends the session."""
        self._packets.peer_ready = error is None

    def send(self, target: Address, payload: Buffer) -> None:
        """Send one packet. Never blocks. The packet may be lost, as UDP packets may."""
        self._packets.send(target, payload)

    def close(self) -> None:
        """End the association. Idempotent, never blocks. Queued packets have some seconds left to be sent."""
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
