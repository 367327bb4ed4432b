"""The TCP connection below TLS: what the kernel is asked to do with it.

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

from lane.errors import UsageError

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
