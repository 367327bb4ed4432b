"""Sessions with targets, as the inbounds use them: connections, and ports of the server."""

import logging
from typing import Any

from gevent.socket import socket as Socket  # noqa: N812  (the name of the type, not of a function)

from lane.address import Address, unpack
from lane.carriers.departures import Departures, Goes
from lane.carriers.session_driver import SessionDriver
from lane.errors import Closed, Reset, Status, Suspended, TargetError
from lane.session.parcel import Parcel
from lane.session.relay import Relay
from lane.session.session import Session
from lane.session.sockets import SocketStream
from lane.session.streams import SessionStream
from lane.stream import Stream
from lane.taken import Taken

log = logging.getLogger("lane.client")

RELAY = "relay"
"""The kind of a parcel with a connection whose bytes are relayed."""


class TunnelConnection:
    """A session with a target that relays no data yet: `run` starts that, `abort` drops the session."""

    at_once = False
    """See `Leaver`."""

    def __init__(
        self,
        bound: Address,
        relay: Relay,
        taken: Taken,
        driver: SessionDriver,
        departures: Departures,
    ) -> None:
        self.bound = bound
        self.driver = driver
        self._session = driver.session
        self._relay = relay
        self._taken = taken
        self._departures = departures
        self._local: SocketStream | None = None

    def begin(self) -> Stream:
        """Use the target as a stream, instead of `run`. `abort` releases it."""
        return SessionStream(self._session)

    def run(self, sock: Socket, early: bytes) -> None:
        """Relay between the application's socket and the target until both directions have ended."""
        self.go_on(SocketStream(sock), early)

    def go_on(self, local: SocketStream | None, early: bytes = b"") -> None:
        """See `run`. `local` is None if it has ended already, in another process.

        It also returns when the connection goes on in another process.
        """
        self._local, parcel, error = local, None, None
        with self._taken:
            self._departures.begin(self)
            try:
                error = self._relay.run(local, self._session, early)
            except Suspended:
                parcel = self._parcel()
            finally:
                self._departures.end(self, parcel)
        if error:
            log.debug("a session ended: %s", error)

    def suspend(self) -> None:
        """See `Leaver`."""
        if self._local is not None:
            self._local.suspend()
        self._relay.suspend()

    def _parcel(self) -> Parcel:
        state, descriptor = self._local.freeze() if self._local is not None else ({}, None)
        whole = {"kind": RELAY, "local": state, "relay": self._relay.freeze(), **frozen(self)}
        return Parcel(whole, [] if descriptor is None else [descriptor])

    def abort(self) -> None:
        """Drop the session."""
        self._taken.close()


def frozen(one: TunnelConnection) -> dict[str, Any]:
    """What every parcel has."""
    session = one.driver.session.protocol.freeze()
    return {"bound": [*one.bound], "driver": one.driver.freeze(), "session": session}


class TunnelListening(TunnelConnection):
    """A session with the peer that connects to a port of the server. Call `accept` first."""

    at_once = True
    head = b""
    """What has come of the peer's address."""

    def accept(self, goes: Goes | None = None) -> Address:
        """Wait for the connection. Returns the peer's address. Raises LaneError, TargetError if none came.

        With `goes`, another process may go on with the wait. Suspended is raised then.
        """
        session, parcel = self._session, None
        if goes is not None:
            self._departures.begin(self)
        try:
            while (found := unpack(self.head)) is None:
                more = session.recv(1)
                if not more:
                    raise Closed("the server ended the wait")
                self.head += bytes(more)
        except Reset as error:
            if error.code == Status.TTL_EXPIRED:
                raise TargetError(Status.TTL_EXPIRED, "nobody connected in time") from None
            raise
        except Suspended:
            assert goes is not None
            state, descriptors = goes()
            parcel = Parcel({**state, "head": self.head, **frozen(self)}, descriptors)
            raise
        finally:
            self._departures.end(self, parcel)
            session.waiting_for_peer = False
        self.at_once = False
        return found[0]

    def suspend(self) -> None:
        """See `Leaver`."""
        if self._local is None:
            self._session.suspend()
        else:
            super().suspend()


class TunnelMeasurement:
    """A session with the server itself: `begin` returns the stream."""

    def __init__(self, session: Session, taken: Taken, driver: SessionDriver) -> None:
        self._session = session
        self._taken = taken
        self._driver = driver

    def begin(self) -> Stream:
        """The session as a stream."""
        return SessionStream(self._session)

    def abort(self) -> None:
        """Drop the session."""
        self._taken.close()

    @property
    def consumed(self) -> int:
        """Bytes that the server has consumed."""
        return self._session.send_buffer.acked

    def losses(self) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        """Bytes sent and lost by the carrier, to the server and from it; None if they are not known."""
        near, far = self._driver.count()[1].ways
        return near and (near.sent, near.lost), far and (far.sent, far.lost)
