from types import SimpleNamespace

from lane.server.carriers import Carriers
from lane.server.numbers import ROUND_TRIPS, Histogram, Numbers
from lane.stream import LinkStats


class Carrier(SimpleNamespace):
    __hash__ = object.__hash__

    def __init__(self):
        self.link = LinkStats()

    def stats(self):
        return self.link


def test_what_links_lose_is_counted_while_they_live_and_when_they_end():
    numbers = Numbers()
    carriers = Carriers(numbers)
    one, other = Carrier(), Carrier()
    carriers.add(one, "quic")
    carriers.add(other, "quic")
    one.link = LinkStats(sent=1000, lost=10, rtt=0.03)
    other.link = LinkStats(sent=100)
    carriers.look_at_all()
    carriers.look_at_all()  # nothing more was sent
    one.link = LinkStats(sent=1500, lost=5, rtt=0.3)  # some were not lost after all
    carriers.remove(one)
    assert numbers.sent == {("quic",): 1600}
    assert numbers.lost == {("quic",): 10}
    assert numbers.handshakes == {("quic",): 2}
    histogram = numbers.round_trips["quic",]
    assert sum(histogram.counts) == 2
    assert round(histogram.sum, 6) == 0.33
    assert carriers.by_transport == {"quic": 1}
    assert (one in carriers, carriers.known(one).transport, carriers.known(other).transport) == (
        False,
        "",
        "quic",
    )


def test_a_carrier_without_figures_counts_too():
    numbers = Numbers()
    carriers = Carriers(numbers)
    broken = Carrier()
    broken.stats = None  # a fault of a plugin
    carriers.add(broken, "other")
    carriers.remove(broken)
    assert (numbers.sent, numbers.handshakes) == ({}, {("other",): 1})


def test_values_on_a_bound_are_below_it_and_the_last_bucket_has_no_bound():
    histogram = Histogram(ROUND_TRIPS)
    for value in (0.0, 0.001, 0.0011, 2.0, 9.0):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
