"""Two engines that are driven as carriers drive theirs, and a schedule of whatever may happen to them.

A carrier sends only when it is asked to or its timer fires, and that one is moved only where that is needed.
After each turn that asks for nothing more, nothing may wait that could be sent, and no timer may be late.
"""

import heapq
import random
from math import inf

from aioquic.quic.connection import QuicConnectionState
from lane_quic.fastpath.send import has_end, has_more_to_say

from tests.support.quic_pipe import Pipe, forgotten, look_again

KEEPALIVE = 12.0
LONGEST_DARKNESS = 6.0


class Carried(Pipe):
    """A pipe whose sides send and wait as a carrier's do. Packets of more than `largest` bytes are lost."""

    def __init__(self, **options):
        self.address, self.largest = 0, inf  # the client's address; packets to an earlier one lead nowhere
        self._heard = inf
        super().__init__(**options)
        for side in (self.client, self.server):
            self.soon(side)
            side.engine.wake = lambda side=side: self.soon(side)

    def soon(self, side):
        side.asked = True

    def read(self, side, *numbers):
        """Consume what came on these streams, or on all."""
        for number in numbers or list(side.unread):
            size = side.unread.pop(number, 0)
            if size and side.engine.consume(number, size, len(side.data[number])):
                self.soon(side)

    def _handle_events(self, side):
        reads, side.reads, gone = side.reads, False, len(side.gone)
        side.handle_events()
        side.reads = reads
        if len(side.gone) > gone:  # a reset was answered
            self.soon(side)
        if reads:
            self.read(side)

    def begin(self):
        self.flush()

    def flush(self):
        sides = (self.client, self.server)
        while any(side.asked for side in sides):
            for side, other in (sides, sides[::-1]):
                asked, side.asked = side.asked, False
                if asked and side.engine.network_paths:
                    self._handle_events(side)
                    self._send(side, other)
        for side in sides:
            self.check(side)

    def _send(self, side, other):
        engine = side.engine
        for datagram, address in engine.datagrams_to_send(now=self.now):
            if len(datagram) <= self.largest and (side is self.client or address == self.address):
                self._put(other, datagram)
        self._handle_events(side)
        engine.note_idle()
        if side.armed == inf or not engine.timer_stays:
            side.arm(engine.get_timer())

    def step(self, deadline):
        keepalive = self._heard + KEEPALIVE
        if self.now >= keepalive:
            self._heard = self.now
            self.client.engine.probe(self.now)
            self.soon(self.client)
            self.flush()
            return
        deadline = min(deadline, keepalive)
        side = min((self.client, self.server), key=lambda side: side.armed)
        if self._wire and self._wire[0][0] <= min(side.armed, deadline):
            self._arrive()
        elif side.armed > deadline:
            self.now = deadline
        else:
            self._fire(side)
        self.flush()

    def _arrive(self):
        self.now, _, side, datagram = heapq.heappop(self._wire)
        engine, datagrams = side.engine, [datagram]
        while self._wire and self._wire[0][2] is side and self._wire[0][0] < self.now + 0.0002:
            datagrams.append(heapq.heappop(self._wire)[3])
        self._heard = self.now if side is self.client else self._heard
        engine.receive_datagrams(datagrams, self.address if side is self.server else "server", self.now)
        self._handle_events(side)
        at = engine.quiet_until(self.now)
        if at is None:
            self.soon(side)
        else:
            side.arm(at)

    def _fire(self, side):
        self.now, side.armed = max(self.now, side.armed) + 1e-6, inf
        due = side.engine.get_timer()
        if due is not None and self.now < due:
            side.arm(due)
            return
        if due is not None:
            side.engine.handle_timer(now=self.now)
        self.soon(side)

    def check(self, side):
        """Whatever waits is held up by something that ends."""
        engine = side.engine
        if not engine.handshake_confirmed or engine.state is not QuicConnectionState.CONNECTED:
            return
        assert side.armed <= (engine.get_timer() or inf), "the timer fires too late"
        look_again(engine)
        assert not forgotten(engine)
        if not engine.network_paths[0].is_validated:  # not more than three times what came from there
            return
        paced, full = engine.pacing_at is not None, engine.loss.room < engine.max_datagram_size
        streams = engine.gather_streams()
        if len(engine.datagrams_pending) or any(may_send(engine, stream) for stream in streams):
            assert paced or full, "data wait for nothing"
            assert paced or engine.space.ack_eliciting_in_flight, "the window is full of nothing"
        # Streams that nobody reads give credit when it is looked for: with the next ACK at the latest.
        if any(map(has_end, streams)) or (not engine.abandoned and has_more_to_say(engine)):
            assert paced or full, "frames wait for nothing"


def may_send(engine, stream):
    """Whether a stream has data that flow control lets it send."""
    sender, credit = stream.sender, engine.remote_max_data - engine.remote_max_data_used
    waiting = list(sender.pending)
    limit = min(stream.max_stream_data_remote, sender.highest_offset + credit)
    return bool(waiting) and not stream.is_blocked and limit > waiting[0].start


