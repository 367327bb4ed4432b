"""Transfers in both directions: neither starves, though their ACKs wait in each other's queue."""

import pytest
from lane_quic.congestion.bbr import Bbr
from lane_quic.congestion.both_ways import ACKS, TRANSFER, BothWays
from lane_quic.congestion.line_loss import LineLoss

from tests.support.quic_link import SIZE, Clock, both_ways


@pytest.mark.parametrize(
    ("sent", "received", "ours"),
    [
        (1000, 1000, 0.5),
        (300, 900, 0.25),
        (0, 900, 0.0),
        (1000, int(1000 * ACKS), 1.0),  # ACKs
        (10, TRANSFER - 1, 1.0),  # few packets: an exchange
        (1000, 0, 1.0),
    ],
)
def test_a_queue_is_ours_by_what_we_send(sent, received, ours):
    ways = BothWays(SIZE)
    ways.end_round(70 * SIZE, 5000 * SIZE)  # of another path: its controller was another one
    assert ways.ours == 1.0
    ways.end_round((70 + sent) * SIZE, (5000 + received) * SIZE)
    assert ways.ours == pytest.approx(ours)
    assert ways.at_once == (ours < 1)
    ways.end_round((70 + 2 * sent) * SIZE, (5000 + received) * SIZE)
    assert not ways.at_once


@pytest.mark.parametrize("drained", [0, 49, 50, 100])
def test_the_line_loses_no_more_than_while_sending_slowly(drained):
    loss = LineLoss(SIZE)
    loss._drained_sent, loss._drained_lost = drained, drained * 0.08
    for _ in range(50):
        loss.assume(0.12)
    assert loss.value == pytest.approx(0.08 if drained >= 50 else 0.0, abs=1e-3)
    loss.assume(0.0)
    assert loss.value == pytest.approx(0.08 if drained >= 50 else 0.0, abs=1e-3)


@pytest.mark.bulk  # the tracer would make them take minutes
@pytest.mark.parametrize(
    ("seed", "starts", "link", "least"),
    [
        (8, (0, 3), {"mbit": 100, "rtt": 0.2, "loss": 0.01}, 0.85),
        (1, (0, 3), {}, 0.85),
        (2, (0, 0), {"loss": 0.1}, 0.70),
    ],
)
def test_neither_direction_takes_the_queue_of_the_other_for_its_own(seed, starts, link, least):
    """With these seeds the slower one had 0.18, 0.72 and 0.59 of the line before."""
    clock = Clock(seed)
    flows = both_ways(clock, [Bbr(SIZE, seed), Bbr(SIZE, seed + 1)], starts, **link)
    clock.run(max(starts) + 2)
    before = [flow.received for flow in flows]
    clock.run(clock.now + 8)
    line = 8 * flows[0].link.rate / (SIZE + 28)
    assert min(flow.received - had for flow, had in zip(flows, before, strict=True)) > least * line
