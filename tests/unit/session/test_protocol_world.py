"""Hours of two sessions over a network that loses, stalls and moves, with a clock that is only told.

What arrives is what was sent. An end that was not said is never seen. Whatever is kept stays within its
bounds. And a session that is frozen and thawed at any moment does and shows the same as one that was not.
"""

import marshal
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lane.budget import Budget
from lane.errors import Closed, LaneError, Reset, Status, TargetError
from lane.proto.frames import Data, pack
from lane.session.activity import IDLE
from lane.session.protocol import SessionProtocol
from lane.session.receive_window import BEHIND, INITIAL_WINDOW
from lane.session.states import Life
from tests.support.session_world import TICK, World

pytestmark = pytest.mark.bulk  # many small turns: without the tracer

many = settings(max_examples=max(150, settings().max_examples))
"""`make fuzz` tries thousands."""
GOING_ON = (
    ["send"] * 6 + ["read"] * 6 + ["run"] * 5 + ["lose", "move", "move", "delay", "greedy", "hours", "finish"]
)
GROW = [("send", 0, 20_000), ("run", 0, 3), ("read", 1, 20_000), ("read", 1, 1), ("run", 0, 3)]
"""The server's window grows, and the client knows."""
SIZES = st.one_of(st.integers(1, 9), st.integers(1, 20_000), st.integers(1, 1 << 20))


def stories(*more):
    step = st.tuples(st.sampled_from([*GOING_ON, *more]), st.integers(0, 1), SIZES)
    return st.lists(step, min_size=5, max_size=80)


def lived(story, **how):
    """The world after `story`."""
    world = World(**how)
    world.connect()
    for step in story:
        world.step(*step)
    return world


@given(stories())
@many
def test_what_arrives_is_what_was_sent_and_so_are_the_ends(story):
    world = lived(story)
    world.settle()
    for end in world.ends:
        assert end.outcome == b""
        assert end.got == end.peer.sent
        assert end.protocol.complete
    for end in world.ends:
        end.try_close()
    world.run(1)
    for end in world.ends:
        assert end.protocol.trailing_data == b"", "both said END"
        end.protocol.release()
        assert end.budget.used == 0


@given(stories("abort", "close"), st.booleans())
@many
def test_an_end_is_seen_only_where_it_was_said(story, resumable):
    """Whether a session is aborted or lost: what was read is the beginning of what was sent."""
    world = lived(story, resumable=resumable)
    world.settle()
    for end in world.ends:
        protocol, peer = end.protocol, end.peer
        assert isinstance(end.outcome, LaneError | bytes), "nobody waits for ever"
        if end.outcome == b"":
            assert peer.protocol.send_buffer.final == end.got == peer.sent
        else:
            assert protocol.life in (Life.ABORTING, Life.ABORTED)
        if isinstance(end.outcome, Reset):
            assert peer.protocol.abort_code == end.outcome.code
            assert peer.protocol.life is not Life.OPEN


@given(stories("abort", "close"), st.booleans())
@many
@example([("send", 0, 70_000), ("run", 0, 1), ("read", 1, 100), ("move", 0, 0)], True)
def test_freezing_at_any_moment_changes_nothing_that_anybody_sees(story, resumable):
    moved = lived(story, resumable=resumable, freezing=True)
    same = lived(story, resumable=resumable)
    moved.settle()
    same.settle()
    assert moved.trace == same.trace
    assert [end.protocol.freeze() for end in moved.ends] == [end.protocol.freeze() for end in same.ends]


CHAT = [(what, who, 1) for _ in range(20) for who in (0, 1) for what in ("send", "run", "read", "read")]
"""Each sends 20 messages, and has read the last one of the other."""


@given(stories("abort", "close"), st.booleans(), st.booleans())
@example(CHAT, True, False)
@example([("greedy", 0, 1), ("greedy", 1, 1), *CHAT, ("move", 0, 1), *CHAT], True, False)
@many
def test_the_short_way_for_messages_changes_nothing_that_anybody_sees(story, resumable, greedy):
    if greedy:
        story = [("greedy", 0, 1), ("greedy", 1, 1), *story]
    long, short = (lived(story, resumable=resumable, short=short) for short in (False, True))
    assert short.trace == long.trace
    for one, other in zip(short.ends, long.ends, strict=True):
        assert one.protocol.freeze() == other.protocol.freeze()
    if story[-len(CHAT) :] == CHAT:
        assert short.went_short > 60, "most of 40 messages, at both ends"


