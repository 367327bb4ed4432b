"""Sentences about figures."""

import pytest

from lane.cli import verdict
from lane.cli.speedtest import Result


def result(name, cost, mbit, **more):
    rate = mbit * 1e6 / 8
    return Result(
        name, cost, rate, rate, **{"idle": 0.02, "loaded": 0.03, "jitter": 0.001, "loss": 0.0, **more}
    )


def words(*results):
    return "\n".join(verdict.words(results))


@pytest.mark.parametrize(
    ("cheap", "dear", "said"),
    [
        (100, 105, "cheap delivers as much as dear, at a ninth of the CPU."),
        (100, 100, "cheap delivers as much as dear, at a ninth of the CPU."),
        (200, 100, "cheap delivers 2.0 times as much as dear, at a ninth of the CPU."),
        (10, 100, "dear delivers 10.0 times as much as cheap, for its CPU."),
    ],
)
def test_the_choice_is_what_delivers_and_then_what_costs_least(cheap, dear, said):
    assert said in words(result("dear", 9.0, dear), result("cheap", 1.0, cheap))


def test_a_full_queue_is_named():
    said = words(result("a", 1.0, 10, loaded=0.4))
    assert "answers take 400 ms instead of 20 ms: a queue on the path fills up (bufferbloat)" in said
    assert "bufferbloat" not in words(result("a", 1.0, 10))


def test_loss_is_named_and_what_to_expect_of_it():
    assert "Up to 3.0 % of the bytes are lost" in words(result("a", 1.0, 10, loss=0.03))
    # 1448 bytes / 20 ms * sqrt(1.5 / 0.02)
    assert "At 2% loss and this round trip of 20.0 ms, expect at most 5 Mbit/s" in words(result("a", 1.0, 10))


def test_the_way_without_lane_is_compared():
    direct = Result("direct", down=2e7, idle=0.01)
    assert "Through lane: 50% of the rate without it." in words(result("a", 1.0, 80), direct)


def test_nothing_is_said_about_nothing():
    assert verdict.words([]) == []
    assert verdict.words([Result("a", 1.0, error="unreachable")]) == []
    assert verdict.words([Result("direct", down=1.0)]) == []


def test_what_had_no_answer_is_counted():
    assert "1 small message had no answer within 3 s." in words(result("a", 1.0, 10, unanswered=1))
