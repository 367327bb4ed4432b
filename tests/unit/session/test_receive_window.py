"""The windows of a session: who may send how much, and what the process may have to hold for it. Growth is
what speed comes from and memory goes to, so it is held to its reasons: a reader that waits, a peer that
runs out, a budget with room. Whatever sessions do and however they end, all that they took is given back."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lane.budget import Budget
from lane.errors import ProtocolError
from lane.session import receive_window as module
from lane.session.receive_window import (
    ACK_EVERY,
    BEHIND,
    FIRST_STEP,
    INITIAL_WINDOW,
    SHORT_ANSWER,
    ReceiveWindow,
)
from lane.session.send_buffer import SendBuffer

pytestmark = pytest.mark.bulk  # many small turns: without the tracer
BUFFER = 16 << 20
QUARTER = INITIAL_WINDOW // 4
RTT = 0.05
KNOWN = 1.5 * RTT + module.REACTION + 1e-6
"""Seconds after which the peer must know of an acknowledgement."""


def take_in(window, offset, data, now, rtt, offer=lambda data: 0):
    """Received bytes go where a session has them go: to `offer`, as many as it takes, and into the window."""
    fresh = window.receive(offset, data, now, rtt)
    if len(fresh) and window.idle and (taken := offer(fresh)):
        window.consume_now(taken)
        fresh = memoryview(fresh)[taken:]
    window.hold(fresh)


class Transfer:
    """A sender of so many bytes a second, a path, and a reader of so many bytes a second."""

    def __init__(self, rate, reading=1e12, chunk=16384, buffer=BUFFER, total=1 << 30, rtt=RTT):
        self.budget, self.rtt = Budget(total), rtt
        self.receive_window = ReceiveWindow(buffer, self.budget)
        self.rate, self.reading, self.chunk = rate, reading, chunk
        self.now, self.sent, self.credit, self.allowed, self.starved = (
            1000.0,
            0,
            self.receive_window.limit,
            0.0,
            0.0,
        )
        self.data, self.acks = deque(), deque()
        self.done_at = 0.0  # when the reader is done with what it took

    def _tell(self):
        consumed, window = self.receive_window.acknowledge(self.now)
        self.acks.append((self.now + self.rtt / 2, consumed + window))

    def run(self, seconds):
        """So much time: the window at its end."""
        for turn in range(round(seconds * 1000)):
            self.now += 0.001
            if turn % 250 == 0 and self.receive_window.unacknowledged:  # the session's tick
                self._tell()
            self._send()
            while self.data and self.data[0][0] <= self.now:
                take_in(self.receive_window, self.data.popleft()[1], bytes(self.chunk), self.now, self.rtt)
                if self.receive_window.withhold(self.now, self.rtt):
                    self._tell()
            self._read()
        return self.receive_window.window

    def pause(self, seconds):
        """The reader does nothing for so long."""
        self.done_at = self.now + seconds
        self.run(seconds)

    @property
    def kept(self):
        """Bytes that were sent and not consumed. The sender retains them."""
        return self.sent - self.receive_window.consumed

    def _send(self):
        while self.acks and self.acks[0][0] <= self.now:
            self.credit = self.acks.popleft()[1]
        self.allowed = min(self.allowed + self.rate * 0.001, self.rate * 0.002 + self.chunk)
        while self.allowed >= self.chunk:
            if self.sent + self.chunk > self.credit:
                self.starved += 0.001
                return
            self.data.append((self.now + self.rtt / 2, self.sent))
            self.sent += self.chunk
            self.allowed -= self.chunk

    def _read(self):
        inbox = self.receive_window
        while self.now >= self.done_at:
            inbox.consume()
            if inbox.ack_due:
                self._tell()
            if not inbox.held:
                return
            taken = len(inbox.take(262144))
            self.done_at = max(self.done_at, self.now - 0.001) + taken / self.reading


def pour(inbox, size, now=1000.0, chunk=None):
    for start in range(0, size, chunk or size):
        take_in(inbox, inbox.received, bytes(min(chunk or size, size - start)), now, RTT)


def drink(inbox, most=1 << 30):
    """Up to `most` bytes are read."""
    while inbox.held and most > 0:
        most -= len(inbox.take(most))
    inbox.consume()


@pytest.fixture
def inbox():
    return ReceiveWindow(BUFFER, Budget(1 << 30))


def eighths(inbox, pause, count=16, part=8):
    """A reader that waits gets an eighth, or another part, of the second window every `pause` seconds."""
    for turn in range(count):
        now = 1000.0 + turn * pause
        pour(inbox, FIRST_STEP // part, now)
        drink(inbox)
        inbox.acknowledge(now)
    return inbox.window


def test_a_window_grows_once_more_than_a_short_answer_was_read_and_the_peer_is_told(inbox):
    pour(inbox, SHORT_ANSWER + 1)
    drink(inbox, SHORT_ANSWER)
    assert (inbox.window, inbox.ack_due) == (INITIAL_WINDOW, False)
    drink(inbox)
    assert (inbox.window, inbox.ack_due) == (FIRST_STEP, True)
    assert inbox.acknowledge(1000.0) == (SHORT_ANSWER + 1, FIRST_STEP)
    pour(inbox, 1)
    drink(inbox)
    assert not inbox.ack_due


def test_a_window_grows_further_for_a_peer_that_uses_most_of_it_and_a_reader_that_waits(inbox):
    assert eighths(inbox, KNOWN / 7) > FIRST_STEP


def test_a_peer_that_has_little_under_way_needs_no_more(inbox):
    assert eighths(inbox, KNOWN, 100, part=32) == FIRST_STEP


def test_a_reader_that_finds_something_whenever_it_comes_makes_nothing_grow(inbox):
    pour(inbox, INITIAL_WINDOW, chunk=8192)
    inbox._reader_waited = False  # it had to wait for the very first
    for turn in range(1, 100):
        drink(inbox, QUARTER)
        inbox.acknowledge(1000.0 + turn)
        pour(inbox, inbox.limit - inbox.received, 1000.5 + turn, chunk=8192)
    assert inbox.window == INITIAL_WINDOW


@pytest.mark.parametrize("rate", [20e6, 100e6])
def test_a_fast_transfer_over_a_long_path_is_held_back_for_a_few_round_trips_only(rate):
    transfer = Transfer(rate)
    transfer.run(8 * RTT)
    starved, sent = transfer.starved, transfer.sent
    transfer.run(1)
    assert transfer.starved == starved < 4 * RTT
    assert transfer.sent - sent == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize(("buffer", "total"), [(3 << 20, 1 << 30), (BUFFER, 4 << 20), (100_000, 0), (1, 0)])
def test_growth_stops_at_the_buffer_size_and_at_the_budget(buffer, total):
    transfer = Transfer(1e9, chunk=min(buffer, 16384), buffer=buffer, total=total)
    grown = transfer.run(2)
    assert transfer.sent > 20 * min(buffer, INITIAL_WINDOW)
    assert grown <= buffer
    assert grown == buffer or transfer.budget.used > total / 2, "all there was to have"
    assert transfer.budget.used == grown - transfer.receive_window.initial <= total


def test_the_last_never_get_nothing_from_a_budget():
    budget = Budget(1000)
    taken = [size for size in (250, 200, 150, 151, 75) if budget.take(size)]
    assert (taken, budget.used) == ([250, 150, 75], 475)
    budget.give(475)
    assert budget.used == 0


def test_an_acknowledgement_is_due_for_a_quarter_of_the_window_or_when_it_is_asked_for():
    inbox = ReceiveWindow(BUFFER, Budget(0))
    pour(inbox, QUARTER - 1)
    drink(inbox)
    assert (inbox.ack_due, bool(inbox.unacknowledged)) == (False, True)
    inbox.request_ack()
    assert inbox.ack_due
    inbox.acknowledge(1000.0)
    assert (inbox.ack_due, inbox.unacknowledged) == (False, 0)
    pour(inbox, QUARTER, 1000.0 + KNOWN)
    inbox.take(QUARTER)
    assert not inbox.ack_due, "it was taken, and is consumed when the reader comes back"
    drink(inbox)
    assert inbox.ack_due


def test_an_acknowledgement_is_due_for_2_mb_of_the_largest_window():
    inbox = ReceiveWindow(64 * ACK_EVERY, Budget(1 << 30))
    inbox._grow_to(64 * ACK_EVERY)
    inbox.acknowledge(1000.0)
    pour(inbox, ACK_EVERY - 1)
    drink(inbox)
    assert not inbox.ack_due
    pour(inbox, 1)
    drink(inbox)
    assert inbox.ack_due


def test_the_end_is_consumed_and_acknowledged_at_once(inbox):
    pour(inbox, 5)
    inbox.finish(5)
    assert not inbox.at_end
    drink(inbox)
    assert (inbox.at_end, inbox.ended) == (True, False)
    inbox.take_end()
    assert (inbox.ended, inbox.ack_due, inbox.acknowledge(1000.0)[0]) == (True, True, 6)


def test_offences_are_noticed(inbox):
    take_in(inbox, 0, b"abc", 1000.0, RTT)
    take_in(inbox, 1, b"bcde", 1000.0, RTT)
    assert bytes(inbox.take(3)) + bytes(inbox.take(9)) == b"abcde"
    with pytest.raises(ProtocolError):
        inbox.finish(4)
    inbox.finish(5)
    for offset, size in ((5, 1), (6, 1), (0, INITIAL_WINDOW + 1)):
        with pytest.raises(ProtocolError):
            take_in(inbox, offset, bytes(size), 1000.0, RTT)
    outbox = SendBuffer(BUFFER, Budget(0), 10)
    outbox.send(b"12345")
    for consumed in (6, -1):
        with pytest.raises(ProtocolError):
            outbox.acknowledge(consumed, 10)


def test_what_is_remembered_of_acknowledgements_is_bounded(inbox):
    for turn in range(1000):
        pour(inbox, 100, 1000.0 + turn / 1e6)
        drink(inbox)
        inbox.acknowledge(1000.0 + turn / 1e6)
    assert len(inbox._sent_acks) == module.ACKS_REMEMBERED
    pour(inbox, 100, 1010.0)
    assert not inbox._sent_acks


def test_a_window_that_shrank_binds_the_peer_once_it_knows(inbox):
    assert not inbox.shrink(), "it never grew"
    assert eighths(inbox, 1e-6) > 2 * INITIAL_WINDOW
    assert inbox.shrink()
    inbox.acknowledge(1000.0)
    pour(inbox, 2 * INITIAL_WINDOW)  # it may still use what it was given before
    inbox.shrunk()
    assert inbox._budget.used == INITIAL_WINDOW, "what it holds beyond the least"
    take_in(inbox, inbox.received - 1, b"x", 1000.0, RTT)  # what is known is no offence
    with pytest.raises(ProtocolError):
        pour(inbox, 1)
    drink(inbox)
    inbox.acknowledge(1001.0)
    assert inbox._budget.used == inbox.window - inbox.initial


class Pair:
    """Both ends of one direction, joined without a path."""

    def __init__(self, buffer, budget):
        self.receive_window = ReceiveWindow(buffer, budget)
        self.send_buffer = SendBuffer(buffer, budget, self.receive_window.limit)

    def act(self, action, amount, now):
        inbox, outbox = self.receive_window, self.send_buffer
        match action:
            case "send" if size := outbox.allowance(amount):
                assert size <= amount
                take_in(inbox, outbox.send(bytes(size)), bytes(size), now, 0.01)
                if inbox.withhold(now, 0.01):
                    outbox.acknowledge(*inbox.acknowledge(now))
            case "read" if inbox.held:
                inbox.take(amount)
            case "consume":
                inbox.consume()
            case "flow":
                for step in ("send", "read", "consume", "tell"):
                    self.act(step, amount, now)
            case "tell":
                outbox.acknowledge(*inbox.acknowledge(now))
            case "shrink" if inbox.shrink():
                outbox.acknowledge(*inbox.acknowledge(now))
                inbox.shrunk()
            case "end":
                inbox.release()
                outbox.release()
                return False
        return True


ACTIONS = ["send", "send", "read", "consume", "consume", "tell", "shrink", "end", "flow", "flow", "flow"]
ACTION = st.tuples(st.integers(0, 2), st.sampled_from(ACTIONS), st.integers(1, 1 << 20), st.booleans())
BUFFERS, TOTALS = st.sampled_from([1, 70_000, 2 * FIRST_STEP, BUFFER]), st.sampled_from([0, 1 << 20, 1 << 30])


@given(st.lists(ACTION, min_size=20, max_size=120), BUFFERS, TOTALS)
def test_sessions_stay_within_their_bounds_and_give_everything_back(actions, buffer, total):
    budget, now = Budget(total), 1000.0
    pairs = [Pair(buffer, budget) for _ in range(3)]
    for number, action, amount, pause in actions:
        now += 0.1 * pause
        if not pairs[number].act(action, amount, now):
            pairs[number] = Pair(buffer, budget)
        for pair in pairs:
            inbox, outbox = pair.receive_window, pair.send_buffer
            assert inbox.initial <= inbox.window <= buffer
            assert inbox.received - inbox.consumed <= min(buffer, inbox.initial + inbox._reserved)
            assert outbox.retained == outbox.sent - outbox.acked
            assert outbox.retained <= min(buffer, inbox.initial + outbox._reserved)
        grown = sum(pair.receive_window._reserved + pair.send_buffer._reserved for pair in pairs)
        assert budget.used == grown <= total
    for pair in pairs * 2:
        pair.act("end", 0, now)
    assert budget.used == 0


def test_what_was_released_takes_nothing_more(inbox):
    pour(inbox, INITIAL_WINDOW)
    inbox.take(INITIAL_WINDOW)
    inbox.release()
    inbox.consume()
    assert inbox._budget.used == 0


@pytest.mark.parametrize("chunk", [1200, 16384, 131_000])
def test_a_slow_reader_makes_nothing_grow_beyond_the_first_step(chunk):
    transfer = Transfer(100e6, reading=200_000, chunk=chunk)
    assert transfer.run(5) <= FIRST_STEP


# A reader that falls behind.

PATHS = [(50e6, 0.002), (12.5e6, 0.05), (12.5e6, 0.2), (30e6, 0.1)]
"""Bytes a second, and seconds of a round trip."""


def under_way(path):
    """A transfer that has had its path for itself for some time, and the bytes of a round trip."""
    rate, rtt = path
    transfer = Transfer(rate, rtt=rtt)
    transfer.run(20 * rtt + 0.5)
    return transfer, rate * rtt


@pytest.mark.parametrize("path", PATHS)
def test_for_a_reader_that_stops_two_round_trips_are_kept_or_a_little(path):
    transfer, round_trip = under_way(path)
    assert transfer.receive_window.window > 10e6
    transfer.pause(3)
    noticed = 2 * round_trip + module.REACTION * transfer.rate
    assert transfer.kept <= 1.05 * max(BEHIND, noticed) + 3 * transfer.chunk
    assert transfer.receive_window.held == transfer.kept


@pytest.mark.parametrize("path", PATHS)
def test_short_pauses_of_a_reader_cost_nothing(path):
    transfer, _ = under_way(path)
    starved = transfer.starved
    for _ in range(10):
        transfer.pause(0.9 * transfer.rtt)
        transfer.run(3 * transfer.rtt)
    assert transfer.starved == starved
    assert transfer.kept < BUFFER


@pytest.mark.parametrize("path", PATHS)
def test_a_reader_that_goes_on_has_all_of_the_path_within_few_round_trips(path):
    transfer, round_trip = under_way(path)
    transfer.pause(3)
    transfer.run(4 * transfer.rtt)
    starved, sent = transfer.starved, transfer.sent
    transfer.run(1)
    assert transfer.starved == starved
    assert transfer.sent - sent == pytest.approx(transfer.rate, rel=0.02)
    assert transfer.receive_window.window > 4 * round_trip


def test_a_path_that_needs_all_of_the_window_keeps_it():
    """500 Mbit/s and 200 ms: two round trips are more than there may be."""
    transfer, _ = under_way((62.5e6, 0.2))
    starved = transfer.starved
    for _ in range(4):
        transfer.pause(0.05)
        transfer.run(0.2)
    assert transfer.receive_window.window == BUFFER
    assert transfer.starved == starved
    transfer.pause(1)
    assert transfer.receive_window.window == BUFFER


@pytest.mark.parametrize("path", PATHS)
def test_a_reader_that_is_slower_than_its_path_never_waits_for_less_credit(path):
    transfer, round_trip = under_way(path)
    transfer.reading = path[0] / 2
    transfer.run(2)
    before = transfer.receive_window.consumed
    transfer.run(2)
    assert transfer.receive_window.consumed - before == pytest.approx(path[0], rel=0.02)
    assert transfer.kept <= 1.1 * max(BEHIND, 2 * round_trip), "and little is kept for it"


@pytest.mark.parametrize("path", [(12.5e6, 0.01), (12.5e6, 0.05), (20e6, 0.2)])
def test_a_reader_that_reads_in_bursts_soon_has_all_of_its_path(path):
    transfer, _ = under_way(path)
    for number in range(13):
        if number == 5:
            starved, sent = transfer.starved, transfer.sent
        transfer.pause(0.3)
        transfer.run(0.3)
    assert transfer.starved == starved
    assert transfer.sent - sent == pytest.approx(path[0] * 8 * 0.6, rel=0.02)


def test_what_a_reader_got_for_its_bursts_it_loses_with_a_long_pause():
    transfer, round_trip = under_way((12.5e6, 0.02))
    for _ in range(6):
        transfer.pause(0.3)
        transfer.run(0.3)
    assert transfer.receive_window._least > 2 * BEHIND
    transfer.run(2 * module.AGAIN)
    transfer.pause(3)
    assert transfer.receive_window.window <= BEHIND + round_trip


def test_a_reader_behind_a_proxy_soon_has_all_that_it_can_read(monkeypatch):
    """The transport knows the round trip to the proxy only."""
    transfer, _ = under_way((30e6, 0.2))
    transfer.reading = 15e6
    for name in ("receive", "withhold"):
        what = getattr(ReceiveWindow, name)
        monkeypatch.setattr(ReceiveWindow, name, lambda *given, what=what: what(*given[:-1], 0.001))
    transfer.run(5)
    before = transfer.receive_window.consumed
    transfer.run(3)
    assert transfer.receive_window.consumed - before == pytest.approx(45e6, rel=0.02)
    assert transfer.receive_window.window < BUFFER


def grown():
    """A large window whose reader waits, at a time."""
    inbox = ReceiveWindow(BUFFER, Budget(1 << 30))
    assert eighths(inbox, KNOWN / 7) > 4 * BEHIND
    return inbox, 1000.0 + 100 * KNOWN


def test_what_comes_at_once_after_a_loss_is_no_sign_of_a_slow_reader():
    inbox, now = grown()
    pour(inbox, 3 * BEHIND, now, chunk=16384)
    assert not inbox.withhold(now, RTT)
    assert not inbox.withhold(now + RTT, RTT)
    drink(inbox)
    pour(inbox, 3 * BEHIND, now + 2 * RTT, chunk=16384)
    assert not inbox.withhold(now + 2 * RTT, RTT), "it had read all meanwhile"
    assert inbox.withhold(now + 3 * RTT + 2 * module.REACTION, RTT)


def test_a_reader_with_little_left_to_read_is_not_behind():
    inbox, now = grown()
    pour(inbox, BEHIND // 2, now)
    assert not inbox.withhold(now + 10, RTT)
    pour(inbox, 1, now)
    assert inbox.withhold(now + 10, RTT)
    assert inbox.acknowledge(now + 10) == (inbox.consumed, BEHIND)
    pour(inbox, BEHIND, now)
    assert not inbox.withhold(now + 20, RTT), "the peer knows"


def test_a_peer_may_use_what_it_had_before_credit_was_withheld_and_nothing_is_reserved_twice():
    inbox, now = grown()
    window, limit = inbox.window, inbox.limit
    used = inbox._budget.used
    pour(inbox, BEHIND, now)
    assert inbox.withhold(now + 1, RTT)
    inbox.acknowledge(now + 1)
    pour(inbox, limit - inbox.received, now + 1)
    assert inbox._budget.used == used
    drink(inbox)
    inbox._grow_to(window)
    assert (inbox.window, inbox._budget.used) == (window, used)


def test_what_an_earlier_version_froze_goes_on():
    inbox, now = grown()
    pour(inbox, BEHIND, now)
    frozen = {name: value for name, value in inbox.freeze().items() if name not in inbox._FROZEN_SINCE}
    later = ReceiveWindow.thaw(frozen, Budget(1 << 30))
    assert not later.withhold(now + 1, RTT), "nobody knows when its reader waited"
    drink(later)
    pour(later, BEHIND, now + 1)
    assert later.withhold(now + 2, RTT)


def test_after_the_end_nothing_is_taken_any_more(inbox):
    pour(inbox, 2 * SHORT_ANSWER)
    inbox.finish(2 * SHORT_ANSWER)
    drink(inbox)
    inbox.take_end()
    assert inbox._budget.used == 0
    inbox.consume()
    assert inbox._budget.used == 0


def test_after_a_pause_short_messages_make_nothing_grow(inbox):
    eighths(inbox, KNOWN)
    inbox.shrink()
    for turn in range(200):
        pour(inbox, 100, 2000.0 + turn)
        drink(inbox)
        inbox.acknowledge(2000.0 + turn)
    assert inbox.window == INITIAL_WINDOW


# What is offered at once.


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 5000)), max_size=40))
def test_what_is_offered_comes_once_and_in_order(steps):
    inbox, out, sent = ReceiveWindow(1 << 20, Budget(1 << 30)), bytearray(), bytearray()
    for number, (size, most) in enumerate(steps):
        piece = bytes((number,)) * size

        def offer(data, most=most):
            assert not inbox.held
            out.extend(bytes(data[:most]))
            return min(most, len(data))

        take_in(inbox, len(sent), memoryview(bytearray(piece)), 0.0, 0.1, offer)
        sent += piece
        if number % 3 == 0:
            while inbox.held:
                out.extend(inbox.take(4096))
            inbox.consume()
        assert inbox.consumed == len(out)
    while inbox.held:
        out.extend(inbox.take(4096))
    assert out == sent


def test_what_is_kept_of_a_view_is_a_copy():
    inbox, buffer = ReceiveWindow(1 << 20, Budget(1 << 30)), bytearray(b"a" * 8192)
    take_in(inbox, 0, memoryview(buffer), 0.0, 0.1)
    buffer[:] = b"b" * 8192
    assert bytes(inbox.take(8192)) == b"a" * 8192


def test_nothing_is_offered_before_what_waits():
    inbox = ReceiveWindow(1 << 20, Budget(1 << 30))
    take_in(inbox, 0, b"first", 0.0, 0.1)
    take_in(inbox, 5, b"second", 0.0, 0.1, lambda data: pytest.fail("out of order"))
    inbox.take(5)  # taken, and not yet out
    take_in(inbox, 11, b"third", 0.0, 0.1, lambda data: pytest.fail("out of order"))
