"""The UDP socket of an endpoint: receives fairly, sends without blocking.

A receive loop takes what is there, but never more than a batch before the rest of the process has had
its turn, and lets the carriers that it touched answer once each. What the kernel does not take at once
waits, in order and bounded.
"""

import errno
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from math import inf
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent import socket as gsocket

from lane.address import normal_host
from lane.errors import ConfigError
from lane.stream import Address
from lane_quic import offload
from lane_quic.configuration import LARGEST_RECEIVED

log = logging.getLogger("lane.quic")

BATCH, QUANTUM = 64, 0.002
"""Datagrams, and seconds, that a receive loop takes before others have their turn."""
GATHER, GATHER_MOST = 16, 0.004
"""Packets of a bulk transfer that gather before they are taken together, and seconds that this may take: a
wake-up costs more than a packet, and on real links they come one by one."""
BULK_SIZE, BULK_RATE = 1000, 600.0
"""Bytes of a packet that counts as one of a bulk transfer, and such packets a second that make one."""
BULK_MEMORY = 0.020
"""Seconds over which that rate is measured."""
HURRY = 1.0
"""Seconds after such a packet for which nothing gathers: see `Receiver.hurries`."""
BACKLOG = 4096
"""Datagrams that wait for a full socket; more are dropped, as a network would."""
SOCKET_BUFFER = 4 << 20

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_IP_PKTINFO = 8
_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50
_READ, _WRITE = 1, 2
_ANCILLARY = socket.CMSG_SPACE(20) * 2 + offload.ROOM


class Receiver(Protocol):
    """Whoever a datagram was for."""

    hurries: bool
    """Whether what it got last is worth less when it comes later."""

    def flush(self) -> None:
        """Act on all that was received in a batch."""


