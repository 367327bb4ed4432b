"""Opens sessions with targets over the lanes.

It waits for the server's answer, and reports the true result. With fast open it reports success at once.
"""

import logging
import os
from collections.abc import Callable, Hashable
from enum import Enum
from functools import partial
from time import monotonic
from typing import Any

import gevent

from lane import census
from lane.address import Address
from lane.carriers.association import TunnelAssociation
from lane.carriers.departures import Departures
from lane.carriers.lanes import Leased
from lane.carriers.path_control import PathControl
from lane.carriers.recent_targets import RecentTargets
from lane.carriers.request_stream import RequestStream, Unanswered
from lane.carriers.session_driver import SessionDeadlines, SessionDriver
from lane.carriers.tunnels import TunnelConnection, TunnelListening, TunnelMeasurement
from lane.errors import LaneError, Refused, Status, TargetError, TurnedAway, Unreachable
from lane.log import Throttle
from lane.proto.hello import ANYONE, EARLY, ID_SIZE, NOWHERE, RESUMABLE, Command, Request
from lane.proto.udp import FLOW_SIZE
from lane.session.byte_queue import Buffer
from lane.session.owner import Owner
from lane.session.packets import WINDOW, Packets
from lane.session.parcel import Parcel
from lane.session.registry import Registry
from lane.session.relay import Relay
from lane.session.session import Session
from lane.session.sockets import SocketStream
from lane.taken import Taken
from lane.tasks import start

log = logging.getLogger("lane.client")

PAUSES = 0.25, 0.75
"""Seconds before each further PING to a server that ended the connection early."""


class Targets(Enum):
    """Entries of the recent targets that stand for many targets. No application can name them."""

    UDP = "UDP"

    def __str__(self) -> str:
        return self.value


class FastOpen(Enum):
    """Whether an application hears that it is connected before the server has confirmed it."""

    AUTO = "auto"
    """Only for a target that was reached lately."""
    ON = "on"
    OFF = "off"


