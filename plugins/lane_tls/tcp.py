"""The TCP connection below TLS: how it is made, and what the kernel is asked to do with it.

Congestion control is the kernel's, a connection at a time: BBR moves bytes over paths that lose some at
random, where the usual CUBIC takes each loss for a full queue. It also spreads packets over time from the
first one on, which costs a short answer some milliseconds: so it is asked for when a stream has something
large to send. Little may wait unsent in the kernel, so that what a session says next (an answer, an
acknowledgement) does not stand behind megabytes.
"""

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from gevent.socket import socket as gevent_socket
from gevent.threadpool import ThreadPool

from lane.errors import Unreachable, UsageError
from lane.stream import Address
from lane_tls.words import words

AUTO, SYSTEM = "auto", "system"
_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
_AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
UNSENT = 262144
"""Bytes that may wait in the kernel before it sends them, beyond one write."""
_OPTIONS = [
    # A dead path is noticed after 15 s, idle (30 s) or not. A peer that reads nothing for as long counts
    # as dead too, which the sessions of lane never do: they hold back by their windows.
    ("SOL_SOCKET", "SO_KEEPALIVE", 1),
    ("IPPROTO_TCP", "TCP_KEEPIDLE", 15),
    ("IPPROTO_TCP", "TCP_KEEPINTVL", 5),
    ("IPPROTO_TCP", "TCP_KEEPCNT", 3),
    ("IPPROTO_TCP", "TCP_USER_TIMEOUT", 15_000),
    ("IPPROTO_TCP", "TCP_NODELAY", 1),
    ("IPPROTO_TCP", "TCP_NOTSENT_LOWAT", UNSENT),
]  # and no buffer sizes: they would end the kernel's own tuning

_resolver: list[Any] = []  # made when it is first needed


def choose(name: str) -> bytes | None:
    """What to ask the kernel for: `auto` is BBR where it lets us. None: leave it as the system has it.

    Raises UsageError for a name that the kernel does not let us use.
    """
    if name == SYSTEM:
        return None
    wanted = b"bbr" if name == AUTO else name.encode()
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, wanted)
        except (OSError, AttributeError):  # no such algorithm, not for us, or not on this system
            if name == AUTO:
                return None
            raise UsageError(f"--tcp-congestion: {name} cannot be used here{_offer()}") from None
    return wanted


def _offer() -> str:
    """What can be used instead, for people."""
    try:
        return f" (what can: {', '.join(_ALLOWED.read_text().split())}; there are: " + (
            f"{', '.join(_AVAILABLE.read_text().split())}; sysctl net.ipv4.tcp_allowed_congestion_control)"
        )
    except OSError:
        return ""


def use(sock: Any, congestion: bytes) -> None:
    """Have the kernel send with `congestion` from now on. Where it will not any more, nothing changes."""
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion)


def tune(sock: Any) -> None:
    """Set the options of a connection, or of a listener: what it accepts inherits them."""
    for level, option, value in _OPTIONS:
        if hasattr(socket, option):
            sock.setsockopt(getattr(socket, level), getattr(socket, option), value)


def connect(endpoint: Address, timeout: float) -> Any:
    """A socket (gevent's) to the first address of `endpoint` that takes one. Raises Unreachable."""
    failure = "no address"
    addresses = _resolve(endpoint)
    for family, kind, protocol, _, address in addresses:
        sock = gevent_socket(family, kind, protocol)
        try:
            sock.settimeout(timeout / len(addresses))  # one silent address leaves time for others
            sock.connect(address)
            return sock
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            failure = words(error)
    raise Unreachable(f"cannot reach {endpoint}: {failure}")


def _resolve(endpoint: Address) -> list[Any]:
    """The addresses of a host. A name is looked up in a thread: the C library's resolver blocks."""
    try:
        return socket.getaddrinfo(*endpoint, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass
    if not _resolver:
        # Threads of our own: a look-up that timed out keeps its thread until it ends.
        _resolver.append(ThreadPool(4))
    try:
        found: list[Any] = _resolver[0].apply(socket.getaddrinfo, endpoint, {"type": socket.SOCK_STREAM})
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"cannot look up {endpoint.host}: {words(error)}") from None
    return found
