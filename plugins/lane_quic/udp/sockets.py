"""Setup of UDP sockets for QUIC: addresses, large buffers, no fragmentation, source addresses of answers."""

import logging
import os
import socket
from functools import cache
from typing import Any

from lane.address import normal_host
from lane.net import pktinfo
from lane.net.listen import bind_udp
from lane.stream import Address

log = logging.getLogger("lane.quic")

SOCKET_BUFFER = 4 << 20
"""The buffer size that the kernel is asked for in each direction, bytes."""

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32


def bind(endpoint: Address) -> list[socket.socket]:
    """Open UDP sockets on all addresses of `endpoint`, at least one. Raises ConfigError."""
    found = bind_udp(endpoint, quic=True)
    for sock in found:
        pktinfo.want(sock)
    return found


def tune(sock: socket.socket) -> None:
    """Set large buffers and forbid fragmentation, as far as the kernel allows."""
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
    """Log the warning. Called once in a process."""
    log.warning(
        "small UDP buffers slow quic down on fast lines; to let lane have larger ones: sysctl -w %s", limits
    )


def _warn_of_small_buffers(sock: socket.socket) -> None:
    """Warn if the kernel gives smaller buffers than requested. Linux reports twice the size that it gives."""
    if hasattr(socket, "SO_DOMAIN"):
        options = {"rmem_max": socket.SO_RCVBUF, "wmem_max": socket.SO_SNDBUF}
        small = [
            n for n, option in options.items() if sock.getsockopt(socket.SOL_SOCKET, option) < SOCKET_BUFFER
        ]
        if small:
            _warn(" ".join(f"net.core.{name}={SOCKET_BUFFER}" for name in small))


def _try_option(sock: socket.socket, level: int, option: int, value: int) -> None:
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        log.debug("the kernel refuses socket option %d at level %d", option, level)


def peer_name(path: Any) -> str:
    """The peer's IP address in its usual text form."""
    return normal_host(path[0][0])
