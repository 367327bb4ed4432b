"""The client's endpoint: one connection and its socket. Without answers, it migrates to another port."""

import errno
import logging
import os
import socket
from time import monotonic
from typing import Any

import gevent

from lane.errors import Closed, TargetError, Unreachable
from lane.net.connect import Connector, Where
from lane.net.failures import error_text
from lane.net.path_memory import PATHS
from lane.net.sockets import family_of, sockaddr
from lane.stream import Address, ClientTLS
from lane_quic.carrier import QuicCarrier
from lane_quic.configuration import CID_SIZE, DEFAULTS, Settings, client_configuration
from lane_quic.engine.engine import Engine
from lane_quic.runner import Owner
from lane_quic.udp.offload import Datagrams
from lane_quic.udp.udp import QuicSocket

log = logging.getLogger("lane.quic")
_connector = Connector()

DIAL_TIMEOUT = 10.0
ASK_AGAIN = 0.1
"""Seconds after an ICMP refusal of the first packets until the second try. A refusal of that one is final."""
MOVE_AFTER = 1.0
"""Seconds without answers before a client migrates to yet another port. They double each time."""
MOVE_AFTER_MOST = 8.0
"""The most seconds between two migrations without answers."""
SILENCE_ENDS = 2.0
"""Seconds without a probe timeout that show that answers have arrived."""


class Client(Owner):
    """One connection to a server."""

    def __init__(self, family: int, address: Any, tls: ClientTLS, settings: Settings) -> None:
        configuration = settings.apply(client_configuration(tls.server_name))
        self.engine = Engine(configuration, settings=settings)
        self.engine.known_path = lambda _: PATHS.to(address[0])
        self._peer, self._offloads = (family, address), settings.offloads
        self._path = (None, None)
        self._silent_at, self._moved_at, self._patience = 0.0, 0.0, 0.0
        self._refused = self._asked_again = False
        self._socket = self._open()
        self.carrier = QuicCarrier(self.engine, self._send, address[0], self)
        self.carrier.start(tls, self._path)

    def _send(self, datagrams: Datagrams) -> None:
        self._socket.send(datagrams)

    def on_end(self, carrier: QuicCarrier) -> None:
        """Close the socket."""
        self._socket.close()

    def _open(self) -> QuicSocket:
        family, address = self._peer
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return QuicSocket(
            sock, self._receive, on_hint=self._doubt, on_broken=self._renew, offloads=self._offloads
        )

    def _doubt(self, number: int) -> None:
        """The kernel reports the server as unreachable, as error `number`. ICMP messages can be forged.

        If the server has answered before, probe it: only its silence counts. Otherwise try once more.
        """
        if self.engine.reached:
            self.carrier.probe()
        elif self._asked_again:
            refused = number == errno.ECONNREFUSED
            self.carrier.fail(Closed("nobody listens on that port" if refused else os.strerror(number)))
        elif not self._refused:
            self._refused = True
            gevent.spawn_later(ASK_AGAIN, self._ask_again)

    def _ask_again(self) -> None:
        self._asked_again = True
        self.carrier.probe()

    def on_silence(self, carrier: QuicCarrier) -> None:
        """Migrate to another port, since no answers arrive: our address or a NAT's mapping may be gone.

        The server validates the new path (RFC 9000 section 9). Repeated attempts become ever rarer.
        """
        now = monotonic()
        if now - self._silent_at > SILENCE_ENDS:
            self._patience = 0.0
        self._silent_at = now
        if now - self._moved_at < self._patience:
            return
        self._patience, self._moved_at = min(max(2 * self._patience, MOVE_AFTER), MOVE_AFTER_MOST), now
        self._renew()

    def _renew(self) -> None:
        """Migrate to another port, if the network can be reached now."""
        try:
            fresh = self._open()
        except OSError:
            return
        before, self._socket = self._socket, fresh
        before.close()
        log.debug("the connection to %s migrates to another local port", self.carrier.peer)
        self.engine.move()
        self.carrier.probe()

    def _receive(self, datagrams: list[bytes], path: Any, now: float) -> list[QuicCarrier]:
        cid = self.engine.host_cid
        ours = [d for d in datagrams if (d < b"\x80" and d.startswith(cid, 1)) or (d and self._is_ours(d))]
        if ours:
            self.carrier.receive(ours, self._path, now)
        return [self.carrier] if ours else []

    def _is_ours(self, datagram: bytes) -> bool:
        cid = datagram[1 : 1 + CID_SIZE]
        if datagram[0] >= 0x80 or cid == self.engine.host_cid or cid in self.engine.host_cids:
            return True
        if self.engine.is_stateless_reset(datagram):
            self.carrier.fail(Closed("the server was restarted"))
        return False


def dial(endpoint: Address, tls: ClientTLS, settings: Settings = DEFAULTS) -> QuicCarrier:
    """Connect to `endpoint`. Raises Unreachable or Refused, within DIAL_TIMEOUT."""

    def attempt(where: Where) -> QuicCarrier:
        address, port = where
        return _shake_hands(Client(family_of(address), sockaddr(address, port), tls, settings).carrier)

    try:
        return _connector.race(endpoint, attempt, _give_up, DIAL_TIMEOUT)
    except (OSError, Closed, TargetError) as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error_text(error)
        raise Unreachable(f"{endpoint} over quic: {reason}") from None


def _shake_hands(carrier: QuicCarrier) -> QuicCarrier:
    """Wait until the handshake is done. Raises Closed or Refused."""
    try:
        carrier.ready.wait()  # no limit: `dial` has one
    except BaseException:  # even if the handshake was just completed: nobody would use the carrier
        _give_up(carrier)
        raise
    if carrier.error:
        raise carrier.error
    return carrier


def _give_up(carrier: QuicCarrier) -> None:
    carrier.shut("the handshake was given up")