class Schedule:
    """What happens to two engines in `steps` steps, by `seed`: `play` has it happen, and all arrives then."""

    ACTIONS = (
        *("write", "write", "write", "short", "short", "short", "short", "end", "reset", "abandon"),
        *("datagram", "datagrams", "ping", "probe", "keys", "change_id", "move", "rebind"),
        *("small", "large", "dark", "light", "loss", "no_loss", "stop_reading", "wait", "wait", "wait"),
    )

    def __init__(self, seed, steps=60):
        self.random, self.steps = random.Random(seed), steps
        link = {"twice": self.pick(0, 0, 0.05), "jitter": self.pick(0, 0, 0.002, 0.02)}
        self.pipe = Carried(seed=seed, fast=self.random.random() < 0.9, **link)
        self.streams = []
        self.due = {}  # bytes that must arrive, by reader and stream; None: any number
        self.over = set()  # the same keys, of directions that are not written to any more
        self.dark_since = None

    def pick(self, *choices):
        return self.random.choice(choices)

    def play(self):
        pipe = self.pipe
        pipe.connect().settle(0.5)
        for _ in range(self.steps):
            sides = [pipe.client, pipe.server]
            self.random.shuffle(sides)
            getattr(self, self.pick(*self.ACTIONS))(*sides)
            if not sides[0].reads and self.random.random() < 0.1:
                sides[0].reads = True
                pipe.read(sides[0])
            pipe.settle(self.pick(0, 0, 0.0005, 0.003, 0.02, 0.1))
            if self.dark_since and (self.random.random() < 0.2 or self.too_dark):
                self.light()
        self.recover()
        pipe.run(self.is_complete, 60)
        pipe.settle(3)

    def recover(self):
        """All is well again."""
        self.light()
        self.no_loss()
        self.large()
        for side in (self.pipe.client, self.pipe.server):
            side.reads = True
            self.pipe.read(side)

    def is_complete(self):
        return all(
            size is None or number in side.gone or len(side.data[number]) >= size
            for (side, number), size in self.due.items()
        )

    @property
    def too_dark(self):
        return self.pipe.now - self.dark_since > LONGEST_DARKNESS

    # The actions, of `side`, whose peer is `other`.

    def _write(self, side, other, size, *, end=False):
        client = self.pipe.client.engine
        if client.capacity and len(self.streams) < 20 and (not self.streams or self.random.random() < 0.2):
            self.streams.append(self.pipe.client.open(b"first"))
            self.due[self.pipe.server, self.streams[-1]] = 5
            self.pipe.soon(self.pipe.client)
        number = self.pick(*self.streams)
        key = other, number
        if key in self.over or not side.engine.knows(number) or number in side.gone:
            return
        side.engine.send_stream_data(number, bytes(size), end)
        self.pipe.soon(side)
        self.due[key] = self.due.get(key, 0) + size
        if end:
            self.over.add(key)

    def write(self, side, other):
        self._write(side, other, self.random.randrange(500, 200_000))

    def short(self, side, other):
        self._write(side, other, self.random.randrange(1, 500))

    def end(self, side, other):
        self._write(side, other, 10, end=True)

    def _give_up(self, side, *readers):
        """One of the streams, now and then, if `side` knows it."""
        number = self.pick(*self.streams) if self.streams and self.random.random() < 0.3 else None
        if number is None or not side.engine.knows(number):
            return None
        for reader in readers:
            self.over.add((reader, number))
            self.due[reader, number] = None
        self.pipe.soon(side)
        return number

    def reset(self, side, other):
        if (number := self._give_up(side, other)) is not None:
            side.engine.reset_stream(number, 7)

    def abandon(self, side, other):
        if (number := self._give_up(side, side, other)) is not None:
            side.abandon(number)

    def datagram(self, side, other):
        side.engine.datagrams.send(bytes(self.random.randrange(1, 1300)))

    def datagrams(self, side, other):
        for _ in range(self.random.randrange(2, 50)):
            self.datagram(side, other)

    def ping(self, side, other):
        side.engine.send_ping(1)
        self.pipe.soon(side)

    def probe(self, side, other):
        side.engine.probe(self.pipe.now)
        self.pipe.soon(side)

    def keys(self, side, other):
        side.engine.request_key_update()
        self.pipe.soon(side)

    def change_id(self, side, other):
        if self.pipe.client.engine.peer_cid_available:
            self.pipe.client.engine.change_connection_id()
            self.pipe.soon(self.pipe.client)

    def move(self, side, other):
        self.rebind()
        self.pipe.client.engine.move()
        self.probe(self.pipe.client, None)

    def rebind(self, *_):
        self.pipe.address += 1

    def small(self, *_):
        self.pipe.largest = 1300

    def large(self, *_):
        self.pipe.largest = inf

    def dark(self, *_):
        self.pipe.dropped = lambda datagram: True
        self.dark_since = self.dark_since or self.pipe.now

    def light(self, *_):
        self.pipe.dropped = lambda datagram: False
        self.dark_since = None

    def loss(self, *_):
        self.pipe.loss = self.pick(0.02, 0.1, 0.3)

    def no_loss(self, *_):
        self.pipe.loss = 0.0

    def stop_reading(self, side, other):
        side.reads = False

    def wait(self, *_):
        self.pipe.settle(self.pick(0.01, 0.3, 2.0))
