"""Equal rates for the bulk transfers of one path, each of which has a TCP connection of its own.

Connections that share a full queue are far from equal rates for a long time: under CUBIC the one that began
first keeps several times the rate of the others. But they all end here and at one peer, so whoever sends them
knows all of their rates. While their path has a queue, none of them is paced at much more than their average
(SO_MAX_PACING_RATE). What the greedy ones leave is taken by the others, and the average follows.

Without a queue nothing is capped: then the application, or the loss of the line, limits each one for itself.

So many transfers that they overflow any queue are a crowd. Its rate is found for all of them, and each gets
an equal part from its first moment on: see `lane_tls.crowd`.

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
from lane_tls.crowd import Crowd

LOOK = 0.25
"""Seconds between two looks at the transfers."""
MOST_AT_ONCE = 64
"""Transfers that are looked at in such a time. With more of them, looks are rarer."""
STEADY = 2
"""Looks in a row at which a transfer had more to send than the path takes, until it counts."""
STILL = 8
"""Looks in a row at which a transfer takes nothing or little, after which the path is not what limits it."""
QUEUE = 1.15
"""A path has a queue if round trips take this many times the shortest one."""
SHORTEST = 0.002
"""Seconds of a round trip below which the CPU, and not the network, limits transfers."""
HEADROOM = 1.1
"""The most of a transfer, in average rates. Above 1, so that all can take more when there is more."""
CROWD = 24
"""Transfers of a path beyond which they are a crowd, until half of them are left."""
FIRST = 65536
"""Bytes a second that each transfer of a new crowd has at least."""
MODEST = 0.6
"""Below this fraction of its part of a crowd, and of the fastest rate, something else than the path limits a
transfer."""
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

    __slots__ = (
        "_at", "_delivered", "_looks", "_lost", "_still", "arrived", "busy", "cap", "loss", "lost", "modest",
        "queued", "rate",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rate = 0.0
        """Bytes a second."""
        self.loss = 0.0
        """Fraction (0 to 1) of the bytes that were lost."""
        self.busy = 0
        """Looks at which it had more to send than the path takes, less those at which it had not."""
        self.cap = UNLIMITED
        """Bytes a second to which it is paced."""
        self.arrived = self.lost = 0
        """Bytes, between the last two looks."""
        self.modest = 0
        """Looks in a row at which it took much less than its part of a crowd."""
        self.queued = False
        """Whether its own round trips show a queue."""
        self._delivered: int | None = None
        self._lost = 0
        self._at = 0.0
        self._looks = self._still = 0

    def take(self, info: PathInfo, now: float, *, blocked: bool) -> None:
        """Take a look at its counters."""
        if self._delivered is not None and now > self._at:
            self.arrived, self.lost = info.delivered - self._delivered, info.lost - self._lost
            self.rate += (self.arrived / (now - self._at) - self.rate) / min(2, self._looks)
            loss = self.lost / max(1, self.arrived + self.lost)
            self.loss += (loss - self.loss) / min(4, self._looks)
            self._still = 0 if self.arrived else min(self._still + 1, STILL)
        self._delivered, self._lost, self._at = info.delivered, info.lost, now
        self._looks += 1
        self.queued = info.rtt > QUEUE * info.shortest_rtt
        self.busy = min(self.busy + 1, 2 * STEADY) if blocked else self.busy - 1

    @property
    def counts(self) -> bool:
        """Whether the path has limited it for some time."""
        return self.busy >= STEADY and self._looks > STEADY

    @property
    def stopped(self) -> bool:
        """Whether nothing has arrived for some time."""
        return self._still >= STILL


def cap(transfers: Sequence[Transfer], paths: Sequence[PathInfo]) -> None:
    """Set the caps of the `transfers` of one path, which has the measurements `paths`.

    One that sees no queue itself is not capped: it has a way of its own, as devices behind one address may.
    """
    limited = [transfer for transfer in transfers if transfer.counts and not transfer.stopped]
    most = UNLIMITED
    if len(limited) > 1 and _has_queue(paths):
        mean = sum(transfer.rate for transfer in limited) / len(limited)
        most = int(min(max(HEADROOM * mean, LEAST), UNLIMITED))
    for transfer in transfers:
        transfer.cap = most if transfer.counts and transfer.queued else UNLIMITED


def remember(
    peer: str, transfers: Sequence[Transfer], paths: Sequence[PathInfo], *, full: bool | None = None
) -> None:
    """Note what the `transfers` to `peer`, which have the measurements `paths`, show of its path.

    `full`: whether they fill it. None: if it has a queue. A path on which nothing arrives is cut off, and
    shows nothing.
    """
    limited = [transfer for transfer in transfers if transfer.counts]
    shortest = [path.shortest_rtt for path in paths if path.shortest_rtt]
    if not shortest or not any(transfer.arrived for transfer in limited):
        return
    rate = sum(transfer.rate for transfer in limited)
    if _has_queue(paths) if full is None else full:  # they fill the path, and may lose what overflows
        PATHS.to(peer).learn(rate, min(shortest))
    else:
        PATHS.to(peer).learn(rate, min(shortest), min(each.loss for each in limited), least=True)


def _has_queue(paths: Sequence[PathInfo]) -> bool:
    known = [path for path in paths if path.shortest_rtt >= SHORTEST]
    return bool(known) and median(path.rtt / path.shortest_rtt for path in known) > QUEUE


class Path:
    """The transfers of one user to one peer. `key` has both, the peer first."""

    def __init__(self, key: tuple[str, str]) -> None:
        self.transfers: dict[Sender, Transfer] = {}
        self._peer = normal_host(key[0])
        self._crowd: Crowd | None = None
        self._looked_at = monotonic()

    def add(self, stream: Sender) -> None:
        """Look after `stream`. If there is a crowd, or there is one now, it is held at once."""
        self.transfers[stream] = Transfer()
        held = [stream]
        if self._crowd is None and len(self.transfers) > CROWD:
            self._crowd = self._gather(stream)
            held = list(self.transfers)
        if self._crowd is not None:
            part = self._part(self._crowd)
            for each in held:
                self._hold(each, part)

    def _gather(self, stream: Sender) -> Crowd | None:
        """The crowd that begins with `stream`. None where the network is not the limit."""
        info, known = path_info(stream.sock), PATHS.to(self._peer).figures
        if info is None or info.shortest_rtt < SHORTEST:
            return None
        now = sum(transfer.rate for transfer in self.transfers.values())
        return Crowd(max(now, known.rate if known else 0.0, FIRST * len(self.transfers)))

    def look(self) -> None:
        """Measure all transfers, and hold each as is due. Those that have ended are forgotten."""
        now, paths, before, transfers = monotonic(), [], {}, self.transfers
        for stream, transfer in list(transfers.items()):
            info = None if stream.broken else path_info(stream.sock)
            if info is not None:
                transfer.take(info, now, blocked=stream.was_blocked())
                paths.append(info)
            before[stream] = stream.cap
            if info is None or transfer.busy < -STEADY:
                del transfers[stream]
                stream.shared, transfer.cap = False, UNLIMITED
        self._decide(list(transfers.values()), paths, max(now - self._looked_at, 0.001))
        self._looked_at = now
        for stream, last in before.items():
            most = transfers[stream].cap if stream in transfers else UNLIMITED
            if most != last and not stream.broken:
                self._hold(stream, most)

    def _decide(self, transfers: list[Transfer], paths: list[PathInfo], seconds: float) -> None:
        """Set the caps, after so many seconds."""
        if (crowd := self._crowd) is None or len(transfers) <= CROWD // 2:
            self._crowd = None
            cap(transfers, paths)
            remember(self._peer, transfers, paths)
            return
        arrived, lost = (sum(getattr(one, what) for one in transfers) for what in ("arrived", "lost"))
        crowd.look(arrived, lost, seconds)
        fastest = max(transfer.rate for transfer in transfers)
        for transfer in transfers if arrived else ():  # else the path is cut off
            little = transfer.counts and transfer.rate < MODEST * min(transfer.cap, fastest)
            transfer.modest = min(transfer.modest + 1, STILL) if little and not crowd.finding else 0
        part = self._part(crowd, sorted(one.rate for one in transfers if one.modest >= STILL))
        for transfer in transfers:
            transfer.cap = part
        if not crowd.finding:
            remember(self._peer, transfers, paths, full=crowd.full)

    def _part(self, crowd: Crowd, rates: Sequence[float] = ()) -> int:
        """The part of each. Those that have less to send leave theirs.

        `rates`: of those that take less than their part for some time. They leave what they do not take.
        """
        left, number = crowd.rate, sum(transfer.busy >= 0 for transfer in self.transfers.values())
        for rate in rates:
            if not number or rate > MODEST * left / number:
                break
            left, number = left - rate, number - 1
        return int(min(max(left / max(1, number), LEAST_SHARE), UNLIMITED))

    def _hold(self, stream: Sender, most: int) -> None:
        stream.cap = most
        if (transfer := self.transfers.get(stream)) is not None:
            transfer.cap = most
        apply(stream)


class FairRates:
    """The streams of one event loop that have more to send than their paths take, by peer and user."""

    def __init__(self) -> None:
        self._paths: dict[tuple[str, str], Path] = {}
        self._running = False

    def enter(self, stream: Sender) -> None:
        """Look after `stream` until it has nothing to send for some time, or has ended."""
        if stream.sock.family not in _NETWORK:
            return
        with suppress(OSError):
            key = stream.sock.getpeername()[0], stream.user
            if (path := self._paths.get(key)) is None:
                path = self._paths[key] = Path(key)
            path.add(stream)
            if not self._running:
                self._running = True
                supervise("the rates of transfers over TCP", self._run)

    def _run(self) -> None:
        while self._paths:
            count = sum(len(path.transfers) for path in self._paths.values())
            gevent.sleep(LOOK * max(1.0, count / MOST_AT_ONCE))
            for key, path in list(self._paths.items()):
                path.look()
                if not path.transfers:
                    del self._paths[key]
        self._running = False


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
