"""The rate of a crowd, on a line with a queue: found, shared out without many losses, and followed."""

import pytest
from lane_tls.crowd import Crowd

SECONDS, QUEUE = 0.4, 187_500


class Line:
    """A line that takes `rate` bytes a second, has a queue, and loses `loss` of all."""

    def __init__(self, rate, loss=0.0):
        self.rate, self.loss = rate, loss
        self.arrived = self.lost = self._waiting = 0

    def carry(self, crowd, looks, wanted=float("inf")):
        """Send what the crowd may, up to `wanted`. Returns the part of the line that was used, and lost."""
        self.arrived = self.lost = 0
        for _ in range(looks):
            sent = int(min(crowd.rate, wanted) * SECONDS)
            self._waiting += int(sent * (1 - self.loss))
            out = min(self._waiting, int(self.rate * SECONDS))
            kept = min(self._waiting - out, QUEUE)
            lost = sent - int(sent * (1 - self.loss)) + self._waiting - out - kept
            self._waiting = kept
            crowd.look(out, lost, SECONDS)
            self.arrived, self.lost = self.arrived + out, self.lost + lost
        return self.arrived / (self.rate * SECONDS * looks), self.lost / (self.arrived + self.lost)


@pytest.mark.parametrize("rate", [500_000, 3_750_000, 125_000_000])
def test_the_rate_is_found_in_a_few_looks_and_little_is_lost_from_then_on(rate):
    crowd, line = Crowd(1_000_000), Line(rate)
    line.carry(crowd, 10)
    assert not crowd.finding
    used, lost = line.carry(crowd, 50)
    assert used > 0.95
    assert lost < 0.04


def test_a_line_that_loses_at_any_rate_is_used():
    crowd, line = Crowd(1_000_000), Line(3_750_000, loss=0.1)
    line.carry(crowd, 20)
    assert line.carry(crowd, 50)[0] > 0.9


@pytest.mark.parametrize("factor", [0.2, 5])
def test_a_line_that_changes_is_followed(factor):
    crowd, line = Crowd(1_000_000), Line(3_750_000)
    line.carry(crowd, 30)
    line.rate *= factor
    line.carry(crowd, 25)
    used, lost = line.carry(crowd, 50)
    assert used > 0.93
    assert lost < 0.04


def test_a_line_that_was_cut_off_is_used_at_once():
    crowd, line = Crowd(1_000_000), Line(3_750_000)
    line.carry(crowd, 30)
    for _ in range(10):
        crowd.look(0, 100_000, SECONDS)
    assert line.carry(crowd, 5)[0] > 0.9


def test_a_rate_that_nobody_uses_ends_the_beginning():
    crowd, line = Crowd(1_000_000), Line(125_000_000)
    line.carry(crowd, 10, wanted=100_000)
    assert not crowd.finding
    assert not crowd.full