class UdpSocket:
    """A UDP socket in the event loop. A path is (address, ancillary data that picks our own address).

    `on_datagrams` gets what came together from one path, with the time, and gives whom it was for; it gets
    nothing at all where the socket has failed.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_datagrams: Callable[[list[bytes], Any, float], Sequence[Receiver]],
        *,
        offloads: bool = True,
    ) -> None:
        sock.setblocking(False)
        _tune(sock)
        self._segments = offloads and offload.can_segment(sock)
        if offloads:
            offload.want_gro(sock)
        self._sock = sock
        self._on_datagrams = on_datagrams
        self._backlog: deque[tuple[bytes, Any]] = deque()
        loop: Any = gevent.get_hub().loop
        self._readable, self._writable = loop.io(sock.fileno(), _READ), loop.io(sock.fileno(), _WRITE)
        self._hurried = -inf  # when somebody got what is worth less when it comes later
        self.closed = False
        self.refused = False
        """Whether nobody listens where a connected socket sends to."""
        self._loop = gevent.spawn(self._receive)

    def send(self, datagrams: list[tuple[bytes, Any]]) -> None:
        """Send now, or as soon as the kernel takes it."""
        if self._backlog:
            room = BACKLOG - len(self._backlog)
            self._backlog.extend(datagrams[:room])
            return
        if (sent := self._send_all(datagrams)) < len(datagrams):
            self._backlog.extend(datagrams[sent : sent + BACKLOG])
            self._writable.start(self._send_backlog)

    def _send_all(self, datagrams: Sequence[tuple[bytes, Any]]) -> int:
        """How many of them the kernel took, from the first on."""
        at = 0
        while at < len(datagrams):
            count = offload.together(datagrams, at) if self._segments else 1
            if not self._send(datagrams[at : at + count]):
                break
            at += count
        return at

    def _send(self, datagrams: Sequence[tuple[bytes, Any]]) -> bool:
        """Send what goes together. False if that is to be tried again; other failures lose it, as a network
        would.
        """
        data, (address, ancillary) = datagrams[0]
        try:
            if len(datagrams) > 1:
                pieces = [piece for piece, _ in datagrams]
                options = [*(ancillary or ()), offload.segments(len(data))]
                return bool(self._sock.sendmsg(pieces, options, 0, address))
            if address is None:
                self._sock.send(data)
            elif ancillary:
                self._sock.sendmsg((data,), ancillary, 0, address)
            else:
                self._sock.sendto(data, address)
        except BlockingIOError:
            return False
        except OSError as error:
            if len(datagrams) > 1 and error.errno in offload.REFUSALS:
                return self._send_apart(datagrams)
            self._note(error)
        return True

    def _send_apart(self, datagrams: Sequence[tuple[bytes, Any]]) -> bool:
        """The kernel refused them together. If it takes the first one alone, it will never take several; else
        it was the path, which is no reason for others to do without.

        Where the socket fills up in between, what has left leaves again: duplicates do no harm.
        """
        data, (address, ancillary) = datagrams[0]
        try:
            self._sock.sendmsg((data,), ancillary or (), 0, address)
        except BlockingIOError:
            return False
        except OSError as error:
            self._note(error)
            return True
        log.debug("packets leave one by one from now on")
        self._segments = False
        return self._send_all(datagrams[1:]) == len(datagrams) - 1

    def _send_backlog(self) -> None:
        while self._backlog:
            batch = list(islice(self._backlog, offload.MOST_SEGMENTS))
            sent = self._send_all(batch)
            for _ in range(sent):
                self._backlog.popleft()
            if sent < len(batch):
                return
        self._writable.stop()

    def _receive(self) -> None:
        hub: Any = gevent.get_hub()
        rate, last, pause = 0.0, monotonic(), 0.0
        while not self.closed and not self.refused:
            if not pause:
                hub.wait(self._readable)
            drained, large = self._take_batch()
            now = monotonic()
            rate += (large / max(now - last, 1e-6) - rate) * min((now - last) / BULK_MEMORY, 1.0)
            last = now
            gathers = drained and rate > BULK_RATE and now - self._hurried > HURRY
            pause = min(GATHER / rate, GATHER_MOST) if gathers else 0.0
            if pause:
                gevent.sleep(pause)

    def _take_batch(self) -> tuple[bool, int]:
        """Take what has come and let the carriers answer: whether that was all, and how many were large."""
        drained, large, count = False, 0, 0
        rows: list[tuple[Any, list[bytes]]] = []  # what came in turn from one path
        start = monotonic()
        while count < BATCH and not self.closed and monotonic() - start <= QUANTUM:
            try:
                data, ancillary, _, address = self._sock.recvmsg(65536, _ANCILLARY)
            except BlockingIOError:
                drained = True
                break
            except OSError as error:
                self._note(error)
                count += 1
                continue
            datagrams = offload.cut(data, ancillary)
            count += len(datagrams)
            if len(datagrams[0]) > LARGEST_RECEIVED or (address and not address[1]):  # port 0: no answer
                continue
            large += len(datagrams) if len(datagrams[0]) >= BULK_SIZE else 0
            path = (address, _source(ancillary))
            if rows and rows[-1][0] == path:
                rows[-1][1].extend(datagrams)
            else:
                rows.append((path, datagrams))
        touched: dict[Receiver, None] = {}
        for path, datagrams in rows:
            if not self.closed:
                for carrier in self._on_datagrams(datagrams, path, monotonic()):
                    touched[carrier] = None
        for carrier in touched:
            carrier.flush()
            if carrier.hurries:
                self._hurried = start
        return drained, large

    def _note(self, error: OSError) -> None:
        """A connected socket hears of a port where nobody listens: it is of no more use then."""
        if error.errno == errno.ECONNREFUSED and not self.refused:
            self.refused = True
            gevent.spawn(self._end)

    def _end(self) -> None:
        """Tell of the error, after what came before it: the peer may have said why it leaves."""
        self._take_batch()
        self._on_datagrams([], None, monotonic())

    def close(self) -> None:
        """Close the socket, once what waits has been sent if the kernel takes it."""
        if not self.closed:
            self.closed = True
            self._send_backlog()
            self._readable.close()
            self._writable.close()
            self._sock.close()
            self._loop.kill(block=False)


def bind(endpoint: Address) -> socket.socket:
    """A UDP socket on `endpoint`. Raises ConfigError."""
    try:
        if not endpoint.host:
            try:
                sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                address: Any = ("::", endpoint.port)
            except OSError:  # a kernel without IPv6
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                address = ("0.0.0.0", endpoint.port)
        else:
            family, _, _, _, address = gsocket.getaddrinfo(
                endpoint.host, endpoint.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
            )[0]
            sock = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind(address)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise ConfigError(f"cannot listen on {endpoint} (UDP): {error.strerror or error}") from None
    if not endpoint.host or endpoint.host in ("::", "0.0.0.0"):
        _want_pktinfo(sock)
    return sock


def _tune(sock: socket.socket) -> None:
    """Large buffers, and packets that are never fragmented, where the kernel lets us."""
    v6 = sock.family == socket.AF_INET6
    for option, forced in (
        (socket.SO_RCVBUF, _SO_RCVBUFFORCE),
        (socket.SO_SNDBUF, _SO_SNDBUFFORCE),
    ):
        _try_option(sock, socket.SOL_SOCKET, option, SOCKET_BUFFER)
        if os.name == "posix" and hasattr(socket, "SO_DOMAIN"):
            _try_option(sock, socket.SOL_SOCKET, forced, SOCKET_BUFFER)
    _warn_of_small_buffers(sock)
    if hasattr(socket, "SO_DOMAIN"):  # Linux
        _try_option(sock, socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        if v6:
            _try_option(sock, socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)


@cache
def _warn(limits: str) -> None:
    """Once in the life of a process."""
    log.warning(
        "small UDP buffers slow quic down on fast lines; to let lane have larger ones: sysctl -w %s", limits
    )


def _warn_of_small_buffers(sock: socket.socket) -> None:
    """Where the kernel gives less than was asked for (Linux counts twice what it gives)."""
    if hasattr(socket, "SO_DOMAIN"):
        options = {"rmem_max": socket.SO_RCVBUF, "wmem_max": socket.SO_SNDBUF}
        small = [
            n for n, option in options.items() if sock.getsockopt(socket.SOL_SOCKET, option) < SOCKET_BUFFER
        ]
        if small:
            _warn(" ".join(f"net.core.{name}={SOCKET_BUFFER}" for name in small))


def _want_pktinfo(sock: socket.socket) -> None:
    """Have the kernel say which of our addresses a datagram came to, so that the answer leaves from it."""
    if sock.family == socket.AF_INET6:
        _try_option(sock, socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    else:
        _try_option(sock, socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _try_option(sock: socket.socket, level: int, option: int, value: int) -> None:
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        log.debug("the kernel refuses socket option %d at level %d", option, level)


def _source(ancillary: list[tuple[int, int, bytes]]) -> tuple[tuple[int, int, bytes], ...]:
    """Ancillary data that has an answer leave from the address that was sent to, by any interface."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
            scoped = data[:2] == b"\xfe\x80"  # a link-local address needs its interface
            return ((level, kind, data if scoped else data[:16] + bytes(4)),)
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            _, local, _ = struct.unpack("=I4s4s", data[:12])
            return ((level, kind, struct.pack("=I4s4s", 0, local, bytes(4))),)
    return ()


def peer_name(path: Any) -> str:
    """The peer's IP address as people write it."""
    return normal_host(path[0][0])
