"""A closer look at the way of UDP packets to a server, without a connection.

A packet of a version that no server knows is answered with Version Negotiation (RFC 9000 section 6), by all
QUIC servers, at no cost and without a key. So it is a ping of any size: it says whether UDP gets through, how
many packets are lost, and how large they may be.
"""

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from statistics import median
from time import monotonic

import gevent
import gevent.socket as gsocket

from lane.errors import LaneError, Unreachable
from lane.net.resolver import system_resolver
from lane.stream import Address, Finding
from lane.supervisor import supervise

SMALLEST = 1200
"""Bytes of UDP payload that every path for QUIC carries, and the least that is answered."""
SIZES = (1232, 1252, 1280, 1312, 1344, 1372, 1392, 1412, 1432, 1452, 1472)
"""Further sizes that are tried. 1472 fills 1500 bytes with IPv4, and 1452 with IPv6."""
TRIES = 3
"""Packets of each size."""
EVERY = 0.05
"""Seconds between two packets."""
PATIENCE = 2.0
"""Seconds to wait for late answers."""
_VERSION = 0x6A6A6A6A  # reserved to force Version Negotiation (RFC 9000 section 15)
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
# <linux/in.h>. Not PMTUDISC_DO: that holds back what exceeds an MTU that the kernel was told of minutes ago.
_HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}
"""Bytes of the IP and UDP headers."""