class TunnelConnector:
    """Opens sessions over the lanes of `paths`, which watches over the sessions."""

    def __init__(
        self,
        paths: PathControl,
        registry: Registry,
        deadlines: SessionDeadlines,
        fast_open: FastOpen = FastOpen.AUTO,
        max_associations: int = 1024,
    ) -> None:
        self._paths = paths
        self._lanes = paths.lanes
        self._registry = registry
        self._deadlines = deadlines
        self._fast_open = fast_open
        self._recent_targets = RecentTargets()
        self._max_associations = max_associations
        self._associations = 0
        self._refusals = Throttle()
        self.departures = Departures(paths.forget)
        """The connections that another process may go on with."""
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {
            "associations": self._associations,
            "reached": len(self._recent_targets),
            "departures": len(self.departures),
        }

    def connect(self, target: Address) -> TunnelConnection:
        """A connection to `target`. Raises TargetError with the true reason, except with fast open."""
        with Taken() as taken:
            relay = Relay()
            _, driver = self._driver(taken, relay, self._request(Command.CONNECT, target))
            fast = self._fast(target)
            if fast:
                driver.requests.answered = lambda error: self._answered(target, error)
            try:
                bound = self._begin(driver, fast=fast)
            except TargetError as error:
                self._recent_targets.note(target, False)
                if (
                    error.status is Status.NOT_ALLOWED
                    and (missed := self._refusals.allows(target)) is not None
                ):
                    more = f" ({missed} more times since the last message)" if missed else ""
                    log.info("the server refused %s: %s%s", target, error, more)
                raise
            except LaneError as error:
                raise self._failure(target, error) from None
            if not fast:
                self._recent_targets.note(target, True)
            return TunnelConnection(bound, relay, taken.move(), driver, self.departures)

    def associate(
        self, deliver: Callable[[Address, Buffer], None], *, anyone: bool = False
    ) -> TunnelAssociation:
        """A UDP association. It calls `deliver(source, payload)` for each incoming packet.

        `deliver` must not block. `anyone`: accept packets from addresses to which none was sent. Raises
        TargetError, except with fast open.
        """
        with Taken() as taken:
            if self._associations >= self._max_associations:
                raise TargetError(Status.FAILURE, "too many UDP associations at once")
            self._associations += 1
            taken.then(self._dissociate)
            request = self._request(Command.UDP, NOWHERE, ANYONE if anyone else 0)
            packets = Packets(request.session[:FLOW_SIZE], deliver)
            _, driver = self._driver(taken, packets, request, WINDOW)
            association = TunnelAssociation(driver, packets, self.departures)
            fast = self._fast(Targets.UDP)

            def answered(error: LaneError | None) -> None:
                association.answered(error)
                self._answered(Targets.UDP, error)

            driver.requests.answered = answered
            try:
                self._begin(driver, fast=fast)
            except TargetError:
                self._recent_targets.note(Targets.UDP, False)
                raise
            except LaneError as error:
                raise self._failure(Targets.UDP, error) from None
            association.begin(taken.move())
            return association

    def associate_again(
        self, parcel: Parcel, leased: Leased | None, deliver: Callable[[Address, Buffer], None]
    ) -> TunnelAssociation:
        """Go on with an association that left another process: see `associate` and `take_over`."""
        with Taken() as taken:
            self._associations += 1
            taken.then(self._dissociate)
            key = parcel.state["driver"]["request"][4]
            packets = Packets(key[:FLOW_SIZE], deliver, parcel.state["packets"])
            packets.peer_ready = True
            driver = self._thaw(taken, packets, parcel.state, WINDOW)
            association = TunnelAssociation(driver, packets, self.departures)
            association.begin(taken.move())
        start(driver.go_on, leased)
        return association

    def _dissociate(self) -> None:
        self._associations -= 1

    def bind(self, peer: Address) -> TunnelListening:
        """A port on the server for one connection from `peer`. Raises TargetError with the true reason."""
        try:
            return self._listen(Command.BIND, peer)
        except TargetError:
            raise
        except LaneError as error:
            raise self._failure(peer, error) from None

    def reverse(self, where: Address) -> TunnelListening:
        """A session for one connection to `where` on the server, an IP address. Port 0: the server picks one.

        Raises TargetError if the server refuses, Unreachable or another LaneError if it can't be reached.
        """
        return self._listen(Command.REVERSE, where)

    def _listen(self, command: Command, address: Address) -> TunnelListening:
        with Taken() as taken:
            relay = Relay()
            session, driver = self._driver(taken, relay, self._request(command, address))
            session.waiting_for_peer = True
            bound = self._begin(driver, fast=False)
            return TunnelListening(bound, relay, taken.move(), driver, self.departures)

    def listen_again(self, parcel: Parcel, leased: Leased | None) -> TunnelListening:
        """Go on with a wait that left another process: see `take_over`. It leaves the descriptors."""
        with Taken() as taken:
            relay, bound = Relay(), Address(*parcel.state["bound"])
            driver = self._thaw(taken, relay, parcel.state)
            driver.session.waiting_for_peer = True
            listening = TunnelListening(bound, relay, taken.move(), driver, self.departures)
        listening.head = parcel.state["head"]
        start(driver.go_on, leased)
        return listening

    def measure(self) -> TunnelMeasurement:
        """A session with the server itself. Raises TargetError if it refuses, or another LaneError."""
        with Taken() as taken:
            relay = Relay()
            session, driver = self._driver(taken, relay, self._request(Command.MEASURE, NOWHERE))
            self._begin(driver, fast=False)
            return TunnelMeasurement(session, taken.move(), driver)

    def ping(self) -> float:
        """The seconds that the server takes to answer a PING request on a new carrier.

        If the server ends the connection early, it may only be crowded, so `ping` tries again. Raises
        Unreachable or Refused.
        """
        for pause in PAUSES:
            try:
                return self._ping()
            except TurnedAway as error:
                log.info("the server turned us away, trying again: %s", error)
            except Unanswered as error:  # it means a wrong key only if it happens again
                log.debug("trying again: %s", error)
            gevent.sleep(pause)
        return self._ping()

    def lacks(self) -> list[str]:
        """The names of features that the client needs and the server, of an older version, does not have.

        Raises Unreachable or Refused.
        """
        one, other = os.urandom(ID_SIZE), os.urandom(ID_SIZE)
        needed = (
            ("connections that resume", Request(Command.CONNECT, NOWHERE, 0, RESUMABLE, one)),  # port 0
            ("resuming", Request(Command.RESUME, NOWHERE, 0, RESUMABLE, other)),
            ("probes", Request(Command.PROBE, NOWHERE, 0)),
            ("UDP", Request(Command.UDP, NOWHERE, 0)),
        )
        return [name for name, request in needed if not self._knows(request)]

    def _knows(self, request: Request) -> bool:
        _, lease = self._lanes.lease()
        stream = RequestStream(lease, request, self._deadlines.request)
        try:
            stream.reply()
        except TargetError as error:
            return error.status is not Status.COMMAND_NOT_SUPPORTED
        finally:
            stream.discard()
        return True

    def _ping(self) -> float:
        _, lease = self._lanes.lease(fresh=True)
        stream = RequestStream(lease, Request(Command.PING, NOWHERE, 0), self._deadlines.request)
        start = monotonic()
        try:
            self._lanes.heard(stream.reply().server_epoch)
        except TargetError as error:
            if error.status is Status.TTL_EXPIRED:
                raise Unreachable(str(error)) from None
            raise Refused(f"the server refused: {error}") from None
        finally:
            stream.discard()
        return monotonic() - start

    def _request(self, command: Command, address: Address, flags: int = 0) -> Request:
        """The request for a new session."""
        return Request(command, address, self._registry.window, RESUMABLE | flags, os.urandom(ID_SIZE))

    def _driver(
        self, taken: Taken, owner: Owner, request: Request, buffer_size: int | None = None
    ) -> tuple[Session, SessionDriver]:
        """A session that counts against the limits until `taken` is closed, and its driver."""
        taken.then(self._registry.admit().leave)
        held = self._registry.session(EARLY, owner, resumable=True, buffer_size=buffer_size)
        taken.then(held.leave)
        session = held.value
        return session, SessionDriver(self._lanes, session, request, self._deadlines)

    def take_over(self, parcel: Parcel, leased: Leased | None) -> Callable[[], None]:
        """Go on with a connection that left another process. `leased`: a stream for it, if there is one.

        The caller calls the result, which relays until both directions have ended. Raises TargetError if
        there is no room for the connection.
        """
        with Taken() as taken:
            relay, bound = Relay(parcel.state["relay"]), Address(*parcel.state["bound"])
            driver = self._thaw(taken, relay, parcel.state)
            local = parcel.descriptors and SocketStream.thaw(parcel.state["local"], parcel.descriptors[0])
            connection = TunnelConnection(bound, relay, taken.move(), driver, self.departures)
        start(driver.go_on, leased)
        return partial(connection.go_on, local or None)

    def _thaw(
        self,
        taken: Taken,
        owner: Owner,
        state: dict[str, Any],
        buffer_size: int | None = None,
    ) -> SessionDriver:
        """The driver of a session that goes on here."""
        taken.then(self._registry.admit(known=True).leave)
        held = self._registry.session(
            EARLY, owner, resumable=True, buffer_size=buffer_size, frozen=state["session"]
        )
        taken.then(held.leave)
        driver = SessionDriver.thaw(self._lanes, held.value, state["driver"], self._deadlines)
        self._paths.add(driver)
        return driver

    def _begin(self, driver: SessionDriver, *, fast: bool) -> Address:
        """See `SessionDriver.begin`. From then on the control loop watches over the session."""
        bound = driver.begin(fast=fast)
        self._paths.add(driver)
        return bound

    def _fast(self, target: Hashable) -> bool:
        if self._fast_open is FastOpen.AUTO:
            return target in self._recent_targets
        return self._fast_open is FastOpen.ON

    def _answered(self, target: Hashable, error: LaneError | None) -> None:
        """Note the outcome of a request with fast open, and log a failure."""
        self._recent_targets.note(target, error is None)
        if error is not None:
            log.info("%s: %s (after fast open: the application's connection is reset)", target, error)

    def _failure(self, what: object, error: LaneError) -> TargetError:
        """The error for an application if lane itself failed: no server, a lost carrier."""
        log.warning("%s: %s", what, error)
        self._lanes.failed(error)
        return TargetError(Status.FAILURE, str(error))
