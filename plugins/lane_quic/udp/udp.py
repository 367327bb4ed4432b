"""The UDP socket of an endpoint: receives fairly, sends without blocking.

A receive loop takes what is there, but never more than a batch before the rest of the process has had
its turn, and lets the carriers that it touched answer once each. What the kernel does not take at once
waits, in order and bounded.

What the kernel reports is a hint and no more. Most of it comes from ICMP messages, which anybody can send
who guesses two ports, and a port may be closed for a moment only (RFC 8085 section 5.2). Only a socket that
is none any more is of no more use.
"""

import errno
import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from math import inf
from time import monotonic
from typing import Any, Protocol

import gevent

from lane.net import pktinfo
from lane.supervisor import report, supervise
from lane_quic.configuration import LARGEST_RECEIVED
from lane_quic.udp import offload
from lane_quic.udp.sockets import tune

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
"""Seconds after such a packet for which nothing gathers: see `DatagramReceiver.hurries`."""
BACKLOG = 4096
"""Datagrams that wait for a full socket; more are dropped, as a network would."""
BACK_OFF = 0.01
"""Seconds to wait where the kernel had nothing but errors: trying again at once would only burn CPU."""
HINTS = {
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
    errno.ENOPROTOOPT,
    errno.EPROTO,
    errno.EPERM,
    errno.EACCES,
    errno.EINVAL,
}
"""Errors that say that the peer may not be reached. Others (no room, too large) lose a packet."""
BROKEN = {errno.EBADF, errno.ENOTSOCK}
"""Errors that say that there is no socket any more."""

_READ, _WRITE = 1, 2
_ANCILLARY = pktinfo.ROOM * 2 + offload.ROOM


class DatagramReceiver(Protocol):
    """Whoever a datagram was for."""

    hurries: bool
    """Whether what it got last is worth less when it comes later."""

    def flush(self) -> None:
        """Act on all that was received in a batch."""


class QuicSocket:
    """A UDP socket in the event loop. A path is (address, ancillary data that picks our own address).

    `on_datagrams` gets what came together from one path, with the time, and gives whom it was for. `on_hint`
    hears, soon after, the number of an error that says that the peer may not be reached; `on_broken`, once,
    that the socket is of no more use.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_datagrams: Callable[[list[bytes], Any, float], Sequence[DatagramReceiver]],
        *,
        on_hint: Callable[[int], None] = lambda number: None,
        on_broken: Callable[[], None] = lambda: None,
        offloads: bool = True,
    ) -> None:
        sock.setblocking(False)
        tune(sock)
        self._segments = offloads and offload.can_segment(sock)
        if offloads:
            offload.want_gro(sock)
        self._sock = sock
        self._on_datagrams = on_datagrams
        self._on_hint = on_hint
        self._on_broken = on_broken
        self._backlog: deque[tuple[bytes, Any]] = deque()
        self._events: Any = gevent.get_hub().loop
        self._readable, self._writable = (self._events.io(sock.fileno(), event) for event in (_READ, _WRITE))
        self._hurried = -inf  # when somebody got what is worth less when it comes later
        self.closed = self.broken = False
        self._hint: int | None = None  # that is still to be told
        self._loop = supervise("receiving over UDP", self._receive)

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
            try:
                sent = self._send_all(batch)
            except Exception as error:  # what can't be sent must not hold up the rest
                report("sending over UDP", error)
                sent = 1
            for _ in range(sent):
                self._backlog.popleft()
            if sent < len(batch):
                return
        self._writable.stop()

    def _receive(self) -> None:
        hub: Any = gevent.get_hub()
        rate, last, pause = 0.0, monotonic(), 0.0
        while not self.closed and not self.broken:
            if not pause:
                hub.wait(self._readable)  # no limit: until the socket is closed
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
        while count < BATCH and not self.broken and monotonic() - start <= QUANTUM:
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
            path = (address, pktinfo.source(ancillary))
            if rows and rows[-1][0] == path:
                rows[-1][1].extend(datagrams)
            else:
                rows.append((path, datagrams))
        if not rows and not drained:
            gevent.sleep(BACK_OFF)
        self._hand_out(rows, start)
        return drained, large

    def _hand_out(self, rows: list[tuple[Any, list[bytes]]], start: float) -> None:
        """Give whom they are for what came in turn, and have them act on it. Who fails costs nobody else."""
        touched: dict[DatagramReceiver, None] = {}
        for path, datagrams in rows:
            if not self.closed:
                try:
                    for carrier in self._on_datagrams(datagrams, path, monotonic()):
                        touched[carrier] = None
                except Exception as error:
                    report("taking datagrams", error)
        for carrier in touched:
            try:
                carrier.flush()
            except Exception as error:
                report("acting on datagrams", error)
            if carrier.hurries:
                self._hurried = start

    def _note(self, error: OSError) -> None:
        """Tell of an error in the next turn of the event loop: who sends must not be called back."""
        if error.errno in BROKEN:
            if not self.broken:
                self.broken = True
                self._events.run_callback(self._tell)
        elif error.errno in HINTS and self._hint is None:
            self._hint = error.errno
            self._events.run_callback(self._tell)

    def _tell(self) -> None:
        hint, self._hint = self._hint, None
        try:
            if self.closed:
                return
            if self.broken:
                self._on_broken()
            elif hint is not None:
                self._on_hint(hint)
        except Exception as error:
            report("acting on an error of a UDP socket", error)

    def close(self) -> None:
        """Close the socket, once what waits has been sent if the kernel takes it."""
        if not self.closed:
            self.closed = True
            self._send_backlog()
            self._readable.close()
            self._writable.close()
            self._sock.close()
            self._loop.kill(block=False)
