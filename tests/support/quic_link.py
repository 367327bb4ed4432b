"""A link with a queue, and senders over it, on a clock of their own: congestion control without sockets.

A sender is the real Recovery (with its Pacer, delivery rates and controller) without a connection: it
sends full packets as long as it may and hears acknowledgements as lane's receiver gives them. What happens
depends on the seed only, so a test fails always or never.
"""

import heapq
import itertools
import random

from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.tls import Epoch
from lane_quic.engine.ack_timing import ACK_DELAY_SLACK, ACK_EVERY, MAX_ACK_DELAY
from lane_quic.recovery.recovery import Recovery

SIZE, HEADERS, ACK = 1452, 28, 60
TIMER = 0.0012
"""Seconds that a timer is late, at most."""


class Clock:
    """Virtual seconds, and what happens at them."""

    def __init__(self, seed=1):
        self.now = 0.0
        self.random = random.Random(seed)
        self._due, self._count = [], itertools.count()

    def at(self, when, what):
        heapq.heappush(self._due, (when, next(self._count), what))

    def run(self, until):
        while self._due and self._due[0][0] <= until:
            self.now, _, what = heapq.heappop(self._due)
            what()
        self.now = until


class Link:
    """Drop-tail queue, serialiser, random loss, delay; the way back is free but loses and delays as well.

    `mbit` of IP packets a second, `rtt` and `jitter` in seconds, `queue` in bytes; `police`: bytes a
    second above which packets are dropped at once. All may be changed while the clock runs. `ordered`:
    jitter overtakes nothing, so a packet waits for a late one before it, as on radio links.
    """

    def __init__(
        self, clock, mbit=30, rtt=0.05, loss=0.0, queue=None, jitter=0.0, burst=1, police=None, ordered=False
    ):
        self.clock, self.ordered = clock, ordered
        self.rate, self.rtt, self.loss, self.jitter, self.burst = mbit * 1e6 / 8, rtt, loss, jitter, burst
        self.queue = queue or max(self.rate * rtt, 65536)
        self.police = police
        self.back = None  # the link on which ACKs return, if they are not alone there: see `both_ways`
        self.dropped = 0
        self.waits = []  # seconds that packets stood in the queue
        self._busy_until = self._tokens = self._tokens_at = 0.0
        self._bad = [False, False]  # whether a burst of losses lasts, there and back
        self._newest = [0.0, 0.0]  # when the last packet arrives, there and back

    def send(self, size, arrive):
        now = self.clock.now
        start = max(self._busy_until, now)
        if self._policed(size) or (start - now) * self.rate + size > self.queue:
            self.dropped += 1
            return
        self.waits.append(start - now)
        self._busy_until = start + size / self.rate
        if not self._lost(0):
            self._deliver(self._busy_until, arrive, 0)

    def send_back(self, arrive):
        if self.back is not None:
            self.back.send(ACK + HEADERS, arrive)
        elif not self._lost(1):
            self._deliver(self.clock.now, arrive, 1)

    def _deliver(self, left, arrive, way):
        at = left + self.rtt / 2 + (2 * self.clock.random.random() - 1) * self.jitter
        if self.ordered:
            at = self._newest[way] = max(at, self._newest[way])
        self.clock.at(at, arrive)

    def _policed(self, size):
        if self.police is None:
            return False
        now = self.clock.now
        self._tokens = min(self._tokens + (now - self._tokens_at) * self.police, self.police / 10)
        self._tokens_at = now
        if self._tokens < size:
            return True
        self._tokens -= size
        return False

    def _lost(self, way):
        if self.burst <= 1 or not self.loss:
            return self.clock.random.random() < self.loss
        leave = 1 / self.burst
        enter = leave * self.loss / (1 - self.loss)
        chance = self.clock.random.random()
        self._bad[way] = chance >= leave if self._bad[way] else chance < enter
        return self._bad[way]


