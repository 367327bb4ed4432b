"""Which lane carries: timelines of a link, and a model of lanes whose figures come as late as real ones."""

import random
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lane.carriers import path_selection as module
from lane.carriers.path_selection import SPACING, TRIAL_MOST, SelectionState, select_path
from lane.carriers.path_signals import Figures
from lane.carriers.trial_backoff import BACKOFF

pytestmark = pytest.mark.bulk  # hours of a link, tick by tick: without the tracer

TICK = 0.05
LOOK = 5  # ticks from call to call
MBIT = 1e6 / 8
PACKET = 1400
SHARES = {  # loss, and Mbit/s of 30
    "cubic": [(0, 28), (0.02, 3), (0.1, 0.5), (1, 0)],
    "bbr": [(0, 28), (0.02, 26.5), (0.1, 22.6), (1, 0)],
    "quic": [(0, 28), (0.02, 26.6), (0.1, 23.8), (1, 0)],
}


@dataclass
class Link:
    """What the link is like now. `police`: Mbit/s that each kind of lane gets at most."""

    loss: float = 0.0
    mbit: float = 30.0
    rtt: float = 0.05
    blocked: tuple[str, ...] = ()
    police: dict[str, float] = field(default_factory=dict)


def share(kind, loss):
    """Which part of the link a lane fills at random loss."""
    for (left, low), (right, high) in pairwise(SHARES[kind]):
        if left <= loss <= right:
            return (low + (high - low) * (loss - left) / (right - left)) / 30
    raise AssertionError


