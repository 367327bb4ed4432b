"""Whether the server can be reached, by what is known of each lane."""

import pytest

from lane.carriers.reachability import OVERDUE, Asked, Outage, outage

WORKS = Asked("tls", True, 0.0, 0.0, "")
UNKNOWN = Asked("quic", None, 0.0, 0.0, "")


def dead(name="tls", unanswered=25.0, why="refused"):
    return Asked(name, False, unanswered, 0.0, why)


@pytest.mark.parametrize(
    "lanes",
    [
        [],
        [UNKNOWN],  # nobody asked
        [WORKS],
        [dead(), WORKS._replace(name="quic")],
        [WORKS._replace(unanswered=OVERDUE)],  # it may still answer
        [WORKS._replace(unanswered=OVERDUE + 2, patience=4.0)],  # a long way
        [UNKNOWN._replace(unanswered=OVERDUE), dead()],  # it is tried for the first time
    ],
)
def test_there_is_none_while_a_lane_works_or_may_answer(lanes):
    assert outage(lanes) is None


def test_it_lasts_since_the_last_lane_ceased_to_work():
    assert outage([dead("tls", 25.0), dead("quic", 20.0, "no answer")]) == Outage(
        20.0, "refused (tls); no answer (quic)"
    )


def test_a_lane_that_never_worked_has_a_reason():
    lanes = [UNKNOWN._replace(unanswered=3.0)]
    assert outage(lanes) == Outage(3.0, "no answer for 3 s (quic)")


def test_the_same_reason_is_said_once():
    assert outage([dead("tls"), dead("quic"), UNKNOWN._replace(name="other")]).reason == "refused (tls, quic)"
