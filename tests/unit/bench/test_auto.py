"""The arithmetic that judges lane's automatic choice: a mistake would praise or blame the wrong thing."""

import auto
import pytest
import timeline
from load import Trace
from verdicts import (
    Need,
    carried_by,
    chosen_after,
    longest_gap,
    most_in_a_second,
    moves,
    rate,
    recovered,
    silence,
    story,
)


def trace(series=(), gaps=(), secs=None, step=0.5):
    return {"series": list(series), "gaps": list(gaps), "step": step, "secs": secs or len(series) * step}


MBIT = 125_000


def test_the_rate_of_a_phase_leaves_the_rest_out():
    found = trace([0] * 4 + [MBIT] * 4 + [0] * 2)
    assert rate(found, 2, 4) == 2.0
    assert rate(found, 0, 4) == 1.0


def test_after_a_download_has_ended_nothing_comes():
    assert rate(trace([MBIT] * 4), 1, 5) == pytest.approx(0.5)


def test_the_longest_gap_is_the_part_of_it_within_the_time():
    found = trace(gaps=[[2, 3], [8, 1]], secs=20)
    assert longest_gap(found, 0, 20) == 3
    assert longest_gap(found, 4.5, 20) == 1
    assert longest_gap(found, 10, 20) == 0


def test_a_download_that_ends_early_has_a_gap_to_the_end():
    assert longest_gap(trace(secs=12), 10, 20) == 8
    assert longest_gap(trace(gaps=[[11, 1]], secs=12.0004), 10, 20) == 9


def test_the_silence_ends_with_the_next_byte():
    found = trace(gaps=[[10, 22], [40, 5]], secs=45)
    assert silence(found, 30, 45) == 2
    assert silence(found, 35, 45) == 0
    assert silence(found, 41, 45) is None
    assert silence(found, 46, 50) is None


def test_a_rate_has_recovered_when_it_stays():
    found = trace([10 * MBIT, 0, 0, 0, 10 * MBIT, 10 * MBIT, 10 * MBIT, 10 * MBIT])
    assert recovered(found, 0.5, 18) == 1.5
    assert recovered(found, 0.5, 25) is None


def test_the_story_of_reports():
    change = {"time": 105, "from": "tls", "to": "quic", "reason": "losses"}
    first = {"time": 99, "from": None, "to": "tls", "reason": "first"}
    reports = [
        {"time": 100, "choice": "tls", "changes": [first]},
        {"time": 101, "choice": "tls", "changes": [first]},
        {"time": 105, "choice": "quic", "changes": [first, change]},
        {"time": 106, "choice": "quic", "changes": [change]},
    ]
    lanes, changes = story(reports, 100)
    assert lanes == [[0, "tls"], [5, "quic"]]
    assert changes == [[5, "tls", "quic", "losses"]]
    assert moves(changes, 0, 10) == 1
    assert moves(changes, 6, 10) == 0
    assert carried_by(lanes, 4.9) == "tls"
    assert carried_by(lanes, 5) == "quic"
    assert chosen_after(lanes, 3, "quic") == 2
    assert chosen_after(lanes, 3, "tls") == 0
    assert chosen_after(lanes, 6, "tls") is None
    assert story([], 100) == (None, None)
    assert moves(None, 0, 10) is None


def test_most_in_a_second_is_a_window_that_slides():
    samples = [(0, 0), (0.6, 10), (1.2, 20), (1.8, 20), (5, 90)]
    assert most_in_a_second(samples) == 10
    assert most_in_a_second([(0, 0), (0.6, 10), (1.0, 20)]) == 20
    assert most_in_a_second([]) == 0


GAP, RATIO = Need("gap", 1.5), Need("Mbit/s", 0.9, most=False, beside=("quic", "tls"))


def test_judging_a_median():
    assert GAP.judge({"auto": [{"gap": 1}, {"gap": 9}, {"gap": 1.5}]}) == (1.5, "ok")
    assert Need("gap", 1.5, worst=True).judge({"auto": [{"gap": 1}, {"gap": 9}]}) == (9, "NOT")


def test_judging_beside_the_better_one():
    others = {"quic": [{"Mbit/s": 10}], "tls": [{"Mbit/s": 20}]}
    assert RATIO.judge({"auto": [{"Mbit/s": 19}], **others}) == (0.95, "ok")
    assert RATIO.judge({"auto": [{"Mbit/s": 11}], **others}) == (0.55, "NOT")


def test_what_never_came_is_bad_and_what_was_not_measured_is_unknown():
    assert GAP.judge({"auto": [{"gap": None}, {"gap": 1}]}) == (None, "NOT")
    assert GAP.judge({"auto": [{}]}) == (None, "unknown")
    assert GAP.judge({}) == (None, "unknown")
    assert (
        RATIO.judge({"auto": [{"Mbit/s": 1}], "quic": [{"Mbit/s": 0}], "tls": [{"Mbit/s": 0}]})[1]
        == "unknown"
    )


def test_rows_are_chosen_by_the_begin_of_their_names():
    rows = auto.rows_for(1)
    assert len(auto.chosen(rows, None)) == len(rows) == len({row.name for row in rows})
    assert [row.name for row in auto.chosen(rows, "fixed-L1,kill")] == [
        "fixed-L1-cubic",
        "fixed-L1-bbr",
        "kill",
    ]
    with pytest.raises(SystemExit, match="unknown: fix;"):
        auto.chosen(rows, "fix")


def test_a_download_tells_its_series_and_gaps():
    found = Trace(100, 0.5)
    for now, count in ((100.15, 10), (100.2, 0), (101.1, 7), (101.12, 1), (101.4, 0), (101.6, 0)):
        found.add(now, count)
    told = found.end(101.6)
    assert told["series"] == [10, 0, 8]
    assert told["gaps"] == [[0, 0.15], [0.15, 0.95], [1.12, 0.48]]


def test_what_the_picture_is_made_of():
    events = [[15, "--loss 10%"], [20, "kill_server"], [40, "--loss 0%"]]
    assert timeline.losses(events, 60) == [[15, 40, "10"]]
    assert timeline.losses(events[:1], 60) == [[15, 60, "10"]]
    assert timeline.segments([[-2, "tls"], [5, "quic"]], 9) == [[0, 5, "tls"], [5, 9, "quic"]]
    assert timeline.rates(trace([MBIT, MBIT, 3 * MBIT])) == ([0.5, 1.0], [2.0, 4.0])
    assert timeline.middle([5, 1, 3, 9]) == 2
