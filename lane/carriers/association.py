"""A UDP association through the server."""

import logging

import gevent
from gevent.event import Event

from lane.carriers.departures import Departures, Goes
from lane.carriers.session_driver import SessionDriver
from lane.errors import LaneError, Suspended
from lane.session.packets import GOODBYE, Packets
from lane.session.parcel import Parcel
from lane.taken import Taken

log = logging.getLogger("lane.client")


class TunnelAssociation:
    """Sends and receives `packets` for any address through the session of `driver`, which it owns."""

    at_once = True
    """See `Leaver`."""

    def __init__(self, driver: SessionDriver, packets: Packets, departures: Departures) -> None:
        self.over = Event()
        """Set when no more packets will arrive."""
        self.driver = driver
        self._session = driver.session
        self._packets = packets
        self.send = packets.send
        """See `Association`."""
        self._departures = departures
        self._goes: Goes | None = None
        packets.begin(driver.session)
        self._life: gevent.Greenlet[..., None] | None = None
        self._closing = False

    def begin(self, taken: Taken) -> None:
        """Start to deliver packets. `taken` is closed at the end."""
        self._life = gevent.spawn(self._live, taken)

    def answered(self, error: LaneError | None) -> None:
        """Note the server's answer: None if it knows the association. An `error` ends the session."""
        self._packets.peer_ready = error is None

    def leaves(self, goes: Goes | None) -> None:
        """See `Association`."""
        if goes is None or self.over.is_set():
            self._goes = None
            self._departures.end(self)
        else:
            self._goes = goes
            self._departures.begin(self)

    def suspend(self) -> None:
        """See `Leaver`."""
        self._session.suspend()

    def close(self) -> None:
        """End the association. Idempotent, never blocks. Queued packets have some seconds left to be sent."""
        if not self._closing:
            self._closing = True
            gevent.spawn(self._end)

    def _live(self, taken: Taken) -> None:
        parcel, error = None, None
        with taken:
            try:
                error = self._packets.run()
            except Suspended:
                self._closing = True
                parcel = self._parcel()
            finally:
                self._departures.end(self, parcel)
                self.over.set()
                self._goes = None  # who goes has this
            if error is None and parcel is None:
                self._session.close()
        how, dropped = error or "in good order", self._packets.dropped
        if parcel is None:
            log.debug("an association ended: %s; %d packets dropped", how, dropped)

    def _parcel(self) -> Parcel:
        """It, and what is on the application's side, which ends here."""
        assert self._goes is not None
        state, descriptors = self._goes()
        whole = {"driver": self.driver.freeze(), "packets": self._packets.freeze()}
        return Parcel({**state, **whole, "session": self._session.protocol.freeze()}, descriptors)

    def _end(self) -> None:
        with gevent.Timeout(GOODBYE, False):
            self._packets.finish()
            if self._life:
                self._life.join()
        self._session.reset()
