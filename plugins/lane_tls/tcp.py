"""Settings of the TCP connection below TLS.

The kernel does the congestion control of each connection. On paths with random loss BBR is much faster than
the usual CUBIC, which takes each loss for a full queue. BBR also paces the first packets, which delays a
short answer by some milliseconds. So it is set only when a stream has much to send. Only little unsent data
may wait in the kernel, so that a session's next frame (an answer, an acknowledgement) does not wait behind
megabytes.
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
"""Bytes of unsent data that may wait in the kernel, beyond one write."""
_WANTED = [
    # A dead path is noticed after 15 s, or after 30 s while idle. A peer that reads nothing for so long
    # counts as dead too. lane's sessions always read: their own windows limit the sender.
    ("SOL_SOCKET", "SO_KEEPALIVE", 1),
    ("IPPROTO_TCP", "TCP_KEEPIDLE", 15),
    ("IPPROTO_TCP", "TCP_KEEPINTVL", 5),
    ("IPPROTO_TCP", "TCP_KEEPCNT", 3),
    ("IPPROTO_TCP", "TCP_USER_TIMEOUT", 15_000),
    ("IPPROTO_TCP", "TCP_NODELAY", 1),
    ("IPPROTO_TCP", "TCP_NOTSENT_LOWAT", UNSENT),
]  # no buffer sizes: they would turn off the kernel's own tuning
_OPTIONS = [
    (getattr(socket, level), getattr(socket, option), value)
    for level, option, value in _WANTED
    if hasattr(socket, option)
]


def choose(name: str) -> bytes | None:
    """The congestion control to set; None keeps the system's default. `auto` is BBR if the kernel allows it.

    Raises UsageError for a name that the kernel does not allow.
    """
    if name == SYSTEM:
        return None
    wanted = b"bbr" if name == AUTO else name.encode()
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, wanted)
        except (OSError, AttributeError):  # unknown, forbidden, or not on this system
            if name == AUTO:
                return None
            raise UsageError(f"--tcp-congestion: {name} cannot be used here{_offer()}") from None
    return wanted


def _offer() -> str:
    """The allowed names, as the end of an error message."""
    try:
        return f" (what can: {', '.join(_ALLOWED.read_text().split())}; there are: " + (
            f"{', '.join(_AVAILABLE.read_text().split())}; sysctl net.ipv4.tcp_allowed_congestion_control)"
        )
    except OSError:
        return ""


def use(sock: Any, congestion: bytes) -> None:
    """Set the congestion control from now on. If the kernel no longer allows it, nothing changes."""
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion)


def tune(sock: Any) -> None:
    """Set the options of a connection or a listener. Accepted connections inherit them."""
    for level, option, value in _OPTIONS:
        sock.setsockopt(level, option, value)