class Flow:
    """One sender and its receiver. `supply(now)`: bytes that the application has written; None: no end.

    `extra`: seconds that its round trip takes beside that of the link.
    """

    def __init__(self, clock, link, control, start=0.0, supply=None, extra=0.0):
        self.clock, self.link, self.controller = clock, link, control
        self._extra = extra
        self.peer = None  # the flow of the other direction: see `both_ways`
        self.recovery = Recovery(control, SIZE)
        self.recovery.handshake_confirmed = True
        self.recovery.max_ack_delay = MAX_ACK_DELAY + ACK_DELAY_SLACK
        self.space = QuicPacketSpace(is_application_data=True)
        self.recovery.spaces = [self.space]
        self.sent = self.received = 0  # packets
        self._supply = supply
        self._timer = None
        self._ranges, self._largest, self._largest_at = RangeSet(), 0, 0.0
        self._unacknowledged = 0
        clock.at(start, self._wake)

    def _wake(self):
        self._timer = None
        now = self.clock.now
        due = self.recovery.get_loss_detection_time(amplification_limited=False)
        if due is not None and due <= now:
            self.recovery.on_loss_detection_timeout(now=now)
        self._send()

    def _send(self):
        now, recovery = self.clock.now, self.recovery
        batch, in_flight = [], recovery.bytes_in_flight
        while (later := recovery.pacer.next_send_time(now)) is None:
            if recovery.congestion_window - in_flight < SIZE:
                break
            if self._supply and (self.sent + len(batch) + 1) * SIZE > self._supply(now):
                recovery.progress.on_limited(in_flight)
                break
            number = self.sent + len(batch)
            batch.append(
                QuicSentPacket(Epoch.ONE_RTT, True, True, False, number, QuicPacketType.ONE_RTT, now, SIZE)
            )
            in_flight += SIZE
            recovery.pacer.update_after_send(now)
        for packet in batch:
            recovery.on_packet_sent(packet=packet, space=self.space)
            self.link.send(SIZE + HEADERS, self._later(self._arrive, packet.packet_number))
        self.sent += len(batch)
        lost = recovery.get_loss_detection_time(amplification_limited=False)
        more = now + 0.01 if self._supply else None
        times = [time for time in (later, lost, more) if time is not None]
        if times:
            self._set_timer(max(min(times), now) + self.clock.random.random() * TIMER)

    def _set_timer(self, when):
        if self._timer is None or self._timer > when:
            self._timer = when
            self.clock.at(when, lambda: self._wake() if self._timer == when else None)

    def _later(self, what, *arguments):
        """Half of the extra round trip after now, `what(*arguments)`."""
        if not self._extra:
            return lambda: what(*arguments)
        return lambda: self.clock.at(self.clock.now + self._extra / 2, lambda: what(*arguments))

    def _arrive(self, number):
        self.received += 1
        if self.peer is not None:
            self.peer.recovery.progress.received += SIZE
        self._ranges.add(number)
        if len(self._ranges) > 64:
            self._ranges.shift()
        if number >= self._largest:
            self._largest, self._largest_at = number, self.clock.now
        self._unacknowledged += 1
        if self._unacknowledged == 1:
            self.clock.at(self.clock.now + MAX_ACK_DELAY, self._acknowledge)
        elif self._unacknowledged == ACK_EVERY:
            self._acknowledge()

    def _acknowledge(self):
        if self._unacknowledged:
            self._unacknowledged = 0
            ranges = RangeSet(list(self._ranges))
            delay = self.clock.now - self._largest_at
            if self.sent > 4000:
                self._ranges.subtract(0, self.sent - 4000)  # the peer is known to know
            self.link.send_back(self._later(self._acknowledged, ranges, delay))

    def _acknowledged(self, ranges, delay):
        self.recovery.on_ack_received(
            ack_rangeset=ranges, ack_delay=delay, now=self.clock.now, space=self.space
        )
        self._send()

    def rate(self, seconds):
        """Run the clock for so long: the share of the link's rate that arrived, 0 to 1."""
        before = self.received
        self.clock.run(self.clock.now + seconds)
        return (self.received - before) * (SIZE + HEADERS) / seconds / self.link.rate


def both_ways(clock, controllers, starts=(0, 0), **link):
    """Two flows between the same ends, one in each direction. The ACKs of each wait in the other's queue."""
    ends = zip(controllers, starts, strict=True)
    flows = [Flow(clock, Link(clock, **link), controller, start) for controller, start in ends]
    for flow, other in (flows, flows[::-1]):
        flow.link.back, flow.peer = other.link, other
    return flows
