"""The server's endpoint: all connections of one UDP port, found by their connection IDs.

Of several workers (`lane.net.siblings`), each has an endpoint. A packet for another one is handed over.

A connection answers from the local address (`LocalAddress`) at which its first packet arrived. A client does
not change it, since the server announces no preferred address (RFC 9000 section 9.6).
"""

import hashlib
import hmac
import logging
from ast import literal_eval
from dataclasses import replace
from math import inf
from time import monotonic
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from gevent.queue import Queue

from lane import census
from lane.errors import Closed
from lane.net.path_memory import PATHS, KnownPath
from lane.net.places import Places
from lane.net.siblings import here
from lane.stream import Address, ServerTLS
from lane.supervisor import report
from lane_quic.carrier import QuicCarrier
from lane_quic.configuration import CID_SIZE, DEFAULTS, SMALL_DATAGRAM, Settings, server_configuration
from lane_quic.engine.engine import Engine
from lane_quic.handshake_queue import FirstFlight, HandshakeQueue
from lane_quic.local_address import LocalAddress, Send
from lane_quic.runner import Owner
from lane_quic.stateless import Stateless
from lane_quic.udp.sockets import bind, peer_name

log = logging.getLogger("lane.quic")

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a handshake may take. Clients give up by then."""
MAX_HALF_OPEN = 512
"""The most handshakes in progress in a listener: see `lane.net.places`."""
RETRY_ABOVE = 100
"""Handshakes in progress above which a client must first prove its address (Retry)."""
MAX_WAITING = 1024
"""Carriers that may wait to be accepted."""


class QuicListener(Owner):
    """All connections of one UDP port."""

    def __init__(self, endpoint: Address, tls: ServerTLS, settings: Settings = DEFAULTS) -> None:
        self._tls = tls
        self._settings = settings
        self._state_key = hmac.digest(hashlib.sha256(tls.key_pem).digest(), b"lane stateless reset", "sha256")
        self._configuration = settings.apply(server_configuration(tls))
        self._stateless = Stateless(self._state_key, self._configuration.supported_versions)
        socks = bind(endpoint)
        self.address = Address(endpoint.host, socks[0].getsockname()[1])
        self._by_cid: dict[bytes, QuicCarrier] = {}
        self._half_open: dict[QuicCarrier, float] = {}  # the start time of each handshake
        self._places: Places[QuicCarrier] = Places(MAX_HALF_OPEN)  # of the handshakes
        self._carriers: dict[QuicCarrier, dict[bytes, None]] = {}  # with their connection IDs
        self._strangers: Places[QuicCarrier] = Places(inf)  # clients without a proven key, unbounded here
        self._queue = HandshakeQueue(self._begin, self._strangers.count_of)
        self._accepting = True
        self._waiting: Queue[QuicCarrier | None] = Queue()
        self._addresses = [LocalAddress(sock, self._receive, offloads=settings.offloads) for sock in socks]
        self._topic = f"quic on {self.address.port}"
        here().receive(self._topic, self._receive_stray)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        handshakes = {"half_open": len(self._half_open), "first_flights": len(self._queue)}
        return {"quic": len(self._carriers), "quic_ids": len(self._by_cid), **handshakes}

    def accept(self) -> QuicCarrier:
        """See `lane.stream.Listener`."""
        carrier: QuicCarrier | None = self._waiting.get()  # no limit: until the listener is closed
        if carrier is None:
            self._waiting.put(None)
            raise Closed("the listener is closed")
        return carrier

    def present(self, tls: ServerTLS) -> None:
        """See `lane.stream.Presents`. The key of the reset tokens stays, since tokens were issued with it."""
        self._configuration = self._settings.apply(server_configuration(tls))
        self._tls = tls

    def pause(self) -> None:
        """See `lane.stream.Pauses`. The next process hands over the packets of the connections here."""
        for one in self._addresses:
            one.pause()

    def resume(self) -> None:
        """See `lane.stream.Pauses`."""
        for one in self._addresses:
            one.resume()

    def close(self) -> None:
        """See `lane.stream.Listener`. The socket stays open until the last connection has ended."""
        if self._accepting:
            self._accepting = False
            self._queue.close()
            for carrier in list(self._half_open):
                carrier.shut("the server is closing")
            while not self._waiting.empty():
                self._waiting.get_nowait().shut("the server is closing")
            self._waiting.put(None)
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if not self._accepting and not self._carriers:
            for one in self._addresses:
                one.close()

    def _receive(self, send: Send, datagrams: list[bytes], path: Any, now: float) -> list[QuicCarrier]:
        """Deliver datagrams that arrived together. Usually all are for one connection."""
        first = datagrams[0] if datagrams else b""
        form, cid = first[:1] < b"\x80", first[1 : 1 + CID_SIZE]
        carrier = self._by_cid.get(cid) if form else None
        if carrier is not None and all(d[:1] < b"\x80" and d[1 : 1 + CID_SIZE] == cid for d in datagrams):
            carrier.receive(datagrams, path, now)
            return [carrier]
        found = [self._receive_one(send, datagram, path, now) for datagram in datagrams]
        return [carrier for carrier in found if carrier is not None]

    def _receive_one(self, send: Send, datagram: bytes, path: Any, now: float) -> QuicCarrier | None:
        """Deliver a datagram and return its carrier. A datagram that causes an exception is dropped."""
        try:
            return self._route(send, datagram, path, now)
        except Exception as error:
            report("taking a datagram", error)
            return None

    def _route(self, send: Send, datagram: bytes, path: Any, now: float) -> QuicCarrier | None:
        if len(datagram) < 1 + CID_SIZE:
            return None
        if datagram[0] < 0x80:
            carrier = self._by_cid.get(datagram[1 : 1 + CID_SIZE])
            if carrier is None and not self._hand_over(send, datagram, path):
                self._refuse(send, datagram, path)
        else:
            cid = datagram[6 : 6 + datagram[5]]
            carrier = self._by_cid.get(cid)
            if carrier is None and not self._queue.more(cid, datagram, path):
                self._greet(send, datagram, path, now)
        if carrier is not None:
            carrier.receive((datagram,), path, now)
        return carrier

    def _refuse(self, send: Send, datagram: bytes, path: Any) -> None:
        """Tell the peer that there is no such connection."""
        if answer := self._stateless.reset(datagram):
            send([(answer, path)])

    def _hand_over(self, send: Send, datagram: bytes, path: Any) -> bool:
        """Hand the packet of an unknown connection to the process that may have it, if any.

        That is the worker that its connection ID names, or the process that this one has succeeded.
        """
        siblings = here()
        worker = siblings.owner_of(datagram[1:]) if datagram[0] < 0x80 else siblings.index
        if worker == siblings.index and not siblings.succeeds:
            return False
        at = next(number for number, one in enumerate(self._addresses) if one.send == send)
        message = repr((at, path)).encode() + b"\0" + datagram
        if worker == siblings.index:
            return siblings.send_back(self._topic, message)
        siblings.send(worker, self._topic, message)
        return True

    def _receive_stray(self, message: bytes) -> None:
        """Take a packet from another worker."""
        source, _, datagram = message.partition(b"\0")
        at, path = literal_eval(source.decode())
        cid = datagram[1 : 1 + CID_SIZE] if datagram[0] < 0x80 else datagram[6 : 6 + datagram[5]]
        carrier = self._by_cid.get(cid)
        if carrier is None:
            if not here().send_back(self._topic, message) and datagram[0] < 0x80:
                self._refuse(self._addresses[at].send, datagram, path)
        else:
            carrier.receive((datagram,), path, monotonic())
            carrier.act()

    def _greet(self, send: Send, datagram: bytes, path: Any, now: float) -> None:
        """Answer a client's first datagram, or queue the client for its handshake. Ignore other datagrams."""
        try:
            header = pull_quic_header(Buffer(data=datagram), host_cid_length=CID_SIZE)
        except ValueError:
            return
        if not self._accepting or len(datagram) < SMALL_DATAGRAM or len(header.destination_cid) < 8:
            return
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION:  # never answer an answer
            return
        if header.version not in self._configuration.supported_versions:
            send([(self._stateless.negotiation(header), path)])
            return
        if header.packet_type != QuicPacketType.INITIAL:
            self._hand_over(send, datagram, path)
            return
        self._end_slow_handshakes(now)
        first_cid = self._stateless.came_back(header, path, now) if header.token else None
        if first_cid is None and len(self._half_open) + len(self._queue) >= RETRY_ABOVE:
            send([(self._stateless.retry(header, path, now), path)])
        else:
            self._queue.add(FirstFlight(send, path, header, first_cid, [datagram]))

    def _begin(self, flight: FirstFlight) -> None:
        """Begin the handshake of a queued client."""
        chosen = flight.header.destination_cid
        engine = Engine(
            replace(self._configuration),
            flight.original_cid or chosen,
            self._state_key,
            retry_cid=chosen if flight.original_cid else None,
            settings=self._settings,
        )
        engine.known_path = _known_path
        now = monotonic()
        carrier = self._make_carrier(flight.send, engine, chosen, flight.path, now)
        carrier.receive(flight.datagrams, flight.path, now)
        if engine.reached:
            carrier.flush()
        else:  # garbage that looks like a first datagram
            carrier.fail(Closed("not a QUIC client"))

    def _end_slow_handshakes(self, now: float) -> None:
        """End the handshakes that have taken too long. Their clients have given up by now."""
        while self._half_open:
            carrier, since = next(iter(self._half_open.items()))
            if now - since < HANDSHAKE_TIMEOUT:
                break
            self._no_more_half_open(carrier)  # first, even if `fail` raises
            carrier.fail(Closed("the handshake took too long"))

    def _no_more_half_open(self, carrier: QuicCarrier) -> None:
        """Note that the handshake is done or has failed. Idempotent."""
        self._half_open.pop(carrier, None)
        self._places.leave(carrier)

    def _make_carrier(
        self, send: Send, engine: Engine, first_cid: bytes, path: Any, now: float
    ) -> QuicCarrier:
        """Create a carrier that is found by its connection IDs until it ends."""
        cids = dict.fromkeys((first_cid, *engine.host_cids))  # a set would take twice the memory
        carrier = QuicCarrier(engine, send, peer_name(path), self, binding=self._tls.binding)
        for cid in cids:
            self._by_cid[cid] = carrier
        self._half_open[carrier] = now
        self._carriers[carrier] = cids
        self._strangers.enter(carrier, carrier.peer)
        if (lost := self._places.enter(carrier, carrier.peer)) is not None:
            self._no_more_half_open(lost)
            lost.shut("the server is full")
        return carrier

    # Called by carriers.

    def on_cid(self, carrier: QuicCarrier, cid: bytes, used: bool) -> None:
        """Find the carrier by `cid`, or no longer."""
        if used:
            self._carriers[carrier][cid] = None
            self._by_cid[cid] = carrier
        else:
            self._carriers[carrier].pop(cid, None)
            self._by_cid.pop(cid, None)

    def on_ready(self, carrier: QuicCarrier) -> None:
        """Let the carrier be accepted."""
        self._no_more_half_open(carrier)
        if self._accepting and self._waiting.qsize() < MAX_WAITING:
            self._waiting.put(carrier)
        else:
            carrier.shut("the server is full")

    def on_proven(self, carrier: QuicCarrier) -> None:
        """Count the client as no stranger."""
        self._strangers.leave(carrier)

    def on_end(self, carrier: QuicCarrier) -> None:
        """Forget the carrier."""
        for cid in self._carriers.pop(carrier, ()):
            self._by_cid.pop(cid, None)
        self._no_more_half_open(carrier)
        self._strangers.leave(carrier)
        self._close_if_unused()


def _known_path(address: Any) -> KnownPath:
    """What is known of the path to a client's address."""
    return PATHS.to(peer_name(address))
