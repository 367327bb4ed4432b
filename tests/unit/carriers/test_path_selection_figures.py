"""Which lane carries: the choice by figures that are given, and by any."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lane.carriers import path_selection as module
from lane.carriers.path_selection import SPACING, SelectionState, select_path
from lane.carriers.path_signals import Figures
from lane.carriers.trial_backoff import BACKOFF
from tests.support.lane_model import MBIT, Move


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


@pytest.mark.bulk
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
