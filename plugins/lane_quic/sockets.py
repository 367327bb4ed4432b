"""How a UDP socket of QUIC is set up: its address, large buffers, no fragments, and where it answers from."""

import logging
import os
import socket
import struct
from functools import cache
from typing import Any

from lane.address import normal_host
from lane.net.listen import bind_udp
from lane.stream import Address

log = logging.getLogger("lane.quic")

SOCKET_BUFFER = 4 << 20
"""Bytes that the kernel is asked to hold, each way."""

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_IP_PKTINFO = 8
_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50


def bind(endpoint: Address) -> list[socket.socket]:
    """UDP sockets on all that `endpoint` stands for, at least one. Raises ConfigError."""
    found = bind_udp(endpoint)
    for sock in found:
        if sock.getsockname()[0] in ("::", "0.0.0.0"):
            _want_pktinfo(sock)
    return found


def tune(sock: socket.socket) -> None:
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


def source(ancillary: list[tuple[int, int, bytes]]) -> tuple[tuple[int, int, bytes], ...]:
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
