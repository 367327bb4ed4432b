"""What a start learns of the line's loss."""

from types import SimpleNamespace

import pytest
from lane_quic.congestion import Sample
from lane_quic.congestion.bbr import Bbr, BbrState

SIZE = 1200


def rounds(control, count, delivered, lost):
    """Rounds of 50 packets that arrive, after what earlier paths had."""
    for n in range(1, count + 1):
        acked = [SimpleNamespace(sent_bytes=SIZE, sent_time=n * 0.05)] * 50
        sample = Sample((n + 1) * 0.05, acked=acked, rtt=0.05, rate=1e6 * 2**n, round_delivered=delivered)
        delivered += 50 * SIZE
        sample.delivered, sample.lost, sample.in_flight = delivered, lost, 50 * SIZE
        control.on_sample(sample)
    assert control.state is BbrState.START


@pytest.mark.parametrize("lost", [10**8, 10**9])
def test_the_losses_of_the_path_before_a_migration_are_not_those_of_the_new_one(lost):
    control = Bbr(SIZE, 1)
    rounds(control, 3, delivered=10**9, lost=lost)
    assert control.line_loss == 0
