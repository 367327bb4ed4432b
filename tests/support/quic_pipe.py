"""Two engines joined in memory, on a clock of their own: loss, reordering and duplication without waiting."""

import heapq
import random
from collections import defaultdict
from math import inf

from aioquic.quic import events
from lane_quic.configuration import Settings, client_configuration, server_configuration
from lane_quic.congestion.bbr import Bbr
from lane_quic.engine.engine import Engine
from lane_quic.engine.stream_table import has_something_to_say
from lane_quic.fastpath.send import has_more_to_say

from lane.testing import server_tls

IDENTITY = server_tls()
STATE_KEY = b"the key of a server"


class Side:
    """One engine, and what a carrier would know of it."""

    def __init__(self, engine):
        self.engine = engine
        self.reads = True
        self.data = defaultdict(bytes)  # all that came, by stream
        self.unread = defaultdict(int)
        self.datagrams = []
        self.ends, self.resets, self.stops = set(), {}, {}
        self.connected = False
        self.ended = None
        self.cids = []
        self.gone = set()  # streams that were abandoned
        self.armed = inf  # when a carrier's timer would fire

    def handle_events(self):
        while (event := self.engine.next_event()) is not None:
            match event:
                case events.StreamDataReceived(stream_id=number):
                    self.data[number] += event.data
                    if number not in self.gone:
                        self.unread[number] += len(event.data)
                    if event.end_stream:
                        self.ends.add(number)
                case events.DatagramFrameReceived(data=data):
                    self.datagrams.append(data)
                case events.StreamReset(stream_id=number):
                    self.resets[number] = event.error_code
                    self.abandon(number)
                case events.StopSendingReceived(stream_id=number):
                    self.stops[number] = event.error_code
                case events.HandshakeCompleted():
                    self.connected = True
                case events.ConnectionTerminated():
                    self.ended = event.reason_phrase
                case events.ConnectionIdIssued():
                    self.cids.append(event.connection_id)
        if self.reads:
            for number in list(self.unread):
                self.read(number)

    def read(self, number):
        """Consume what came on a stream."""
        size = self.unread.pop(number, 0)
        if size:
            self.engine.consume(number, size, len(self.data[number]))

    def abandon(self, number):
        """What a carrier does for a stream that nobody reads any more."""
        if number not in self.gone:
            self.gone.add(number)
            unread = self.unread.pop(number, 0)
            self.engine.reset_stream(number, 0)
            if number not in self.ends and self.engine.knows(number):
                self.engine.stop_stream(number, 0)
            self.engine.abandon(number, len(self.data[number]) - unread, unread)

    def arm(self, at):
        """Let the timer fire at `at`, if there is such a time, or earlier."""
        self.armed = min(self.armed, inf if at is None else at)

    def open(self, data=b"", end=False):
        """A new stream with `data`: its number."""
        number = self.engine.get_next_available_stream_id()
        self.engine.send_stream_data(number, data, end)
        return number

    @property
    def granted(self):
        """Bytes that the peer may send in all, as far as it has been told."""
        return self.engine._local_max_data.sent


def forgotten(engine):
    """Streams that have something to say and will not be asked."""
    asked = {*map(id, engine.streams_queue), *map(id, engine.streams.woken)}
    talkative = [stream for _, stream in engine._streams.items() if has_something_to_say(stream)]
    return [stream.stream_id for stream in talkative if id(stream) not in asked]


class Pipe:
    """A client and a server. `loss`, `twice`: fractions of datagrams; `jitter`: seconds that reorder them."""

    def __init__(self, loss=0.0, twice=0.0, jitter=0.0, seed=1, control=Bbr, fast=True):
        self.loss, self.twice, self.jitter = loss, twice, jitter
        self.now = 1000.0
        self.dropped = lambda datagram: False
        self.checked = True  # after each flush, whether a stream was forgotten
        self._random = random.Random(seed)
        self._wire, self._count = [], 0
        settings = Settings(control, fast)
        configuration = client_configuration("server.test")
        self.client = Side(Engine(configuration, settings=settings))
        self.client.engine.connect("server", now=self.now)
        first = self.client.engine.datagrams_to_send(now=self.now)
        cid = first[0][0][6 : 6 + first[0][0][5]]
        self.server = Side(Engine(server_configuration(IDENTITY), cid, STATE_KEY, settings=settings))
        for datagram, _ in first:
            self._put(self.server, datagram)

    def _put(self, side, datagram):
        copies = 0 if self._random.random() < self.loss or self.dropped(datagram) else 1
        copies += self._random.random() < self.twice
        for _ in range(copies):
            self._count += 1
            at = self.now + 0.02 + self._random.random() * self.jitter
            heapq.heappush(self._wire, (at, self._count, side, datagram))

    def flush(self):
        """Let both sides act on what they got, and say what is due."""
        for side, other in ((self.client, self.server), (self.server, self.client)):
            side.handle_events()
            engine = side.engine
            if engine._network_paths:  # a server that has heard nothing has nobody to talk to
                look_again(engine)
                if side.armed < inf:
                    side.arm(engine.quiet_until(self.now))
                for datagram, _ in engine.datagrams_to_send(now=self.now):
                    self._put(other, datagram)
                if side.armed == inf or not engine.timer_stays:
                    side.arm(engine.get_timer())
                assert side.armed <= (engine.get_timer() or inf), "the timer fires too late"
                engine.note_idle()
            side.handle_events()
            assert not (self.checked and forgotten(side.engine))

    def begin(self):
        """Begin anew: a test may have used the engines itself."""
        self.client.armed = self.server.armed = inf
        self.flush()

    def step(self, deadline):
        """What happens next, an arrival or a timer; or nothing until `deadline`."""
        sides = (self.client, self.server)
        due = [(at, side) for side in sides if (at := side.engine.get_timer()) is not None]
        at, side = min(due, key=lambda entry: entry[0], default=(deadline, None))
        if self._wire and self._wire[0][0] <= min(at, deadline):
            self.now, _, side, datagram = heapq.heappop(self._wire)
            side.engine.receive_datagram(datagram, "peer" if side is self.server else "server", now=self.now)
        elif side is None or at > deadline:
            self.now = deadline
        else:
            self.now = max(self.now, at) + 1e-6  # timers are rounded: what is due at `at` may not be due yet
            side.engine.handle_timer(now=self.now)
        for side in sides:
            side.armed = side.armed if side.armed > self.now else inf
        self.flush()

    def run(self, until, seconds=600.0):
        """Until `until()` holds, or for at most so long by the pipe's clock."""
        deadline = self.now + seconds
        self.begin()
        while not until():
            assert self.now < deadline, "what was waited for did not happen"
            assert (self.client.ended, self.server.ended) == (None, None)
            self.step(deadline)

    def settle(self, seconds=5.0):
        """Let so much time pass by the pipe's clock."""
        deadline = self.now + seconds
        self.begin()
        while self.now < deadline:
            self.step(deadline)

    def connect(self):
        """Until the handshake is confirmed on both sides."""
        self.run(lambda: self.client.connected and self.server.connected and self.client.engine.capacity)
        return self


def look_again(engine):
    """What was said once, that nothing but data is due, must be true until something happens."""
    if engine.said_all:
        engine.said_all = False
        assert not has_more_to_say(engine), "a change was not noticed"