class _Pings:
    """Packets to a server and their answers."""

    def __init__(self, where: Address) -> None:
        self._sock = gsocket.socket(
            socket.AF_INET6 if ":" in where.host else socket.AF_INET, socket.SOCK_DGRAM
        )
        self.headers = _HEADERS[socket.AddressFamily(self._sock.family)]
        option = (
            (socket.IPPROTO_IP, _IP_MTU_DISCOVER)
            if self._sock.family == socket.AF_INET
            else (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
        )
        if hasattr(socket, "SO_DOMAIN"):  # Linux
            self._sock.setsockopt(*option, _PMTUDISC_PROBE)
        self.sent: dict[bytes, tuple[int, float]] = {}
        self.trips: dict[bytes, float] = {}
        self.refused = False
        """Whether the system of the server said that nobody listens there."""
        self.failure = ""
        """The last reason why this machine, or its firewall, did not send a packet."""
        self.told = False
        """Whether the network itself, or this machine's interface, said that a packet is too large."""
        self._reader: gevent.Greenlet[..., None] | None = None
        try:
            self._sock.connect(tuple(where))
        except OSError as error:
            self._sock.close()
            raise Unreachable(f"UDP to {where}: {error.strerror}") from None
        self._reader = supervise("the answers of an examination", self._read)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.kill()  # no limit: it only waits
        self._sock.close()

    def send(self, size: int) -> None:
        name = os.urandom(8)
        head = b"\xc0" + _VERSION.to_bytes(4, "big") + b"\x08" + os.urandom(8) + b"\x08" + name
        for _ in range(2):  # the first call may raise what was answered to an earlier packet
            try:
                self._sock.send(head.ljust(size, b"\0"))
                break
            except OSError as error:
                self._note(error)
        self.sent[name] = size, monotonic()

    def _note(self, error: OSError) -> None:
        self.told |= error.errno == errno.EMSGSIZE
        self.refused |= error.errno == errno.ECONNREFUSED
        if error.errno != errno.ECONNREFUSED:
            self.failure = error.strerror or str(error)

    def _read(self) -> None:
        while True:
            try:
                data = self._sock.recv(2048)  # no limit: `close` ends it
            except OSError as error:
                self._note(error)
                gevent.sleep(EVERY)
                continue
            # Its destination is the source of the question, behind a version of 0.
            if len(data) > 14 and data[0] & 0x80 and data[1:5] == bytes(4) and data[6:14] in self.sent:
                self.trips.setdefault(data[6:14], monotonic() - self.sent[data[6:14]][1])

    def answered(self, size: int) -> int:
        return sum(self.sent[name][0] == size for name in self.trips)


def examine(endpoint: Address, seconds: float) -> Iterator[Finding]:
    """See `lane.stream.Examines`. Raises Unreachable if the name has no address."""
    try:
        address = system_resolver().resolve(endpoint.host)[0]
    except LaneError as error:
        raise Unreachable(f"{endpoint.host}: {error}") from None
    pings = _Pings(Address(str(address), endpoint.port))
    try:
        for _ in range(TRIES):
            pings.send(SMALLEST)
            gevent.sleep(EVERY)
        gevent.sleep(0 if pings.trips else PATIENCE)
        if not pings.trips:
            yield _unheard(pings, endpoint)
            return
        yield Finding("ok", "UDP", f"gets through to {endpoint}")
        yield from _sizes(pings)
        yield _losses(pings, seconds)
    finally:
        pings.close()


def _unheard(pings: _Pings, endpoint: Address) -> Finding:
    if pings.refused:
        text = "gets through, but nobody listens there: no server runs, or it does not offer quic"
        return Finding("warn", "UDP", text, "start the server, with --transport quic,tls")
    if pings.failure:
        text = f"packets to {endpoint} do not leave this machine: {pings.failure}"
        return Finding("warn", "UDP", text, "look at the firewall and the routes of this machine")
    return Finding(
        "warn",
        "UDP",
        f"has no answer from {endpoint}: a firewall drops it, or the server does not offer quic",
        f"let UDP through to port {endpoint.port}, at the server and on the way; until then lane uses TCP",
    )


def _sizes(pings: _Pings) -> Iterator[Finding]:
    """What the largest packet is, and whether larger ones vanish without a word."""
    sizes = [size for size in SIZES if size + pings.headers <= 1500]
    for _ in range(TRIES):
        for size in sizes:
            pings.send(size)
            gevent.sleep(EVERY / 5)
        gevent.sleep(2 * EVERY)
    gevent.sleep(_late(pings))
    fits = [size for size in sizes if pings.answered(size)]
    largest = max(fits, default=SMALLEST)
    packet = largest + pings.headers
    too_large = [size for size in sizes if size > largest]
    if not too_large:
        yield Finding("ok", "path MTU", f"at least {packet} bytes")
    elif pings.told:
        yield Finding(
            "note", "path MTU", f"about {packet} bytes; the network says so itself, and lane adapts"
        )
    else:
        yield Finding("note", "path MTU", f"about {packet} bytes")
        yield Finding(
            "warn",
            "MTU black hole",
            f"packets of {too_large[0] + pings.headers} bytes and more vanish without a word:"
            " quic finds that out itself, TCP may hang",
            "sudo sysctl -w net.ipv4.tcp_mtu_probing=1 (here and at the server)",
        )


def _losses(pings: _Pings, seconds: float) -> Finding:
    """Which of many small packets were lost. Nothing sends them again, so this is the loss of the path."""
    before = set(pings.sent)
    until = monotonic() + seconds
    while monotonic() < until:
        pings.send(SMALLEST)
        gevent.sleep(EVERY)
    gevent.sleep(_late(pings))
    names = pings.sent.keys() - before
    trips = [pings.trips[name] for name in names if name in pings.trips]
    return _summary(len(names), trips)


def _summary(sent: int, trips: Sequence[float]) -> Finding:
    lost = 1 - len(trips) / sent if sent else 0.0
    text = f"{lost * 100:.1f} % of {sent} packets lost"
    if trips:
        text += f", round trip {median(trips) * 1000:.1f} ms, at most {max(trips) * 1000:.1f} ms"
    if lost >= 0.005:
        return Finding(
            "warn", "UDP loss", text, "a path that loses packets: keep quic on offer, it copes best"
        )
    return Finding("ok", "UDP loss", text)


def _late(pings: _Pings) -> float:
    """Seconds to wait for what is under way."""
    return min(PATIENCE, 0.1 + 3 * max(pings.trips.values(), default=PATIENCE))
