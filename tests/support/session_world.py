"""Two session protocols and a network that loses and moves, in memory, with a clock that is told.

Whatever happens is decided by the caller, so the same steps give the same bytes: `World.trace` is all that
the ends put on their streams and all that their owners saw.
"""

import math
import random
from collections import deque

from lane.budget import Budget
from lane.errors import Closed, LaneError
from lane.proto.hello import EARLY
from lane.session.events import DataReceived
from lane.session.liveness import MOST_PATIENCE
from lane.session.protocol import SessionProtocol
from lane.session.receive_window import ACKS_REMEMBERED, INITIAL_WINDOW
from lane.session.states import Attachment, Direction, Life
from lane.session.stream_reader import SHORT
from lane.stream import LinkStats

BUFFER = 4 << 20
TICK = 0.125
PATTERN = random.Random(20).randbytes(1 << 20)


def text(start, size):
    """`size` bytes that any direction has from `start` on."""
    start %= len(PATTERN)
    found = PATTERN[start : start + size]
    while len(found) < size:
        found += PATTERN[: size - len(found)]
    return found


class End:
    """One end: its protocol, and an owner that sends, reads and ends."""

    def __init__(self, world, name, *, resumable):
        self.world, self.name, self.peer = world, name, None
        self.budget = Budget(1 << 30)
        self.protocol = SessionProtocol(INITIAL_WINDOW, BUFFER, self.budget, world.now, resumable=resumable)
        self.protocol.activity.reports = name == "server"
        self.sent, self.got = 0, 0  # bytes
        self.outcome = None  # of reading: b"" or the error
        self.greedy = False  # takes what is offered at once
        self.flight = deque()  # (when it arrives, bytes) on the way to us
        self.free_at = 0.0  # when the path has taken all that was sent

    def freeze(self):
        """Go on as another object, as if in another process."""
        frozen = self.protocol.freeze()
        budget = Budget(1 << 30)
        self.protocol = SessionProtocol.thaw(frozen, budget)
        assert budget.used == self.budget.used
        assert self.protocol.freeze() == frozen
        self.budget = budget

    # The owner.

    def send(self, size):
        protocol, world = self.protocol, self.world
        if world.short and size <= SHORT:
            data = text(self.sent, size)
            if (head := protocol.send_message(data, world.now)) is not None:
                self.sent += size
                world.went_short += 1
                self.put((head, data))
                self.pump()
                return
        try:
            size = self.protocol.allowance(size)
        except LaneError:
            return
        if size:
            self.protocol.send(text(self.sent, size), self.world.now)
            self.sent += size
        else:
            self.protocol.want_credit()
        self.pump()

    def read(self, limit):
        protocol = self.protocol
        protocol.receive_window.consume()
        try:
            data = protocol.read(limit)
        except LaneError as error:
            self.end_reading(error)
            return
        if data:
            self.take(data)
        elif data is not None:
            self.end_reading(b"")
        self.pump()

    def take(self, data):
        assert bytes(data) == text(self.got, len(data)), "byte-exact"
        self.got += len(data)
        self.world.note(self.name, "read", len(data))

    def end_reading(self, outcome):
        if self.outcome is None:
            self.outcome = outcome
            self.world.note(self.name, "end", repr(outcome))

    def finish(self):
        self.protocol.finish()
        self.pump()

    def abort(self, code):
        self.protocol.abort(code, Closed("reset on this side"))
        self.pump()

    def try_close(self):
        protocol = self.protocol
        if protocol.life is Life.OPEN and protocol.complete:
            protocol.close()
            self.pump()

    # The stream.

    @property
    def willing(self):
        """Whether it lives on another stream."""
        return self.protocol.life in (Life.OPEN, Life.ABORTING)

    def attach(self, *, resumed):
        preface = b"" if resumed else self.name.encode()
        self.protocol.attach(self.world.now, preface=preface, resumed=resumed, announce=resumed)
        self.preface = 0 if resumed else len(self.peer.name)
        self.flight.clear()
        self.free_at = 0.0

    def hear(self, life):
        """The other end is asked for the session, and answers that it is over."""
        if self.willing and life in (Life.CLOSING, Life.CLOSED):
            self.protocol.peer_completed()
        elif self.willing:
            self.protocol.fail(Closed("no such session"))

    def lose(self):
        self.flight.clear()
        if self.protocol.attachment is not Attachment.DETACHED:
            self.protocol.stream_lost(Closed("the network is gone"))

    def pump(self):
        while chunk := self.protocol.data_to_send(self.world.now):
            self.put(chunk)

    def put(self, chunk):
        data = b"".join(chunk)
        self.world.note(self.name, "sent", data)
        self.free_at = max(self.free_at, self.world.now) + len(data) / self.world.rate
        self.peer.flight.append((self.free_at + self.world.delay, data))

    def arrive(self):
        while self.flight and self.flight[0][0] <= self.world.now:
            self.receive(self.flight.popleft()[1])

    def receive(self, data):
        skipped = min(self.preface, len(data))
        self.preface -= skipped
        protocol, data = self.protocol, data[skipped:]
        if protocol.attachment is Attachment.DETACHED or protocol.trailing_data is not None:
            return
        if self.world.now >= protocol.liveness.link_expires:
            protocol.liveness.measured(LinkStats(rtt=2 * self.world.delay, sent=self.sent), self.world.now)
        if self.world.short and (fresh := protocol.receive_message(data, self.world.now)) is not None:
            self.world.went_short += 1
            protocol.receive_window.pass_on(fresh, self.take_some(fresh))
        else:
            for event in protocol.receive_data(data, self.world.now):
                if isinstance(event, DataReceived):
                    event.taken = self.take_some(event.data)
        self.pump()

    def take_some(self, data):
        taken = (len(data) + 1) // 2 if self.greedy else 0
        self.take(data[:taken])
        return taken

    def tick(self):
        protocol = self.protocol
        if protocol.attachment is not Attachment.DETACHED and protocol.wants_figures(self.world.now):
            protocol.liveness.measured(LinkStats(rtt=2 * self.world.delay, sent=self.sent), self.world.now)
        protocol.tick(self.world.now)
        self.pump()

    @property
    def settled(self):
        """Whether nothing more will become of it."""
        return self.protocol.over or self.protocol.complete

    def check(self):
        """States agree with offsets, and nothing that is kept goes beyond its bounds."""
        protocol, window, buffer = self.protocol, self.protocol.receive_window, self.protocol.send_buffer
        assert (buffer.state is not Direction.OPEN) == (buffer.final is not None)
        assert (buffer.acked > buffer.sent) == buffer.fin_acked
        assert (window.state is not Direction.OPEN) == (window.final is not None)
        assert (window.final is not None and window.consumed > window.final) == window.ended
        assert (protocol.failure is not None) == (protocol.life in (Life.ABORTING, Life.ABORTED))
        assert max(window.held, window.window) <= BUFFER
        may_come = max(window.limit, window.received) - window.consumed
        assert may_come <= max(window.initial + window._reserved, EARLY), "the peer is held to the budget"
        assert window.window <= window.initial + window._reserved
        assert buffer.retained <= BUFFER
        assert len(window._sent_acks) <= ACKS_REMEMBERED
        assert 1 <= protocol.liveness._patience <= MOST_PATIENCE
        assert window.received <= self.peer.sent
        assert self.got <= self.peer.sent


