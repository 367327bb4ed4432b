"""Which lane carries: timelines of a link, played on a model of lanes."""

from itertools import pairwise

import pytest

from lane.carriers.path_selection import TRIAL_MOST, SelectionState, select_path
from lane.carriers.path_signals import Figures
from lane.carriers.trial_backoff import BACKOFF
from tests.support.lane_model import Link, Run

pytestmark = pytest.mark.bulk  # hours of a link, tick by tick: without the tracer


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
