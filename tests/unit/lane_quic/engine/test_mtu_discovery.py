"""The search for the size of packets: whatever a path carries is found, and a black hole left at once."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lane_quic.engine.mtu_discovery import CLOSE, PROBES, RAISE_AFTER, MtuSearch


def search(size, passes, now=0.0, most=200):
    """Probe until nothing is left to try: how many probes that took."""
    for number in range(most):
        if (probe := size.probe(now)) is None:
            return number
        assert size.probe(now) is None, "one at a time"
        size.probed(probe, arrived=passes(probe))
    raise AssertionError("the search does not end")


@given(st.integers(1200, 1500))
def test_what_a_path_carries_is_found(mtu):
    size = MtuSearch()
    probes = search(size, lambda probe: probe <= mtu)
    assert min(mtu, 1452) - CLOSE <= size.current <= mtu
    assert probes <= 5 * PROBES
    assert mtu < 1452 or probes == 1


@given(st.lists(st.booleans(), min_size=60, max_size=60))
def test_random_losses_end_the_search_too(fates):
    fate = iter(fates)
    size = MtuSearch()
    search(size, lambda probe: next(fate))
    assert 1200 <= size.current <= 1452


def test_a_search_that_ended_below_the_most_begins_anew_after_a_while():
    size = MtuSearch()
    search(size, lambda probe: probe <= 1300)
    assert size.probe(5.0) is None
    assert size.probe(RAISE_AFTER - 1) is None
    search(size, lambda probe: True, now=RAISE_AFTER + 1)
    assert size.current == 1452
    for now in count(RAISE_AFTER, 10 * RAISE_AFTER):
        assert size.probe(now) is None, "there is nothing more to find"
        if now > 1e6:
            break


def test_a_black_hole_is_left_at_once_and_measured_anew():
    size = MtuSearch()
    search(size, lambda probe: True)
    assert size.black_hole()
    assert size.current == 1200
    assert not size.black_hole(), "there is nothing smaller"
    search(size, lambda probe: probe <= 1300)
    assert 1300 - CLOSE <= size.current <= 1300


def test_a_probe_of_an_earlier_search_tells_nothing():
    size = MtuSearch()
    search(size, lambda probe: probe <= 1400)
    late = size.current
    size.black_hole()
    size.probed(late, arrived=True)
    assert size.current == 1200


def test_what_is_lost_while_nothing_arrives_does_not_count():
    size = MtuSearch()
    for _ in range(10 * PROBES):
        assert size.probe(0.0) == 1452
        size.postpone(1452)
    search(size, lambda probe: True)
    assert size.current == 1452


@pytest.mark.parametrize("base", [1452, 1500])
def test_where_there_is_nothing_to_find(base):
    size = MtuSearch(base)
    assert size.probe(0.0) is None
    assert not size.black_hole()
    assert size.current == base