def test_a_session_that_is_frozen_at_each_step_arrives_whole():
    story = [("send", 0, 50_000), ("run", 0, 3), ("read", 1, 50_000), ("lose", 0, 0), ("move", 0, 0)] * 200
    world = lived(story, freezing=True)
    world.settle()
    assert world.server.got == world.client.sent > 5_000_000
    assert [end.outcome for end in world.ends] == [b"", b""]


def test_what_was_in_flight_when_an_idle_window_shrank_may_come_again():
    """A sender has more under way than the first window when its path dies, and no more comes."""
    world = lived([*GROW, *[("send", 0, 1 << 20)] * 9])
    assert world.client.protocol.send_buffer.retained > 2 * INITIAL_WINDOW
    world.lose(first=0)
    world.run(2 * IDLE)
    world.connect()
    world.run(2 * IDLE)
    world.settle()
    assert world.server.got == world.client.sent > 2 * INITIAL_WINDOW
    assert world.server.outcome == b""
    assert world.server.budget.used == 0


@pytest.mark.parametrize("moving", [False, True])
def test_for_a_reader_that_stops_little_is_kept_also_on_other_streams(moving):
    """A fast transfer whose reader stops. A window that it no longer uses binds nobody at first."""
    world = lived([*GROW, *[("send", 0, 1 << 19), ("run", 0, 1), *[("read", 1, 1 << 20)] * 9] * 9])
    sent, got = world.client.protocol.send_buffer, world.server.protocol.receive_window
    assert got.window > 3 * BEHIND
    for number in range(8):
        for _ in range(4):
            world.client.send(INITIAL_WINDOW)
        world.run(2 * TICK)
        if number > 4 and moving:
            world.lose(first=number % 2)
            world.connect()
    assert BEHIND <= sent.retained == got.held <= 2 * BEHIND
    assert got.window == BEHIND
    limit = got.limit
    world.run(2 * IDLE)
    assert got.limit < limit, "now it does, and its memory is free for others"
    world.settle()
    assert world.server.got == world.client.sent
    assert world.server.outcome == b""


def test_credit_that_was_taken_back_before_a_late_pong_may_be_used_behind_it():
    """Much is sent just as an idle window shrinks. It grows again, and falls for a reader that stops."""
    world = lived([*GROW, *[("send", 0, 1 << 19), ("run", 0, 1), *[("read", 1, 1 << 20)] * 9] * 9])
    client, server = world.ends
    window = server.protocol.receive_window
    world.rate, sent = 2e6, client.sent
    world.run(IDLE - 1)
    while window.window > INITIAL_WINDOW:
        world.run(TICK)
    while client.sent < sent + 2 * BEHIND:
        client.send(INITIAL_WINDOW)
    for _ in range(3):
        world.run(TICK)
        for _ in range(9):
            server.read(1 << 20)
    assert window.window > 2 * BEHIND
    for _ in range(30):
        client.send(1 << 20)
        world.run(TICK)
    assert server.protocol.failure is None
    assert window.window == BEHIND
    world.settle()
    assert server.got == client.sent
    assert server.outcome == b""


def test_a_window_that_shrank_before_its_stream_was_lost_is_taken_back():
    world = lived(GROW)
    world.delay = 100.0  # nothing arrives any more
    world.run(IDLE + 1)
    assert world.server.protocol.receive_window.window == INITIAL_WINDOW, "it shrank"
    world.lose(first=0)
    world.connect()
    assert world.server.protocol.receive_window.window > INITIAL_WINDOW, "the peer may not know"
    world.delay = 0.02
    world.run(IDLE - 1)
    world.step("send", 0, 1 << 20)
    world.settle()
    assert world.server.got == world.client.sent > 2 * INITIAL_WINDOW