class Lane:
    """One lane on the link, and what it measures."""

    def __init__(self, name, cost, kind, seed):
        self.name, self.cost, self.kind = name, cost, kind
        self.random = random.Random(f"{seed}{name}")
        self.rate = 0.0  # Mbit/s
        self.since = None  # when the demand on it began
        self.heard = 0.0
        self.asked = None  # when first what has no answer yet
        self.delivered = deque(maxlen=round(1 / TICK))
        self.busy = deque(maxlen=round(1 / TICK))
        self.packets = deque(maxlen=round(2 / TICK))
        self.pings = deque([0.05], maxlen=5)
        self.rtts = deque([0.05], maxlen=4)

    def tick(self, now, link, demand):
        blocked = self.name in link.blocked
        policed = link.police.get(self.name, 1e9)
        self.since = (now if self.since is None else self.since) if demand else None
        goal = min(link.mbit * share(self.kind, link.loss), policed, demand)
        if blocked or not demand:
            self.rate = 0.0
        elif self.rate < goal:
            self.rate = min(goal, self.rate + TICK * max(goal, 1.0))  # it takes a second
        else:
            self.rate += (goal - self.rate) * TICK / 0.3
        limited = bool(demand) and (blocked or demand > goal)
        loss, full = link.loss, limited and self.kind == "cubic" and link.loss < 0.003
        if limited and policed < 20:
            loss = 0.4
        if full and 0.2 < now - self.since < 1.0:
            loss = 0.2  # a slow start overshoots
        if demand or round(now / TICK) % 20 == 0:
            self.asked = now if self.asked is None else self.asked
            if not blocked:
                self.heard, self.asked = now, None
        sent = self.rate * MBIT * TICK / PACKET
        self.packets.append((sent, sent * loss))
        self.delivered.append(self.rate * self.random.uniform(0.95, 1.05))
        self.busy.append(limited and (self.random.random() < 0.9))
        rtt = link.rtt * ((1.7 if full else 1.1) if limited else 1.0) * self.random.uniform(0.98, 1.05)
        if not blocked:
            self.rtts.append(rtt)
            if round(now / TICK) % 20 == 0:
                again = self.random.random() < loss
                self.pings.append(rtt + (0.2 if again else 0.0))

    def figures(self, now, idle_rtt=0.05):
        sent = sum(packets for packets, _ in self.packets)
        return Figures(
            self.name,
            self.cost,
            alive=now - self.heard < 2.5,
            silent=0.0 if self.asked is None else now - self.asked,
            rtt=sum(self.rtts) / len(self.rtts),
            best_rtt=idle_rtt,
            delay=sorted(self.pings)[len(self.pings) // 2],
            loss=sum(lost for _, lost in self.packets) / sent if sent > 60 else None,
            goodput=sum(self.delivered) / self.delivered.maxlen * MBIT,
            limited=sum(self.busy) / self.busy.maxlen,
        )


@dataclass
class Move:
    at: float
    lane: str
    reason: str

    @property
    def voluntary(self):
        return not any(words in self.reason for words in ("no answer", "not answer", "back to"))


class Run:
    """A client on `link(t)` that has `demand(t)` Mbit/s to send."""

    def __init__(self, seconds, link, *, cc="cubic", start="tls", demand=lambda t: 100.0, seed=1, more=()):
        lanes = [Lane(*one, seed) for one in (("tls", 1, cc), ("quic", 20, "quic"), *more)]
        self.moves, self.said, self.choices, self.state = [], [], [], SelectionState(start)
        for number in range(round(seconds / TICK)):
            now = number * TICK
            for lane in lanes:
                lane.tick(now, link(now), demand(now) if lane.name == self.state.choice else 0.0)
            if number % LOOK == 0:
                decision = select_path(now, [lane.figures(now, link(now).rtt) for lane in lanes], self.state)
                assert decision.lane == decision.state.choice
                if decision.lane != self.state.choice:
                    self.moves.append(Move(now, decision.lane, decision.reason))
                elif decision.reason:
                    self.said.append(decision.reason)
                self.state = decision.state
            self.choices.append(self.state.choice)
        starts = [move.at for move in self.moves if move.voluntary]
        assert all(later - first >= SPACING for first, later in pairwise(starts))

    def on(self, at):
        return self.choices[round(at / TICK)]

    def share_of(self, name, start, end):
        part = self.choices[round(start / TICK) : round(end / TICK)]
        return part.count(name) / len(part)

    @property
    def lanes(self):
        return [move.lane for move in self.moves]


def always(**link):
    return lambda t: Link(**link)


def between(start, end, then, usual=None):
    return lambda t: then if start <= t < end else usual or Link()


SEEDS = pytest.mark.parametrize("seed", range(5))


@SEEDS
@pytest.mark.parametrize("cc", ["cubic", "bbr"])
def test_nothing_moves_on_a_clean_link(cc, seed):
    assert not Run(600 if seed == 0 else 60, always(), cc=cc, seed=seed).moves


@SEEDS
@pytest.mark.parametrize("loss", [0.02, 0.1])
def test_loss_from_the_beginning_makes_it_leave_for_good(loss, seed):
    run = Run(300, always(loss=loss), seed=seed)
    assert run.lanes == ["quic"]
    assert 2 <= run.moves[0].at <= 5
    assert run.moves[0].reason.startswith("loses ")
    assert "staying on quic" in run.said[0]


@SEEDS
def test_a_costlier_lane_is_kept_where_it_delivers_a_twentieth_more(seed):
    run = Run(120, always(loss=0.1), cc="bbr", seed=seed)
    assert run.lanes == ["quic"]


@SEEDS
def test_a_costlier_lane_is_taken_back_where_it_delivers_the_same_and_seldom_tried_again(seed):
    run = Run(120, always(loss=0.02), cc="bbr", seed=seed)
    assert run.lanes == ["quic", "tls"] * (len(run.moves) // 2)
    assert len(run.moves) <= 6
    assert run.moves[1].at - run.moves[0].at <= 5
    assert "back to tls" in run.moves[1].reason
    gaps = [later.at - first.at for first, later in pairwise(run.moves[1::2])]
    assert gaps[0] >= BACKOFF
    assert all(later > 1.8 * first for first, later in pairwise(gaps))


@SEEDS
@pytest.mark.parametrize("cc", ["cubic", "bbr"])
def test_loss_that_comes_and_goes_is_two_moves(cc, seed):
    run = Run(60, between(15, 40, Link(loss=0.1)), cc=cc, seed=seed)
    assert run.lanes == ["quic", "tls"]
    assert 15 < run.moves[0].at <= (17.5 if cc == "cubic" else 18.5)
    assert 48 < run.moves[1].at <= 52
    assert run.moves[1].reason == "no loss for 8 s: trying the cheaper tls"


@SEEDS
def test_a_collapse_is_seen_where_too_few_packets_tell_of_loss(seed):
    run = Run(40, between(15, 40, Link(loss=0.6)), seed=seed)
    assert run.lanes == ["quic"]
    assert 15 < run.moves[0].at <= 17.5
    assert run.moves[0].reason.startswith("delivers ")


@SEEDS
def test_a_burst_of_loss_in_a_full_queue_is_no_reason(seed):
    def link(t):
        return Link(loss=0.05 if 20 <= t < 20.5 else 0.0)

    run = Run(60, link, cc="bbr", seed=seed)
    assert len(run.moves) <= 2
    assert run.on(40) == "tls"


@SEEDS
def test_a_lane_that_is_blocked_is_left_at_once_and_a_cheap_one_is_stayed_on(seed):
    run = Run(60, between(3, 20, Link(blocked=("quic",))), start="quic", seed=seed)
    assert run.lanes == ["tls"]
    assert 3 < run.moves[0].at <= 3.8
    assert run.moves[0].reason.startswith("no answer for 0.")
    assert "; tls answers in 5" in run.moves[0].reason


@SEEDS
def test_a_cheap_lane_that_was_blocked_is_tried_again_when_it_answers(seed):
    run = Run(60, between(10, 30, Link(blocked=("tls",))), seed=seed)
    assert run.lanes == ["quic", "tls"]
    assert 10 < run.moves[0].at <= 10.8
    assert 38 <= run.moves[1].at <= 39


@SEEDS
def test_a_lane_that_fails_while_on_trial_is_left_at_once_and_cools(seed):
    def link(t):
        return Link(loss=0.02, blocked=("quic",) if 3.5 <= t < 60 else ())

    run = Run(30, link, seed=seed)
    assert run.lanes == ["quic", "tls"]
    assert run.moves[1].at < 5
    assert run.state.backoffs.entries[0].lane == "quic"


@SEEDS
@pytest.mark.parametrize("mbit", [2, 6])
def test_a_policed_lane_is_left_within_four_seconds(mbit, seed):
    def link(t):
        return Link(police={"quic": mbit} if t >= 6 else {})

    run = Run(120, link, start="quic", seed=seed)
    assert run.lanes == ["tls"]
    assert 7 <= run.moves[0].at <= 9


@SEEDS
def test_a_lane_that_is_policed_from_the_beginning_is_left(seed):
    run = Run(60, always(police={"quic": 2}), start="quic", seed=seed)
    assert run.lanes == ["tls"]
    assert run.moves[0].at < 5


@SEEDS
def test_policing_after_loss_brings_it_back(seed):
    def link(t):
        return Link(loss=0.02, police={"quic": 0.5} if t > 30 else {})

    run = Run(90, link, seed=seed)
    assert run.lanes[:2] == ["quic", "tls"]
    assert 30 < run.moves[1].at <= 34
    assert all(move.at > 60 for move in run.moves[2:])
    assert run.share_of("tls", 34, 90) > 0.9


@SEEDS
@pytest.mark.parametrize("mbit", [6, 12, 15])
@pytest.mark.parametrize("start", ["tls", "quic"])
def test_less_for_every_lane_is_a_trial_at_most(start, mbit, seed):
    run = Run(90, lambda t: Link(mbit=30 if t < 25 else mbit), start=start, cc="bbr", seed=seed)
    later = [move for move in run.moves if move.at >= 25]
    assert len(later) in {0, 2}
    assert run.on(60) == "tls"


@SEEDS
@pytest.mark.parametrize("cc", ["cubic", "bbr"])
@pytest.mark.parametrize("period", [3.0, 5.0, 7.0])
def test_loss_that_flaps_does_not_make_the_lane_flap(period, cc, seed):
    run = Run(120, lambda t: Link(loss=0.04 if t % (2 * period) < period else 0.0), cc=cc, seed=seed)
    for start in range(100):
        moves = [move for move in run.moves if start <= move.at < start + 20 and move.voluntary]
        assert len(moves) <= 1


@SEEDS
def test_returns_that_were_mistakes_come_more_and_more_seldom(seed):
    run = Run(600, lambda t: Link(loss=0.1 if t % 30 < 10 else 0.0), seed=seed)
    backs = [move.at for move in run.moves if move.lane == "tls"]
    assert 2 <= len(backs) <= 7
    assert run.share_of("quic", 300, 600) > run.share_of("quic", 0, 100)


def test_where_nothing_answers_it_stays():
    run = Run(60, between(10, 40, Link(blocked=("tls", "quic"))))
    assert not [move for move in run.moves if move.at < 40]
    assert select_path(9.0, [Figures("a", 1), Figures("b", 2)], SelectionState("b")).lane == "b"


@SEEDS
def test_interactive_traffic_stays_where_all_is_well(seed):
    assert not Run(300, always(), demand=lambda t: 0.1, seed=seed).moves


@SEEDS
@pytest.mark.parametrize("demand", [0.0, 0.1])
def test_with_little_to_do_it_goes_to_the_cheapest_without_a_trial(demand, seed):
    run = Run(60, always(), start="quic", demand=lambda t: demand, seed=seed)
    assert run.lanes == ["tls"]
    assert 8 <= run.moves[0].at <= 9
    assert run.state.trial is None
    assert run.moves[0].reason == "no loss for 8 s, and tls costs less"


def feed(state, start, seconds, *lanes):
    """Call with the same figures for a while: the state after that, and the moves."""
    moves = []
    for quarter in range(round(4 * start), round(4 * (start + seconds))):
        decision = select_path(quarter / 4, lanes, state)
        if decision.lane != state.choice:
            moves.append((quarter / 4, decision.lane, decision.reason))
        state = decision.state
    return state, moves


def test_little_traffic_goes_where_it_is_answered_sooner():
    slow, quick = Figures("a", 1, True, delay=0.2, rtt=0.1), Figures("b", 20, True, delay=0.06, rtt=0.05)
    state, moves = feed(SelectionState("a"), 0, 100, slow, quick)
    assert moves == [(module.SLOW_FOR, "b", "a answers in 200 ms, b in 60 ms")]
    state, moves = feed(state, 100, 25, replace(slow, delay=0.08), quick)
    assert state.choice == "a"


def test_loss_in_a_full_queue_must_last():
    choice = Figures("a", 1, True, rtt=0.1, best_rtt=0.05, loss=0.05, goodput=MBIT, limited=1.0)
    _, moves = feed(SelectionState("a"), 0, 5, choice, Figures("b", 20, True))
    assert moves == [(module.HEAVY_FOR, "b", "loses 5.0 % of the packets and delivers 1.0 Mbit/s: trying b")]
    assert not feed(SelectionState("a"), 0, 60, replace(choice, loss=0.015), Figures("b", 20, True))[1]


def losing(loss, rtt=0.05):
    return Figures("a", 1, True, rtt=rtt, best_rtt=rtt, loss=loss, goodput=MBIT, limited=1.0)


def alternate(state, seconds, *choices):
    """The choice has the first figures, then the next, and so on, a quarter of a second each; the moves."""
    moves = []
    for quarter in range(4 * seconds):
        choice = choices[quarter % len(choices)]
        state, more = feed(state, quarter / 4, 0.25, choice, Figures("b", 20, True))
        moves += more
    return moves


def test_loss_that_few_packets_tell_of_is_lossy_all_the_same():
    assert alternate(SelectionState("a"), 5, losing(0.006), losing(0.004))
    assert not alternate(SelectionState("a"), 60, losing(0.004), losing(0.002))


def test_news_of_demand_that_come_seldom_are_demand():
    late = replace(losing(0.01), limited=0.2)
    assert alternate(SelectionState("a"), 5, losing(0.01), late, late)
    assert not feed(SelectionState("a"), 0, 60, late, Figures("b", 20, True))[1]


def test_on_a_long_way_less_loss_does_as_much_harm():
    assert not feed(SelectionState("a"), 0, 60, losing(0.002, 0.05), Figures("b", 20, True))[1]
    assert feed(SelectionState("a"), 0, 60, losing(0.002, 0.2), Figures("b", 20, True))[1]


def test_a_trial_that_was_a_gain_cools_the_lane_before_though_that_is_silent():
    slow, fast = replace(losing(0.1), backlog=2.0), replace(losing(0.1), name="b", cost=20, goodput=25 * MBIT)
    state, moves = feed(SelectionState("a"), 0, 0.25, slow, replace(fast, limited=0.0))
    assert moves
    state, moves = feed(state, 0.25, 5, replace(slow, alive=False), fast)
    assert not moves
    assert not state.trial
    assert not feed(state, 5.25, 60, slow, fast)[1]


def test_a_trial_that_was_no_gain_stays_where_the_lane_before_is_silent():
    slow, slower = replace(losing(0.1), backlog=2.0), replace(losing(0.1), name="b", cost=20)
    state, _ = feed(SelectionState("a"), 0, 0.25, slow, replace(slower, limited=0.0))
    state, moves = feed(state, 0.25, 5, replace(slow, alive=False), slower)
    assert (state.choice, state.trial, moves) == ("b", None, [])


def test_a_cheap_lane_that_fell_silent_is_not_tried_for_the_loss_of_the_next_one_but_when_there_is_none():
    silent = replace(losing(None), silent=1.0)
    lossy = replace(losing(0.1), name="b", cost=20, goodput=25 * MBIT)
    state, moves = feed(SelectionState("a"), 0, 0.25, silent, lossy)
    assert moves[0][1] == "b"
    state, moves = feed(state, 0.25, BACKOFF - 1, losing(None), lossy)
    assert not moves
    assert feed(state, BACKOFF, 10, losing(None), lossy)[1], "after a while it is"
    state, moves = feed(state, BACKOFF - 1, 15, losing(None), replace(lossy, loss=0.0))
    assert moves[0][1] == "a"


def test_a_cheap_lane_that_fell_silent_is_tried_when_the_next_one_collapses():
    silent = replace(losing(None), silent=1.0)
    lossy = replace(losing(0.1), name="b", cost=20, goodput=25 * MBIT)
    state, _ = feed(SelectionState("a"), 0, 0.25, silent, lossy)
    state, moves = feed(state, 0.25, 9, losing(None), lossy)
    assert not moves
    state, moves = feed(state, 9.25, 2, losing(None), replace(lossy, goodput=2 * MBIT))
    assert moves[0][1] == "a"


def test_loss_that_goes_away_is_no_reason():
    state, _ = feed(SelectionState("a"), 0, 1.5, losing(0.06), Figures("b", 20, True))
    assert not feed(state, 1.5, 1, losing(0.01), Figures("b", 20, True))[1]


def test_a_slower_session_after_a_pause_is_no_collapse():
    fast, other = Figures("a", 1, True, goodput=28 * MBIT, limited=1.0), Figures("b", 20, True)
    state, _ = feed(SelectionState("a"), 0, 20, fast, other)
    assert feed(state, 20, 5, replace(fast, goodput=5 * MBIT), other)[1]
    state, _ = feed(state, 20, 1, replace(fast, goodput=0.0, limited=0.0), other)
    assert not feed(state, 21, 20, replace(fast, goodput=5 * MBIT), other)[1]


def test_the_dwell_shortens_with_time():
    lanes = Figures("a", 1, True), Figures("b", 20, True)
    for start, dwell in [(0, 57), (120, 33), (240, 18), (1000, 8)]:  # it goes on halving while it lasts
        _, moves = feed(SelectionState("b", dwell=80.0, dwell_of=0.0), start, 100, *lanes)
        assert dwell - 2 <= moves[0][0] - start <= dwell + 2


@SEEDS
def test_a_second_collapse_is_worth_another_trial_at_once(seed):
    run = Run(60, lambda t: Link(mbit=30 if t < 20 else 12 if t < 35 else 4), seed=seed)
    assert run.lanes == ["quic", "tls", "quic", "tls"]
    assert 35 < run.moves[2].at < 39


@SEEDS
def test_a_trial_without_demand_ends_on_the_cheaper_lane(seed):
    run = Run(60, always(loss=0.02), demand=lambda t: 100.0 if t < 4 else 0.0, seed=seed)
    assert run.lanes == ["quic", "tls"]
    assert run.moves[1].reason == "too little traffic to compare: back to tls"
    assert run.moves[1].at == run.moves[0].at + TRIAL_MOST
    run = Run(60, always(), start="quic", demand=lambda t: 100.0 if t < 9 else 0.0, seed=seed)
    assert run.lanes == ["tls"]
    assert run.said == ["too little traffic to compare: staying on tls"]


@SEEDS
def test_a_trial_waits_for_demand_that_comes_and_goes(seed):
    run = Run(60, always(loss=0.05), demand=lambda t: 100.0 if t % 7 < 4 else 0.0, seed=seed)
    assert run.lanes[0] == "quic"
    assert run.share_of("quic", 4, 18) == 1
    assert "staying on quic" in run.said[0]


@SEEDS
def test_a_trial_that_is_a_disaster_ends_early(seed):
    run = Run(30, always(loss=0.1), start="quic", seed=seed)
    assert run.lanes == ["tls", "quic"]
    assert run.moves[1].at - run.moves[0].at < 3
    assert run.state.backoffs.entries[0].wait == BACKOFF


@SEEDS
def test_loss_that_spoilt_a_return_is_no_reason_for_another(seed):
    run = Run(40, lambda t: Link(loss=0.1 if t >= 9.5 else 0.0), start="quic", seed=seed)
    assert run.lanes == ["tls", "quic"]
    assert run.moves[1].at < 13


@SEEDS
def test_a_trial_that_failed_is_repeated_soon_when_loss_is_much_worse(seed):
    run = Run(40, lambda t: Link(loss=0.02 if t < 15 else 0.1), cc="bbr", seed=seed)
    assert run.lanes == ["quic", "tls", "quic"]
    assert run.moves[2].at < 20


@SEEDS
def test_of_three_lanes_the_cheapest_that_does_is_found(seed):
    run = Run(60, always(loss=0.1), more=[("middle", 5, "quic")], seed=seed)
    assert run.lanes[0] == "middle"
    assert set(run.lanes) == {"middle", "quic"}
    assert run.share_of("middle", 5, 60) > 0.8
    run = Run(90, always(loss=0.1), more=[("middle", 5, "cubic")], seed=seed)
    assert run.lanes[:3] == ["middle", "tls", "quic"]
    assert run.moves[2].at < 14
    assert run.share_of("quic", 14, 90) > 0.9
    run = Run(60, always(blocked=("tls",)), start="quic", more=[("middle", 5, "bbr")], seed=seed)
    assert run.lanes == ["middle"]


@pytest.mark.parametrize(("rtt", "patience"), [(0.05, 1.0), (0.2, 2.0)])
def test_a_lane_on_which_answers_wait_for_seconds_behind_data_is_left_on_trial(rtt, patience):
    quick = Figures("b", 20, True, rtt=rtt, best_rtt=rtt)
    for backlog, lane in ((patience, "a"), (patience + 0.1, "b")):
        slow = Figures("a", 1, True, rtt=rtt, best_rtt=rtt, backlog=backlog, goodput=1e5, limited=1.0)
        decision = select_path(20.0, [slow, quick], SelectionState("a"))
        assert decision.lane == lane
    assert decision.state.trial.origin == "a"
    assert decision.reason.endswith("behind data at 0.8 Mbit/s: trying b")


NUMBER = st.floats(0, 1e8)
PART = st.floats(0, 1)
TIME = st.floats(0, 10)
FIGURES = st.builds(
    Figures,
    name=st.just(""),
    cost=st.sampled_from([1.0, 5.0, 20.0]),
    alive=st.sampled_from([True, True, True, False, None]),
    silent=st.sampled_from([0.0, 0.0, 0.0, 0.2, 1.0]),
    backlog=st.sampled_from([0.0, 0.0, 0.0, 0.2, 3.0]),
    rtt=st.none() | TIME,
    best_rtt=st.none() | TIME,
    delay=st.none() | TIME,
    loss=st.none() | PART | st.sampled_from([0.0, 0.1]),
    goodput=NUMBER,
    limited=st.sampled_from([0.0, 1.0]) | PART,
)
TIMELINE = st.lists(
    st.tuples(st.floats(0, 20), st.integers(1, 12), st.lists(FIGURES, min_size=3, max_size=3)), max_size=40
)


@given(st.integers(1, 3), TIMELINE)
def test_whatever_the_figures_it_decides(count, timeline):
    now, state, moves = 0.0, SelectionState("0"), []
    for gap, repeated, row in timeline:
        lanes = [replace(figures, name=str(number)) for number, figures in enumerate(row[:count])]
        for _ in range(repeated):
            now += gap / repeated
            decision = select_path(now, lanes, state)
            assert decision == select_path(now, lanes, state)
            assert decision.lane == decision.state.choice
            assert decision.lane in {lane.name for lane in lanes}
            if decision.lane != state.choice:
                assert decision.reason
                move = Move(now, decision.lane, decision.reason)
                moves += [move] if move.voluntary else []
            state = decision.state
    assert all(later.at - first.at >= SPACING for first, later in pairwise(moves))
    assert len(state.backoffs.entries) <= count
