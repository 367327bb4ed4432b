"""Endpoints of QUIC: a client's one connection, and a listener's many, found by their connection IDs."""

import hashlib
import hmac
import logging
import socket
from dataclasses import replace
from time import monotonic
from typing import Any

import gevent
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from gevent import socket as gsocket
from gevent.queue import Queue

from lane import census
from lane.errors import Closed, Unreachable
from lane.stream import Address, ClientTLS, ServerTLS
from lane_quic.carrier import QuicCarrier
from lane_quic.configuration import (
    CID_SIZE,
    DEFAULTS,
    SMALL_DATAGRAM,
    Settings,
    client_configuration,
    server_configuration,
)
from lane_quic.engine import Engine
from lane_quic.stateless import Stateless
from lane_quic.udp import UdpSocket, bind, peer_name

log = logging.getLogger("lane.quic")

DIAL_TIMEOUT = 10.0
PATIENCE = 1.5
"""Seconds without any answer after which a client tries the next address of a name."""
MAX_HALF_OPEN = 1000
"""Handshakes that a listener has under way at most; more Initials are dropped."""
RETRY_ABOVE = 100
"""Handshakes under way above which a client has to show first that its address is its own."""
MAX_WAITING = 1024
"""Carriers that wait to be accepted."""
MOVE_AFTER, MOVE_AFTER_MOST = 1.0, 8.0
"""Seconds until a client that gets no answers goes on from yet another port; they double."""
SILENCE_ENDS = 2.0
"""Seconds without a probe timeout after which it had answers meanwhile."""


class Client:
    """One connection to a server."""

    def __init__(self, family: int, address: Any, tls: ClientTLS, settings: Settings) -> None:
        configuration = settings.apply(client_configuration(tls.server_name))
        self.engine = Engine(configuration, settings=settings)
        self._peer, self._offloads = (family, address), settings.offloads
        self._path = (None, None)
        self._silent_at, self._moved_at, self._patience = 0.0, 0.0, 0.0
        self._socket = self._open()
        self.carrier = QuicCarrier(
            self.engine,
            self._send,
            address[0],
            on_end=self._close,
            on_silence=self._move,
        )
        self.carrier.start(tls, self._path)

    def _send(self, datagrams: list[tuple[bytes, Any]]) -> None:
        self._socket.send(datagrams)

    def _close(self) -> None:
        self._socket.close()

    def _open(self) -> UdpSocket:
        family, address = self._peer
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return UdpSocket(sock, self._receive, offloads=self._offloads)

    def _move(self) -> None:
        """No answers: our address may be gone, or what a NAT knew of us. Go on from another port.

        The server validates the new path (RFC 9000 section 9); more and more seldom while that does not help.
        """
        now = monotonic()
        if now - self._silent_at > SILENCE_ENDS:
            self._patience = 0.0
        self._silent_at = now
        if now - self._moved_at < self._patience:
            return
        self._patience, self._moved_at = min(max(2 * self._patience, MOVE_AFTER), MOVE_AFTER_MOST), now
        try:
            fresh = self._open()
        except OSError:  # no way there now
            return
        before, self._socket = self._socket, fresh
        before.close()
        log.debug("no answer from %s: going on from another port", self.carrier.peer)
        self.engine.move()

    def _receive(self, datagrams: list[bytes], path: Any, now: float) -> list[QuicCarrier]:
        if not datagrams and self._socket.refused:
            self.carrier.fail(Closed("nobody listens on that port"))
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
    """A carrier to `endpoint`. Raises Unreachable or Refused, within DIAL_TIMEOUT."""
    reason = "no answer"
    with gevent.Timeout(DIAL_TIMEOUT, False):
        try:
            found = gsocket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"{endpoint} over quic: {_words(error)}") from None
        for left, (family, _, _, _, address) in zip(range(len(found) - 1, -1, -1), found, strict=True):
            try:
                return _dial_address(family, address, tls, PATIENCE if left else None, settings)
            except (OSError, Closed) as error:
                reason = _words(error)
    raise Unreachable(f"{endpoint} over quic: {reason}")


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _dial_address(
    family: int, address: Any, tls: ClientTLS, patience: float | None, settings: Settings
) -> QuicCarrier:
    """A carrier to one address. `patience`: seconds that it has for a first answer; None: the last hope.

    Raises Closed, OSError or Refused.
    """
    carrier = Client(family, address, tls, settings).carrier
    try:
        if not carrier.ready.wait(patience) and carrier.engine.reached:
            carrier.ready.wait()
    except BaseException:  # even if it has just been connected: nobody will hear of it
        carrier.shut("the handshake was given up")
        raise
    if carrier.error:
        raise carrier.error
    if carrier.connected:
        return carrier
    carrier.shut("the handshake was given up")
    raise Closed("no answer")