class World:
    """`client` and `server`, joined by one stream at a time.

    `freezing`: they are frozen and thawed at each step, and at each moment of the clock. `short`: messages
    go the short way where it is open.
    """

    def __init__(self, *, resumable=True, freezing=False, short=False):
        self.now, self.delay, self.freezing, self.short = 1000.0, 0.02, freezing, short
        self.rate = math.inf  # bytes a second
        self.went_short = 0  # messages
        self.trace = []
        self.client, self.server = (End(self, name, resumable=resumable) for name in ("client", "server"))
        self.ends = (self.client, self.server)
        self.client.peer, self.server.peer = self.server, self.client
        self.begun = False

    def note(self, *what):
        """Keep what somebody could see."""
        self.trace.append((round(self.now, 6), *what))

    def connect(self):
        """Another stream, whatever the old one still carries, if both have a session for it."""
        if not all(end.willing for end in self.ends):
            self.lose(first=0)
            for end in self.ends:
                end.hear(end.peer.protocol.life)
            return
        for end in self.ends:
            end.attach(resumed=self.begun)
        self.begun = True
        for end in self.ends:
            end.pump()

    def lose(self, first):
        """The stream is lost: one end hears of it first, and maybe the other one never."""
        for end in self.ends[:: -1 if first else 1]:
            end.lose()

    def run(self, seconds):
        """So much time."""
        until = self.now + seconds
        while self.now < until:
            self.now += TICK
            self.moment()
            for end in self.ends:
                end.arrive()
            for end in self.ends:
                end.tick()
                end.check()

    def moment(self):
        """One at which a session may be frozen."""
        if self.freezing:
            for end in self.ends:
                end.freeze()

    def step(self, what, who, amount):
        """One step of a story."""
        end = self.ends[who]
        self.moment()
        match what:
            case "send":
                end.send(amount)
            case "read":
                end.read(amount)
            case "finish":
                end.finish()
            case "abort":
                end.abort(amount % 256)
            case "greedy":
                end.greedy = not end.greedy
            case "run":
                self.run(amount % 40 * TICK)
            case "hours":
                self.run(60.0)
                self.now += amount % 10 * 3600.0  # nobody is active: nothing would be looked after
            case "delay":
                self.delay = amount % 2000 / 1000
            case "lose":
                self.lose(who)
            case "move":
                self.connect()
            case "close":
                end.try_close()
        for each in self.ends:
            each.check()

    def settle(self):
        """The network is well again, and both sides go on to the end."""
        self.delay, self.rate = 0.01, math.inf
        for _ in range(400):
            if all(end.protocol.attachment is Attachment.DETACHED for end in self.ends) or any(
                end.protocol.attachment is Attachment.DETACHED and not end.protocol.over for end in self.ends
            ):
                self.connect()
            for end in self.ends:
                end.finish()
                for _ in range(40):
                    end.read(1 << 20)
            self.run(2 * TICK)
            if all(end.outcome is not None and end.settled for end in self.ends):
                break
