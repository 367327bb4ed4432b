"""When round trips show a queue. Too early, BBR begins at a fraction of the rate; too late, it floods."""

import pytest
from lane_quic.congestion.queue_sign import QUIET, RECENT, QueueSign


@pytest.mark.parametrize(
    ("quiet", "recent", "shows"),
    [
        ([], 0.062, True),
        ([], 0.058, False),
        ([0.05, 0.051, 0.05, 0.2, 0.3], 0.062, True),  # a busy machine answered two of them late
        ([0.05, 0.06, 0.07, 0.08, 0.09], 0.105, False),
        ([0.05, 0.06, 0.07, 0.08, 0.09], 0.115, True),
        ([0.09] * 5 + [0.05] * QUIET, 0.062, True),  # the first ones are forgotten
    ],
)
def test_a_queue_exceeds_the_jitter_of_a_quiet_time(quiet, recent, shows):
    sign = QueueSign()
    for rtt in quiet:
        sign.take_quiet(rtt)
    for _ in range(RECENT):
        assert not sign.shows(0.05)
        sign.take(recent)
    assert sign.shows(0.05) is shows
    sign.take(0.05)
    assert not sign.shows(0.05)
