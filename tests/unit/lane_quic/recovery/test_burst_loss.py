"""Which losses show that bursts are too long: a wrong verdict costs a wake-up for each packet, or packets."""

from types import SimpleNamespace

import pytest
from lane_quic.recovery.burst_loss import LOSSES, ROUND_LOSSES, SPAN, BurstLoss

RTT = 0.05
BURST = 8


def judge(places, rounds=40, every=1):
    """Lose the packets at `places` of one burst in each round trip, and none of `every` - 1 further ones."""
    judged, number = BurstLoss(), 0
    said = []
    for turn in range(rounds):
        state = (0, 0.0, 0.0, False, number + (BURST - 1) / 2)
        lost = [SimpleNamespace(packet_number=number + place, sent_state=state) for place in places]
        said.append(judged.note(lost, 1 + turn * 1.1 * RTT, RTT))
        number += BURST * every
    return any(said)


@pytest.mark.parametrize(
    ("places", "too_long"),
    [([4, 5, 6, 7], True), ([5], False), ([0, 1, 2, 3], False), (range(8), False), ([1, 3, 5, 7], False)],
)
def test_the_ends_of_bursts_must_be_lost_again_and_again(places, too_long):
    assert judge(places) is too_long


def test_a_queue_that_overflows_now_and_then_is_not_too_short():
    rare = SPAN // (LOSSES // 8) // BURST
    assert judge([4, 5, 6, 7], rounds=100, every=rare) is False


def test_one_long_overflow_is_no_proof():
    assert judge([4, 5, 6, 7] * LOSSES, rounds=LOSSES // ROUND_LOSSES - 1) is False
    assert judge([4, 5, 6, 7] * LOSSES, rounds=LOSSES // ROUND_LOSSES) is True
