"""What a session says: how long its stream did not take it, and figures that fit their fields."""

from math import inf, nan

import gevent
import pytest

from lane.session.liveness import Liveness
from lane.session.window import Budget, Inbox, Outbox
from lane.session.writer import Writer, _stats
from lane.stream import LinkStats


class Stream:
    """Takes what is written: at once, or after the event loop went around so often."""

    def __init__(self, rounds):
        self.rounds, self.taken = rounds, 0

    def sendall(self, data):
        for _ in range(self.rounds):
            gevent.sleep(0.001)
        self.taken += len(data)

    def reset(self, code=0):
        pass


@pytest.mark.parametrize("rounds", [0, 2])
def test_held_counts_what_was_not_taken_at_once(rounds):
    gevent.sleep(0.001)  # the event loop goes around
    budget = Budget(1 << 30)
    writer = Writer(Inbox(1 << 20, budget), Outbox(1 << 20, budget, 1 << 20), Liveness(), lambda *_: None)
    stream = Stream(rounds)
    writer.attach(stream, b"", resumed=False, announce=False)
    for _ in range(5):
        with writer.lock:
            writer.send(bytes(1000))
    assert stream.taken > 5000
    assert (writer.held > 0) == (rounds > 0)


@pytest.mark.parametrize(
    ("link", "told"),
    [
        (LinkStats(), (0, 0, 0)),
        (LinkStats(rtt=0.05, sent=10, lost=2), (50_000, 10, 2)),
        (LinkStats(rtt=1e9, sent=1 << 70, lost=-5), ((1 << 32) - 1, (1 << 64) - 1, 0)),
        (LinkStats(rtt=nan, sent=1), (0, 0, 0)),
        (LinkStats(rtt=inf), (0, 0, 0)),
        (LinkStats(sent=1.5, lost="x"), (0, 0, 0)),
    ],
)
def test_what_a_foreign_transport_counts_fits_its_field(link, told):
    found = _stats(link, 0.25)
    assert (found.rtt, found.sent, found.lost, found.held) == (*told, 250_000)
