"""A session whose streams are moved, dropped and cut at random: every byte once, in order, and honest ends.

hypothesis finds the order of what happens. Requests are lost before the server sees them, replies before the
client does, ACKs and ENDs with the streams that carried them; requests of older generations come late.
"""

import random
from contextlib import ExitStack

import gevent
import pytest
from gevent import socket
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lane.carriers.path_selection import Decision
from lane.carriers.request_stream import RequestStream
from lane.errors import LaneError, Refused, Status, TargetError, Unreachable
from lane.fair import pass_turn
from lane.proto.frames import Received, pack
from lane.proto.hello import NOWHERE, RESUMABLE, Command, Request
from lane.testing.harness import outcome, until
from tests.support.beds import Bed
from tests.support.virtual_time import virtual_time

WAYS = ("cheap", "dear")
CONTENT = random.Random(7).randbytes(4 << 20)
sizes = st.sampled_from([1, 100, 5000, 70_000, 300_000])
ways = st.sampled_from(WAYS)
turns = st.integers(0, 40)
"""Of the event loop that go by before something happens: what was sent is on its way then."""


def pass_turns(count):
    for _ in range(count):
        pass_turn()


class Side:
    """A socket that sends CONTENT piece by piece and compares what it receives with the same."""

    def __init__(self, sock):
        self.sock = sock
        self.sent = self.queued = self.received = 0
        self.finishing = self.ended = False
        self.error = None
        self._more = gevent.event.Event()
        self.jobs = [gevent.spawn(self._read), gevent.spawn(self._write)]

    def send(self, size):
        self.queued = min(self.queued + size, len(CONTENT))
        self._more.set()

    def finish(self):
        self.finishing = True
        self._more.set()

    def _write(self):
        while not self.error:
            if self.sent < self.queued:
                size = min(self.queued - self.sent, 65536)
                if isinstance(outcome(self.sock.sendall, CONTENT[self.sent : self.sent + size]), OSError):
                    return
                self.sent += size
            elif self.finishing:
                outcome(self.sock.shutdown, socket.SHUT_WR)
                return
            else:
                self._more.clear()
                self._more.wait()

    def _read(self):
        while True:
            data = outcome(self.sock.recv, 65536)
            if isinstance(data, OSError):
                self.error = data
                return
            if not data:
                self.ended = True
                return
            assert data == CONTENT[self.received : self.received + len(data)]
            self.received += len(data)

    def close(self):
        gevent.killall(self.jobs)
        self.sock.close()


class Moves(RuleBasedStateMachine):
    """On a VirtualTime: one sequence of steps is the same each time, whatever else the machine does."""

    def __init__(self):
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(virtual_time())

    @initialize()
    def connect(self):
        self.wanted = "cheap"
        self.targets = []
        self.aborted = False  # preconditions go by what was drawn, or hypothesis would lose its thread
        self.reset = False
        self.bed = Bed(
            WAYS,
            self.serve,
            policy=lambda now, lanes, state: Decision(self.wanted, "the test", state),
        )
        self.app = Side(self.bed.application().sock)
        until(lambda: self.targets)
        (self.target,) = self.targets
        (self.driver,) = self.bed.paths._drivers.values()

    def serve(self, sock):
        side = Side(sock)
        self.targets.append(side)
        gevent.joinall(side.jobs)

    @property
    def sides(self):
        return self.app, self.target

    @rule(side=st.integers(0, 1), size=sizes)
    def send(self, side, size):
        if not self.sides[side].finishing:
            self.sides[side].send(size)

    @rule(side=st.integers(0, 1))
    def finish(self, side):
        self.sides[side].finish()

    @rule(way=ways)
    def move(self, way):
        self.wanted = way

    @rule(way=ways, after=turns)
    def drop(self, way, after):
        pass_turns(after)
        self.bed.ways[way].drop()

    @rule(way=ways, after=turns)
    def cut(self, way, after):
        pass_turns(after)
        self.bed.ways[way].cut()

    @rule(way=ways)
    def mend(self, way):
        self.bed.ways[way].blocked = False

    @rule(way=ways)
    def hold(self, way):
        """What is sent from now on stays on its way."""
        self.bed.ways[way].held = True

    @rule(way=ways)
    def release(self, way):
        self.bed.ways[way].release()

    @rule(way=ways)
    def lose_the_next_reply(self, way):
        """The server has acted on a request, and its client does not hear of it."""
        requests = self.bed.server.requests
        message = type(requests)._message

        def lost(*arguments, **named):
            del requests._message
            self.bed.ways[way].drop()
            return message(requests, *arguments, **named)

        requests._message = lost

    @precondition(lambda self: not self.aborted)
    @rule(age=st.integers(0, 3))
    def an_old_request_comes_late(self, age):
        generation = max(0, self.driver.requests.generation - age)
        request = Request(
            Command.RESUME, NOWHERE, 1024, RESUMABLE, self.driver.requests.first.session, generation
        )
        try:
            lease = self.bed.lanes.lanes["cheap"].pool.lease()
        except (Unreachable, Refused):
            return
        entry = self.bed.resumption._entries.get(("user", self.driver.requests.first.session))
        if entry is None or generation > entry.generation:
            lease.discard()
            return  # the newest one was lost: then this is not old
        self.bed.ways["cheap"].release()
        opening = RequestStream(lease, request, 5.0, pack(Received(0)))
        try:
            with pytest.raises(LaneError) as caught:
                opening.reply()
        finally:
            opening.discard()
        if isinstance(caught.value, TargetError):
            assert caught.value.status in (Status.STALE, Status.GONE, Status.COMPLETE)

    @rule(milliseconds=st.sampled_from([0, 1, 5, 30]))
    def wait(self, milliseconds):
        gevent.sleep(milliseconds / 1000)

    @precondition(lambda self: not self.aborted)
    @rule()
    def abort(self):
        self.aborted = True
        if self.app.ended:
            return
        self.reset = True
        self.app.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.app.close()

    @invariant()
    def nobody_was_told_a_wrong_end(self):
        if not hasattr(self, "app"):
            return
        for side, other in (self.sides, self.sides[::-1]):
            for job in side.jobs:
                assert job.exception is None, job.exception
            assert not side.ended or (other.finishing and side.received == other.sent)
            assert self.reset or not side.error, side.error

    def teardown(self):
        with self.stack:
            if hasattr(self, "app"):
                self.end()

    def end(self):
        try:
            self.bed.server.requests.__dict__.pop("_message", None)
            for way in self.bed.ways.values():
                way.blocked = False
                way.release()
            if self.reset:
                until(lambda: not len(self.bed.registry))
            else:
                for side in self.sides:
                    side.finish()
                until(lambda: all(side.ended or side.error for side in self.sides))
                self.nobody_was_told_a_wrong_end()
                assert [side.received for side in self.sides] == [side.queued for side in self.sides[::-1]]
                until(lambda: not len(self.bed.registry) and not self.bed.server_registry.sessions)
        finally:
            for side in self.sides:
                side.close()
            self.bed.close()


TestMoves = Moves.TestCase
TestMoves.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # what hangs takes a minute each time
    suppress_health_check=list(HealthCheck),
)