def test_what_an_owner_does_not_read_stays_out_of_the_budget_however_long_it_takes():
    world = lived([*GROW, ("send", 0, 1 << 20), ("run", 0, 3)])
    held = world.server.protocol.receive_window.held
    assert held > 2 * INITIAL_WINDOW
    world.run(10 * IDLE)
    assert world.server.budget.used >= held - INITIAL_WINDOW
    while world.server.got < world.client.sent:
        world.step("read", 1, 1 << 20)
    world.step("read", 1, 1)
    world.run(2 * IDLE)
    assert world.server.budget.used == 0


def plain(value):
    """Whether a value consists of nothing that only this process knows."""
    if isinstance(value, dict):
        return all(type(key) is str and plain(item) for key, item in value.items())
    if type(value) in (list, tuple):
        return all(map(plain, value))
    return value is None or type(value) in (bool, int, float, str, bytes)


def begun(error=None):
    """A session that has received, sent, and holds some of both."""
    session = SessionProtocol(1 << 20, 1 << 20, Budget(1 << 30), 100.0, resumable=True)
    session.attach(100.0)
    for event in session.receive_data(pack(Data(0, b"to be read")) + pack(Data(10, b"half"))[:-2], 100.5):
        assert event
    session.send(b"to be sent", 101.0)
    assert session.data_to_send(101.0)
    session.send(b", and more", 101.0)
    if error:
        session.fail(error)
    return session


@pytest.mark.parametrize(
    "error", [None, Reset(7), Closed("gone"), TargetError(Status.GONE, "no such session")]
)
def test_a_frozen_session_is_a_plain_value(error):
    frozen = begun(error).freeze()
    assert plain(frozen)
    thawed = SessionProtocol.thaw(marshal.loads(marshal.dumps(frozen)), Budget(1 << 30))
    assert thawed.freeze() == frozen
    if error:
        assert thawed.read(100) is not None
        thawed.receive_window.consume()
        with pytest.raises(type(error)) as caught:
            while thawed.read(100):
                thawed.receive_window.consume()
        assert vars(caught.value) == vars(error)
        assert str(caught.value) == str(error)


GO_ON = """
import marshal, sys
from lane.budget import Budget
from lane.session.activity import IDLE
from lane.session.protocol import SessionProtocol
from lane.session.receive_window import BEHIND, INITIAL_WINDOW
session = SessionProtocol.thaw(marshal.load(sys.stdin.buffer), Budget(1 << 30))
for event in session.receive_data(b"lf", 102.0):
    pass
head, data = session.data_to_send(102.0)
got = bytes(session.read(100)) + bytes(session.read(100) or b"")
sys.stdout.buffer.write(marshal.dumps((got, bytes(head), bytes(data), session.freeze())))
"""


def test_a_session_goes_on_in_another_process():
    session = begun()
    done = subprocess.run(
        [sys.executable, "-c", GO_ON], input=marshal.dumps(session.freeze()), capture_output=True, check=True
    )
    got, head, data, frozen = marshal.loads(done.stdout)
    assert got == b"to be readhalf"
    assert (head[:1], data) == (b"\0", b", and more")
    back = SessionProtocol.thaw(frozen, Budget(1 << 30))
    back.receive_window.consume()
    assert back.receive_window.consumed == 14


def test_a_session_whose_bytes_are_being_handled_is_frozen_once_it_has_left_the_stream():
    """Then the peer sends the rest again, from where the session says that it is."""
    session = SessionProtocol(1 << 20, 1 << 20, Budget(1 << 30), 100.0, resumable=True)
    session.attach(100.0)
    events = session.receive_data(b"".join(pack(Data(at, b"x")) for at in range(100)), 100.0)
    next(events)
    with pytest.raises(RuntimeError, match="handled"):
        session.freeze()
    session.detach()
    thawed = SessionProtocol.thaw(session.freeze(), Budget(1 << 30))
    events.close()
    thawed.attach(101.0, resumed=True, announce=True)
    frames, _ = thawed.data_to_send(101.0)
    assert frames[:12] == b"\x08\0\0\x08" + (1).to_bytes(8, "big"), "RECEIVED: 1"
