"""The UDP socket of an endpoint. It receives fairly and sends without blocking.

The receive loop reads at most one batch of datagrams before other greenlets have their turn. After each
batch, each carrier that received something sends once. Datagrams that the kernel does not accept at once
wait in a bounded queue, in order.

Errors that the kernel reports are only hints. Most come from ICMP messages. Anybody who guesses two ports can
forge them, and a port may be closed for only a moment (RFC 8085 section 5.2). Only an error that shows that
the socket itself is broken ends its use.
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
from lane.net.sleeper import sleep
from lane.net.udp import ALONE
from lane.supervisor import FAULTS, report, supervise
from lane_quic.configuration import LARGEST_RECEIVED
from lane_quic.udp import offload
from lane_quic.udp.offload import Datagrams, Train
from lane_quic.udp.sockets import tune

log = logging.getLogger("lane.quic")

BATCH = 64
"""Datagrams that a receive loop reads before other greenlets have their turn."""
QUANTUM = 0.002
"""Seconds that a receive loop may run before other greenlets have their turn."""
GATHER = 16
"""Packets of a bulk transfer that are read together. A wake-up costs more than a packet, and on real links
packets arrive one by one."""
GATHER_MOST = 0.004
"""Seconds that the loop may wait for so many packets."""
GATHER_HURRIED = 0.001
"""The same while somebody waits for a new stream. Timers are hardly finer."""
BULK_SIZE = 1000
"""Bytes from which a packet counts as large, as in bulk transfers."""
BULK_RATE = 600.0
"""Large packets a second from which the traffic counts as a bulk transfer."""
BULK_MEMORY = 0.020
"""Seconds over which that rate is measured."""
SPARSE = 0.0005
"""Seconds after a batch from which on a packet probably comes alone. To ask the kernel for a second one
costs as much as to read one."""
HURRY = 1.0
"""Seconds for which packets of a bulk transfer wait no longer than somebody beside it asked for."""
BACKLOG = 4096
"""Datagrams that may wait for a full socket. More are dropped, as in a network."""
BACK_OFF = 0.01
"""Seconds to wait after nothing but errors from the kernel. Trying again at once would only use CPU time."""
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
"""Errors that hint that the peer cannot be reached. Others (no room, too large) only lose a packet."""
BROKEN = {errno.EBADF, errno.ENOTSOCK}
"""Errors that show that the socket no longer exists."""

_READ, _WRITE = 1, 2
_ANCILLARY = pktinfo.ROOM * 2 + offload.ROOM


class DatagramReceiver(Protocol):
    """A receiver of datagrams: a connection."""

    def act(self) -> float:
        """Act on the datagrams of a batch, and answer them soon.

        Return how long the next ones may be gathered, in seconds: `GATHER_MOST`, or less if somebody waits.
        """


class QuicSocket:
    """A UDP socket in the event loop. A path is (address, ancillary data that selects our own address).

    `on_datagrams` is called with the datagrams that arrived together from one path, the path and the time. It
    returns their receivers. `on_hint` is called, a little later, with an error number of `HINTS`. `on_broken`
    is called once, when the socket is broken.
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
        self._patience, self._hurried = GATHER_MOST, -inf  # how long packets may be gathered, and since when
        self._rate, self._last = 0.0, monotonic()  # large packets a second; when the newest batch came
        self._alone = 0  # packets that may still be taken without a look for a second one
        self.closed = self.broken = False
        self._hint: int | None = None  # an error number for `on_hint`, not reported yet
        self.resume()

    def send(self, datagrams: Datagrams) -> None:
        """Send now, or as soon as the kernel accepts the datagrams."""
        if self._backlog:
            room = BACKLOG - len(self._backlog)
            self._backlog.extend(offload.apart(datagrams[:room])[:room])
            return
        if len(datagrams) == 1:
            data, path = datagrams[0]
            if isinstance(data, bytes) and self._send_one(data, path):
                return
        if not self._segments:
            datagrams = offload.apart(datagrams)
        if (sent := self._send_all(datagrams)) < len(datagrams):
            self._backlog.extend(offload.apart(datagrams[sent : sent + BACKLOG])[:BACKLOG])
            self._writable.start(self._send_backlog)

    def _send_all(self, datagrams: Datagrams) -> int:
        """Send until the kernel has no room. Return how many of `datagrams` it accepted."""
        at = 0
        while at < len(datagrams):
            count = offload.together(datagrams, at) if self._segments else 1
            if not self._send(datagrams[at : at + count]):
                break
            at += count
        return at

    def _send(self, datagrams: Datagrams) -> bool:
        """Send datagrams in one call. False if the kernel has no room now. Other errors lose them."""
        data, (address, ancillary) = datagrams[0]
        joined, size = isinstance(data, Train), data.size if isinstance(data, Train) else len(data)
        pieces: list[bytes] = [piece.data if isinstance(piece, Train) else piece for piece, _ in datagrams]
        try:
            if joined or len(pieces) > 1:
                options = [*(ancillary or ()), offload.segments(size)]
                return bool(self._sock.sendmsg(pieces, options, 0, address))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in offload.REFUSALS:
                return self._send_apart(offload.apart(datagrams))
            self._note(error)
            return True
        return self._send_one(pieces[0], datagrams[0][1])

    def _send_one(self, data: bytes, path: Any) -> bool:
        """Send a datagram. Returns as `_send` does."""
        address, ancillary = path
        try:
            if address is None:
                self._sock.send(data)
            elif ancillary:
                self._sock.sendmsg((data,), ancillary, 0, address)
            else:
                self._sock.sendto(data, address)
        except BlockingIOError:
            return False
        except OSError as error:
            self._note(error)
        return True

    def _send_apart(self, datagrams: Sequence[tuple[bytes, Any]]) -> bool:
        """Send one by one, since the kernel refused the datagrams in one call.

        If it accepts the first one alone, segmentation does not work, and is not used again. Otherwise the
        path is the reason, and segmentation stays on. If the socket becomes full on the way, all are sent
        again later: duplicates do no harm.
        """
        data, (address, ancillary) = datagrams[0]
        try:
            self._sock.sendmsg((data,), ancillary or (), 0, address)
        except BlockingIOError:
            return False
        except OSError as error:
            self._note(error)
            return True
        log.debug("UDP segmentation does not work here: packets are sent one by one from now on")
        self._segments = False
        return self._send_all(datagrams[1:]) == len(datagrams) - 1

    def _send_backlog(self) -> None:
        while self._backlog:
            batch = list(islice(self._backlog, offload.MOST_SEGMENTS))
            try:
                sent = self._send_all(batch)
            except Exception as error:  # a datagram that cannot be sent must not block the others
                report("sending over UDP", error)
                sent = 1
            for _ in range(sent):
                self._backlog.popleft()
            if sent < len(batch):
                return
        self._writable.stop()

    def _receive(self) -> None:
        while not self.closed and not self.broken:
            gevent.sleep(sleep(self._readable, self._take))

    def _take(self) -> float | None:
        """Take what has come, and return for how many seconds no more is to be taken; None: for none at all.

        The event loop calls this: a greenlet that waits would take more time than a packet.
        """
        if self.closed or self.broken:
            return 0.0
        start = monotonic()
        alone = self._alone > 0 and self._rate < BULK_RATE and start - self._last > SPARSE
        drained, count, large = self._take_batch(start, BATCH if not alone else 1)
        if drained is None and not alone:
            return BACK_OFF
        if count > 1:
            self._alone = 0
        else:
            self._alone = self._alone - 1 if alone else ALONE
        now, last = monotonic(), self._last
        self._last = now
        if large or self._rate:
            rate = large / max(now - last, 1e-6)
            self._rate += (rate - self._rate) * min((now - last) / BULK_MEMORY, 1.0)
        if self._rate > BULK_RATE:
            return min(GATHER / self._rate, self._patience) or None if drained else None
        if self._patience:  # a stream that is new may become the bulk transfer
            self._patience = GATHER_MOST
        return None

    def _take_batch(self, start: float, most: int) -> tuple[bool | None, int, int]:
        """Read a batch and let the carriers answer. Return whether that was all, the packets, the large ones.

        It ends with the read that brings the `most` packets, or some time after `start`. None in place of
        the first result: there were only errors.
        """
        drained, large, count, failed = False, 0, 0, 0
        rows: list[tuple[Any, list[bytes]]] = []  # consecutive datagrams, by path
        while count < most and not self.broken and (not count or monotonic() - start <= QUANTUM):
            try:
                data, ancillary, _, address = self._sock.recvmsg(65536, _ANCILLARY)
            except BlockingIOError:
                drained = True
                break
            except OSError as error:
                self._note(error)
                count, failed = count + 1, failed + 1
                continue
            datagrams = offload.cut(data, ancillary) if ancillary else [data]
            count += len(datagrams)
            if len(datagrams[0]) > LARGEST_RECEIVED or (address and not address[1]):  # port 0: no answer
                continue
            large += len(datagrams) if len(datagrams[0]) >= BULK_SIZE else 0
            path = (address, pktinfo.source(ancillary) if ancillary else ())
            if rows and rows[-1][0] == path:
                rows[-1][1].extend(datagrams)
            else:
                rows.append((path, datagrams))
        self._hand_out(rows, start)
        return (None if 0 < count == failed and not drained else drained), count, large

    def _hand_out(self, rows: list[tuple[Any, list[bytes]]], start: float) -> None:
        """Deliver the datagrams, and let each receiver act on them. One that fails does not affect others."""
        touched: dict[DatagramReceiver, None] = {}
        for path, datagrams in rows:
            if not self.closed:
                try:
                    for carrier in self._on_datagrams(datagrams, path, monotonic()):
                        touched[carrier] = None
                except FAULTS as error:
                    report("taking datagrams", error)
        for carrier in touched:
            try:
                patience = carrier.act()
            except FAULTS as error:
                report("acting on datagrams", error)
            else:
                if patience <= self._patience or start - self._hurried > HURRY:
                    self._patience, self._hurried = patience, start

    def _note(self, error: OSError) -> None:
        """Report an error in the next turn of the event loop, and not from within a call of `send`."""
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

    def pause(self) -> None:
        """Receive nothing more, and go on sending."""
        self._loop.kill(block=False)

    def resume(self) -> None:
        """Receive."""
        self._loop = supervise("receiving over UDP", self._receive)

    def close(self) -> None:
        """Close the socket after one attempt to send the queued datagrams."""
        if not self.closed:
            self.closed = True
            self._send_backlog()
            self._readable.close()
            self._writable.close()
            self._sock.close()
            self._loop.kill(block=False)
            del self._on_datagrams, self._on_hint, self._on_broken  # of the owner, who may have this socket