class QuicListener:
    """All connections that come to one UDP port."""

    def __init__(self, endpoint: Address, tls: ServerTLS, settings: Settings = DEFAULTS) -> None:
        self._tls = tls
        self._settings = settings
        self._state_key = hmac.digest(hashlib.sha256(tls.key_pem).digest(), b"lane stateless reset", "sha256")
        self._configuration = settings.apply(server_configuration(tls))
        self._stateless = Stateless(self._state_key, self._configuration.supported_versions)
        sock = bind(endpoint)
        self.address = Address(endpoint.host, sock.getsockname()[1])
        self._by_cid: dict[bytes, QuicCarrier] = {}
        self._half_open: dict[QuicCarrier, float] = {}  # since when
        self._carriers: set[QuicCarrier] = set()
        self._accepting = True
        self._waiting: Queue[QuicCarrier | None] = Queue()
        self._socket = UdpSocket(sock, self._receive, offloads=settings.offloads)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"quic": len(self._carriers), "quic_ids": len(self._by_cid), "half_open": len(self._half_open)}

    def accept(self) -> QuicCarrier:
        """See `lane.stream.Listener`."""
        carrier: QuicCarrier | None = self._waiting.get()
        if carrier is None:
            self._waiting.put(None)
            raise Closed("the listener is closed")
        return carrier

    def close(self) -> None:
        """See `lane.stream.Listener`. The socket stays until the last connection has ended."""
        if self._accepting:
            self._accepting = False
            for carrier in list(self._half_open):
                carrier.shut("the server is closing")
            while not self._waiting.empty():
                self._waiting.get().shut("the server is closing")
            self._waiting.put(None)
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if not self._accepting and not self._carriers:
            self._socket.close()

    def _receive(self, datagrams: list[bytes], path: Any, now: float) -> list[QuicCarrier]:
        """What came together is mostly for one connection."""
        first = datagrams[0] if datagrams else b""
        form, cid = first[:1] < b"\x80", first[1 : 1 + CID_SIZE]
        carrier = self._by_cid.get(cid) if form else None
        if carrier is not None and all(d[:1] < b"\x80" and d[1 : 1 + CID_SIZE] == cid for d in datagrams):
            carrier.receive(datagrams, path, now)
            return [carrier]
        found = [self._receive_one(datagram, path, now) for datagram in datagrams]
        return [carrier for carrier in found if carrier is not None]

    def _receive_one(self, datagram: bytes, path: Any, now: float) -> QuicCarrier | None:
        if len(datagram) < 1 + CID_SIZE:
            return None
        if datagram[0] < 0x80:
            carrier = self._by_cid.get(datagram[1 : 1 + CID_SIZE])
            if carrier is None and (answer := self._stateless.reset(datagram)):
                self._socket.send([(answer, path)])
        else:
            carrier = self._by_cid.get(datagram[6 : 6 + datagram[5]]) or self._greet(datagram, path, now)
        if carrier is not None:
            carrier.receive((datagram,), path, now)
            if not carrier.engine.reached:  # garbage in the form of a first datagram
                carrier.fail(Closed("not a QUIC client"))
        return carrier

    def _greet(self, datagram: bytes, path: Any, now: float) -> QuicCarrier | None:
        """A connection for a client's first datagram, if that is what it is."""
        try:
            header = pull_quic_header(Buffer(data=datagram), host_cid_length=CID_SIZE)
        except ValueError:
            return None
        if not self._accepting or len(datagram) < SMALL_DATAGRAM or len(header.destination_cid) < 8:
            return None
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION:  # no answer to an answer
            return None
        if header.version not in self._configuration.supported_versions:
            self._socket.send([(self._stateless.negotiation(header), path)])
            return None
        if header.packet_type != QuicPacketType.INITIAL:
            return None
        self._end_slow_handshakes(now)
        first_cid = self._stateless.came_back(header, path, now) if header.token else None
        if first_cid is None and len(self._half_open) >= RETRY_ABOVE:
            self._socket.send([(self._stateless.retry(header, path, now), path)])
            return None
        if len(self._half_open) >= MAX_HALF_OPEN:
            return None
        try:
            engine = Engine(
                replace(self._configuration),
                first_cid or header.destination_cid,
                self._state_key,
                retry_cid=header.destination_cid if first_cid else None,
                settings=self._settings,
            )
        except Exception:
            log.exception("no connection for %s", peer_name(path))
            return None
        return self._make_carrier(engine, header.destination_cid, path, now)

    def _end_slow_handshakes(self, now: float) -> None:
        """Those that have taken too long: clients give up earlier."""
        while self._half_open:
            carrier, since = next(iter(self._half_open.items()))
            if now - since < DIAL_TIMEOUT:
                break
            carrier.fail(Closed("the handshake took too long"))

    def _make_carrier(self, engine: Engine, first_cid: bytes, path: Any, now: float) -> QuicCarrier:
        """A carrier that is found by its connection IDs, and forgotten when it ends."""
        cids = {first_cid, *engine.host_cids}

        def on_cid(cid: bytes, used: bool) -> None:
            if used:
                cids.add(cid)
                self._by_cid[cid] = carrier
            else:
                cids.discard(cid)
                self._by_cid.pop(cid, None)

        def on_end() -> None:
            for cid in cids:
                self._by_cid.pop(cid, None)
            self._half_open.pop(carrier, None)
            self._carriers.discard(carrier)
            self._close_if_unused()

        def on_ready() -> None:
            self._half_open.pop(carrier, None)
            if self._accepting and self._waiting.qsize() < MAX_WAITING:
                self._waiting.put(carrier)
            else:
                carrier.shut("the server is full")

        carrier = QuicCarrier(
            engine,
            self._socket.send,
            peer_name(path),
            binding=self._tls.binding,
            on_cid=on_cid,
            on_end=on_end,
            on_ready=on_ready,
        )
        for cid in cids:
            self._by_cid[cid] = carrier
        self._half_open[carrier] = now
        self._carriers.add(carrier)
        return carrier
