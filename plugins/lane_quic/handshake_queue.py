"""The queue of clients whose handshake has not begun yet.

Beginning a handshake costs a hundred times as much as reading the datagram that asks for it. So datagrams are
read as they arrive, and handshakes begin one by one, each after all other greenlets had their turn. The next
handshake alternates. One is that of the network with the fewest unauthenticated clients, so that a crowd does
not keep out others. The other is the oldest one, so that nobody waits forever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aioquic.quic.packet import QuicHeader
from gevent.event import Event

from lane.fair import pass_turn
from lane.net.places import Places
from lane.supervisor import report, supervise
from lane_quic.local_address import Send
from lane_quic.udp.sockets import peer_name

MAX_WAITING = 512
"""The most clients that may wait."""
MAX_DATAGRAMS = 4
"""Datagrams that are kept for each waiting client. It sends the others again."""


@dataclass(slots=True, eq=False)
class FirstFlight:
    """The datagrams that a client has sent so far."""

    send: Send
    path: Any
    header: QuicHeader
    """The header of the first datagram."""
    original_cid: bytes | None
    """The connection ID that the client chose before a Retry; None without a Retry."""
    datagrams: list[bytes]


class HandshakeQueue:
    """Calls `begin` for one first flight after the other.

    `strangers(peer)` is the number of clients in the peer's network that have not proven a key.
    """

    def __init__(self, begin: Callable[[FirstFlight], None], strangers: Callable[[str], int]) -> None:
        self._begin = begin
        self._strangers = strangers
        self._places: Places[FirstFlight] = Places(MAX_WAITING)
        self._by_cid: dict[bytes, FirstFlight] = {}
        self._fewest = True  # whether the next one is of the network with the fewest clients
        self._some = Event()
        self._loop = supervise("beginning QUIC handshakes", self._work)

    def __len__(self) -> int:
        return len(self._by_cid)

    def add(self, flight: FirstFlight) -> None:
        """Add a client. If the queue is full, drop the oldest client of the network with the most."""
        lost = self._places.enter(flight, peer_name(flight.path))
        if lost is not None:
            del self._by_cid[lost.header.destination_cid]
        self._by_cid[flight.header.destination_cid] = flight
        self._some.set()

    def more(self, cid: bytes, datagram: bytes, path: Any) -> bool:
        """Add a datagram of the waiting client that chose `cid`. False if no such client waits."""
        flight = self._by_cid.get(cid)
        if flight is not None and flight.path == path and len(flight.datagrams) < MAX_DATAGRAMS:
            flight.datagrams.append(datagram)
        return flight is not None

    def close(self) -> None:
        """Drop all waiting clients. The loop may wake once more and finds none."""
        self._loop.kill(block=False)
        for flight in self._places:
            self._places.leave(flight)
        self._by_cid.clear()

    def _work(self) -> None:
        while True:
            self._some.wait()  # no limit: until somebody comes
            if (flight := self._next()) is None:
                self._some.clear()
                continue
            try:
                self._begin(flight)
            except Exception as error:
                report(f"making a connection for {peer_name(flight.path)}", error)
            pass_turn()

    def _next(self) -> FirstFlight | None:
        places = self._places
        flight = places.oldest_of_fewest(self._strangers) if self._fewest else places.oldest()
        self._fewest = not self._fewest
        if flight is not None:
            self._places.leave(flight)
            del self._by_cid[flight.header.destination_cid]
        return flight
