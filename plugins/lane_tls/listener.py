"""The listener: it accepts TCP connections and returns carriers whose handshake is done.

A peer that misbehaves in its handshake loses only its own connection, and has only a limited time. An address
with many open handshakes displaces only its own: see `lane.net.places`.
"""

import logging
from typing import Any

import gevent
from gevent.queue import Queue, ShutDown

from lane import census
from lane.address import normal_host
from lane.deadline import deadline
from lane.errors import Closed, ProtocolError
from lane.net import listen as net_listen
from lane.net.accept import Acceptor
from lane.net.places import Places
from lane.stream import Address, ServerTLS
from lane.supervisor import report, supervise
from lane.tasks import start
from lane_tls import tcp
from lane_tls.carrier import TLSCarrier
from lane_tls.context import server_context
from lane_tls.stream import TLSStream

_BACKLOG = 1024
_HANDSHAKES = 256  # the most handshakes in progress, per listener
FIRST_BYTE = 3.0
"""Seconds in which a peer's first byte must arrive. An honest client sends it right after TCP's handshake."""
_READY = 256  # the most connections that wait to be accepted, per listener

log = logging.getLogger("lane.tls")


def listen(endpoint: Address, tls: ServerTLS, patience: float, congestion: bytes | None) -> "TLSListener":
    """Listen on TCP, on all addresses of a name. Raises ConfigError."""
    context = server_context(tls)
    socks = net_listen.listen(endpoint, _BACKLOG)
    for sock in socks:
        tcp.tune(sock)
    return TLSListener(socks, context, tls.binding, patience, congestion)


class TLSListener:
    """Accepts TCP connections. `accept` returns those whose handshake is done."""

    def __init__(
        self, socks: list[Any], context: Any, binding: bytes, patience: float, congestion: bytes | None
    ) -> None:
        self._socks = socks
        self._context = context
        self._binding = binding
        self._patience = patience
        self._congestion = congestion
        self._ready: Any = Queue(_READY)
        self._shaking: Places[TLSStream] = Places(_HANDSHAKES)
        self.address = Address(*socks[0].getsockname()[:2])
        self._acceptors = [Acceptor(sock, "connections for tls") for sock in socks]
        self._accepting: list[Any] = []
        self.resume()
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"shaking": len(self._shaking)}

    def accept(self) -> TLSCarrier:
        """Block until a carrier is ready. Raises Closed once the listener is closed."""
        try:
            carrier: TLSCarrier = self._ready.get()  # no limit: until the listener is closed
        except ShutDown:
            raise Closed("the listener is closed") from None
        return carrier

    def present(self, tls: ServerTLS) -> None:
        """See `lane.stream.Presents`. Tickets that were issued with the old certificate become invalid."""
        self._context, self._binding = server_context(tls), tls.binding

    def pause(self) -> None:
        """See `lane.stream.Pauses`."""
        gevent.killall(self._accepting, block=False)

    def resume(self) -> None:
        """See `lane.stream.Pauses`."""
        self._accepting = [
            supervise("the acceptance of TLS connections", self._accept_all, one) for one in self._acceptors
        ]

    def close(self) -> None:
        """Stop, and drop the connections that were not accepted yet."""
        gevent.killall(self._accepting, block=False)
        for sock in self._socks:
            sock.close()
        for stream in list(self._shaking):
            stream.reset()
        while not self._ready.empty():
            self._ready.get_nowait().close()
        self._ready.shutdown()

    def _accept_all(self, acceptor: Acceptor) -> None:
        while True:
            try:
                sock, address = acceptor.accept_plain()
            except Closed:
                return
            try:
                self._greet(sock, normal_host(address[0]))
            except Exception as error:
                report("a TLS connection that was accepted", error)
                sock.close()

    def _greet(self, sock: Any, peer: str) -> None:
        stream = TLSStream(self._context, sock, accepts=True)
        stream.congestion = self._congestion
        if (lost := self._shaking.enter(stream, peer)) is not None:
            lost.reset()
        start(self._handshake, stream, self._binding, peer)

    def _handshake(self, stream: TLSStream, binding: bytes, peer: str) -> None:
        """Do one handshake. A failure ends only this connection."""
        try:
            with deadline(self._patience, _too_slow):
                with deadline(FIRST_BYTE, _silent):
                    stream.arrive()
                self._shaking.speaks(stream)
                stream.handshake()
            # no limit: the server accepts ready connections at once
            self._ready.put(TLSCarrier(stream, binding, peer, dialled=False))
        except (Closed, ProtocolError, ShutDown) as error:
            stream.abandon()  # a reset could destroy the alert with the reason
            log.debug("tls: no handshake with %s: %s", peer, error)
        finally:
            self._shaking.leave(stream)


def _too_slow() -> Closed:
    return Closed("too slow")


def _silent() -> Closed:
    return Closed("no byte arrived")
