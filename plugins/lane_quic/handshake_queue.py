"""First datagrams of clients, which wait for their handshake to begin.

To begin a handshake costs a hundred times what it costs to read the datagram that asks for it. So datagrams
are read as they come, and handshakes begin one by one, each after everything else in the process had its
turn. By turns it is that of the address with the fewest strangers, so that a crowd does not keep out others,
and the one that has waited longest, so that nobody waits for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aioquic.quic.packet import QuicHeader
from gevent.event import Event

from lane.fair import pass_turn
from lane.net.places import Places
from lane.supervisor import report, supervise
from lane_quic.door import Send
from lane_quic.udp.sockets import peer_name

MAX_WAITING = 512
"""Handshakes that wait to begin at most, each for a client."""
MAX_DATAGRAMS = 4
"""Datagrams that are kept of a client meanwhile; it sends the others again."""


@dataclass(slots=True, eq=False)
class FirstFlight:
    """What a client has sent so far."""

    send: Send
    path: Any
    header: QuicHeader
    """Of the first datagram."""
    original_cid: bytes | None
    """The connection ID that it had chosen before a Retry; None without one."""
    datagrams: list[bytes]


class HandshakeQueue:
    """Calls `begin` for one first flight after the other.

    `strangers`: how many clients of a network whose handshake has begun have not proven a key.
    """

    def __init__(self, begin: Callable[[FirstFlight], None], strangers: Callable[[str], int]) -> None:
        self._begin = begin
        self._strangers = strangers
        self._places: Places[FirstFlight] = Places(MAX_WAITING)
        self._by_cid: dict[bytes, FirstFlight] = {}
        self._fewest = True  # whose turn it is
        self._some = Event()
        self._loop = supervise("beginning QUIC handshakes", self._work)

    def __len__(self) -> int:
        return len(self._by_cid)

    def add(self, flight: FirstFlight) -> None:
        """Have it wait. Where too many do, the oldest of the address with the most is dropped."""
        lost = self._places.enter(flight, peer_name(flight.path))
        if lost is not None:
            del self._by_cid[lost.header.destination_cid]
        self._by_cid[flight.header.destination_cid] = flight
        self._some.set()

    def more(self, cid: bytes, datagram: bytes, path: Any) -> bool:
        """Keep another datagram of a client that waits; False if none waits that chose `cid`."""
        flight = self._by_cid.get(cid)
        if flight is not None and flight.path == path and len(flight.datagrams) < MAX_DATAGRAMS:
            flight.datagrams.append(datagram)
        return flight is not None

    def close(self) -> None:
        """Forget those that wait. The loop may have been woken before: it finds nobody."""
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
