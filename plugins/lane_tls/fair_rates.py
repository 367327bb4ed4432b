"""Equal rates for the bulk transfers of one path, each of which has a TCP connection of its own.

Connections that share a full queue are far from equal rates for a long time: under CUBIC the one that began
first keeps several times the rate of the others. But they all end here and at one peer, so whoever sends them
knows all of their rates. While their path has a queue, none of them is paced at much more than their average
(SO_MAX_PACING_RATE). What the greedy ones leave is taken by the others, and the average follows.

Without a queue nothing is capped: then the application, or the loss of the line, limits each one for itself.

This is about transfers of one user. What users have among each other is decided in `lane.server.uplink`.

What the transfers show of their path is remembered for other transports (lane.net.path_memory): together they
take all of it.
"""

import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from statistics import median
from time import monotonic
from typing import Any, Protocol

import gevent

from lane.address import normal_host
from lane.net.path_memory import PATHS
from lane.supervisor import supervise
from lane.tcp_info import PathInfo, path_info

LOOK = 0.25
"""Seconds between two looks at the transfers."""
MOST_AT_ONCE = 64
"""Transfers that are looked at in such a time. With more of them, looks are rarer."""
STEADY = 2
"""Looks in a row at which a transfer had more to send than the path takes, until it counts."""
QUEUE = 1.15
"""A path has a queue if round trips take this many times the shortest one."""
SHORTEST = 0.002
"""Seconds of a round trip below which the CPU, and not the network, limits transfers."""
HEADROOM = 1.1
"""The most of a transfer, in average rates. Above 1, so that all can take more when there is more."""
LEAST = 16384
"""Bytes a second that any transfer may have."""
LEAST_SHARE = 1500
"""Bytes a second that a server may hold a transfer to: a packet."""
UNLIMITED = (1 << 32) - 1

PACING = 47
"""SO_MAX_PACING_RATE (Linux, asm-generic/socket.h)."""
_NETWORK = socket.AF_INET, socket.AF_INET6
_LINUX = hasattr(socket, "SO_DOMAIN")


class Sender(Protocol):
    """The parts of a stream that are used here."""

    sock: Any
    shared: bool
    """Whether it is looked after."""

    user: str
    """Whose it is."""
    cap: int
    share: int
    """Bytes a second to which it is held here, and by the server: see `apply`."""

    @property
    def broken(self) -> bool:
        """Whether it was closed here, or failed."""

    def was_blocked(self) -> bool:
        """Whether the kernel had no room for data since the last call."""


class Transfer:
    """The rate of one connection, from its counters."""

    __slots__ = ("_at", "_delivered", "_looks", "_lost", "busy", "cap", "loss", "rate")

    def __init__(self) -> None:
        self.rate = 0.0
        """Bytes a second."""
        self.loss = 0.0
        """Fraction (0 to 1) of the bytes that were lost."""
        self.busy = 0
        """Looks at which it had more to send than the path takes, less those at which it had not."""
        self.cap = UNLIMITED
        """Bytes a second to which it is paced."""
        self._delivered: int | None = None
        self._lost = 0
        self._at = 0.0
        self._looks = 0

    def take(self, info: PathInfo, now: float, *, blocked: bool) -> None:
        """Take a look at its counters."""
        if self._delivered is not None and now > self._at:
            arrived, lost = info.delivered - self._delivered, info.lost - self._lost
            self.rate += (arrived / (now - self._at) - self.rate) / min(2, self._looks)
            self.loss += (lost / max(1, arrived + lost) - self.loss) / min(4, self._looks)
        self._delivered, self._lost, self._at = info.delivered, info.lost, now
        self._looks += 1
        self.busy = min(self.busy + 1, 2 * STEADY) if blocked else self.busy - 1

    @property
    def counts(self) -> bool:
        """Whether the path has limited it for some time."""
        return self.busy >= STEADY and self._looks > STEADY


def cap(transfers: Sequence[Transfer], paths: Sequence[PathInfo]) -> None:
    """Set the caps of the `transfers` of one path, which has the measurements `paths`."""
    limited = [transfer for transfer in transfers if transfer.counts]
    most = UNLIMITED
    if len(limited) > 1 and _has_queue(paths):
        mean = sum(transfer.rate for transfer in limited) / len(limited)
        most = int(min(max(HEADROOM * mean, LEAST), UNLIMITED))
    for transfer in transfers:
        transfer.cap = most if transfer.counts else UNLIMITED


def remember(peer: str, transfers: Sequence[Transfer], paths: Sequence[PathInfo]) -> None:
    """Note what the `transfers` to `peer`, which have the measurements `paths`, show of its path."""
    limited = [transfer for transfer in transfers if transfer.counts]
    shortest = [path.shortest_rtt for path in paths if path.shortest_rtt]
    if not limited or not shortest:
        return
    rate = sum(transfer.rate for transfer in limited)
    if _has_queue(paths):  # they fill the path, and may lose what overflows
        PATHS.to(peer).learn(rate, min(shortest))
    else:
        PATHS.to(peer).learn(rate, min(shortest), min(each.loss for each in limited), least=True)


def _has_queue(paths: Sequence[PathInfo]) -> bool:
    known = [path for path in paths if path.shortest_rtt >= SHORTEST]
    return bool(known) and median(path.rtt / path.shortest_rtt for path in known) > QUEUE


class FairRates:
    """The streams of one event loop that have more to send than their paths take, by peer and user."""

    def __init__(self) -> None:
        self._paths: dict[tuple[str, str], dict[Sender, Transfer]] = {}
        self._running = False

    def enter(self, stream: Sender) -> None:
        """Look after `stream` until it has nothing to send for some time, or has ended."""
        if stream.sock.family not in _NETWORK:
            return
        with suppress(OSError):
            peer = stream.sock.getpeername()[0]
            self._paths.setdefault((peer, stream.user), {})[stream] = Transfer()
            if not self._running:
                self._running = True
                supervise("the rates of transfers over TCP", self._run)

    def _run(self) -> None:
        while self._paths:
            count = sum(map(len, self._paths.values()))
            gevent.sleep(LOOK * max(1.0, count / MOST_AT_ONCE))
            for path in list(self._paths):
                self._look(path, self._paths[path])
        self._running = False

    def _look(self, path: tuple[str, str], streams: dict[Sender, Transfer]) -> None:
        now, paths, before = monotonic(), [], {}
        for stream, transfer in list(streams.items()):
            info = None if stream.broken else path_info(stream.sock)
            if info is not None:
                transfer.take(info, now, blocked=stream.was_blocked())
                paths.append(info)
            before[stream] = transfer.cap
            if info is None or transfer.busy < -STEADY:
                del streams[stream]
                stream.shared, transfer.cap = False, UNLIMITED
        cap(list(streams.values()), paths)
        remember(normal_host(path[0]), list(streams.values()), paths)
        for stream, last in before.items():
            most = streams[stream].cap if stream in streams else UNLIMITED
            if most != last and not stream.broken:
                stream.cap = most
                apply(stream)
        if not streams:
            del self._paths[path]


def apply(stream: Sender) -> None:
    """Have the kernel pace `stream` as it is held. Nothing happens where it can't, or if it is closed."""
    if _LINUX:
        with suppress(OSError):
            most = min(stream.cap, stream.share)
            stream.sock.setsockopt(socket.SOL_SOCKET, PACING, struct.pack("I", most))


_rates = FairRates()


def enter(stream: Sender) -> None:
    """See `FairRates.enter`. It does nothing where the kernel can't pace a connection."""
    if _LINUX:
        _rates.enter(stream)
