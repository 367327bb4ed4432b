"""What a start learns of the line's loss, and that a flood stops neither it nor the sender."""

from types import SimpleNamespace

import pytest
from lane_quic.congestion import Sample
from lane_quic.congestion.bbr import Bbr, BbrState

SIZE = 1200


def rounds(control, count, delivered=0, lost=0, *, losing=0, rate=1e6):
    """Rounds of 50 packets that arrive and `losing` that do not, after what earlier paths had."""
    for n in range(1, count + 1):
        acked = [SimpleNamespace(sent_bytes=SIZE, sent_time=n * 0.05)] * 50
        sample = Sample((n + 1) * 0.05, acked=acked, rtt=0.05, rate=rate * 2**n, round_delivered=delivered)
        delivered, lost = delivered + 50 * SIZE, lost + losing * SIZE
        sample.delivered, sample.lost, sample.in_flight = delivered, lost, 50 * SIZE
        control.on_sample(sample)
    assert control.state is BbrState.START


@pytest.mark.parametrize("lost", [10**8, 10**9])
def test_the_losses_of_the_path_before_a_migration_are_not_those_of_the_new_one(lost):
    control = Bbr(SIZE, 1)
    rounds(control, 3, delivered=10**9, lost=lost)
    assert (control.line_loss, control._loss.flooded) == (0.0, False)


def test_a_flood_of_which_no_rate_is_known_leaves_some_pacing():
    control = Bbr(SIZE, 1)
    rounds(control, 3, losing=150, rate=0.0)
    assert control._loss.flooded
    assert 0 < control.pacing_rate < 100 * SIZE
