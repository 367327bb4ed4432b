"""Places by address: who loses his, and that nobody keeps the others out."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lane.net.places import Places, network


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("memory", "memory"),
        ("", ""),
    ],
)
def test_what_an_address_is_counted_as(host, counted):
    assert network(host) == counted


def test_who_fills_the_places_loses_them_himself():
    places = Places(4)
    assert places.enter("honest", "192.0.2.1") is None
    lost = [places.enter(number, f"2001:db8::{number:x}") for number in range(6)]
    assert lost == [None, None, None, 0, 1, 2]
    assert "honest" in places
    assert len(places) == 4


def test_a_newcomer_takes_the_place_of_the_fullest_address():
    places = Places(3)
    for guest, host in (("b", "192.0.2.2"), ("a1", "192.0.2.1"), ("a2", "192.0.2.1")):
        places.enter(guest, host)
    assert places.enter("c", "192.0.2.3") == "a1"
    assert places.enter("d", "192.0.2.4") == "b"  # all have as many: who is there for longest


def alone(name):
    """Nobody is elsewhere."""
    return 0


def test_who_came_first_of_all_and_of_the_address_with_the_fewest():
    places = Places(8)
    assert places.oldest() is places.oldest_of_fewest(alone) is None
    for guest, host in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("c1", "c"), ("b2", "b"), ("a3", "a")):
        places.enter(guest, host)
    found = []
    while (guest := places.oldest_of_fewest(alone)) is not None:
        found.append(guest)
        places.leave(guest)
    assert found == ["c1", "b1", "b2", "a1", "a2", "a3"]
    for guest, host in (("a1", "a"), ("b1", "b"), ("a2", "a")):
        places.enter(guest, host)
    assert places.oldest() == "a1"
    assert places.oldest_of_fewest(alone) == "b1"
    assert places.oldest_of_fewest({"a": 0, "b": 2}.__getitem__) == "a1"


def test_who_has_said_nothing_goes_first():
    places = Places(3)
    for guest in "abc":
        places.enter(guest, "192.0.2.1")
    places.speaks("a")
    assert places.oldest_of("192.0.2.1") == "b"
    assert places.enter("d", "192.0.2.1") == "b"
    places = Places(2)
    for number, guest in enumerate("ab"):
        places.enter(guest, f"192.0.2.{number}")
    places.speaks("a")
    assert places.enter("c", "192.0.2.3") == "b"
    places.speaks("c")
    assert places.enter("d", "192.0.2.4") == "a"


def test_leaving_is_once_and_forgets_the_address():
    places = Places(2)
    places.enter("a", "192.0.2.1")
    assert (places.leave("a"), places.leave("a")) == (True, False)
    assert places.oldest_of("192.0.2.1") is None
    places.speaks("a")
    assert (len(places), places._networks, places._ranks, places._top) == (0, {}, {}, 0)


STEPS = st.tuples(st.sampled_from(["enter", "speaks", "leave"]), st.integers(0, 5), st.integers(0, 20))


@given(st.lists(STEPS))
def test_whatever_happens(steps):
    """The bound holds, and who loses his place is of a network that had the most."""
    places, there, speaking = Places(5), {}, set()
    for what, address, guest in steps:
        if what == "leave":
            assert places.leave(guest) == (there.pop(guest, None) is not None)
        elif what == "speaks":
            places.speaks(guest)
            speaking.add(guest)
        elif guest not in there:
            speaking.discard(guest)
            before = Counter(there.values())
            lost = places.enter(guest, f"192.0.2.{address}")
            there[guest] = address
            if lost is not None:
                from_there = there.pop(lost)
                assert before[from_there] == max(before.values())
                candidates = [one for one in there if there[one] == from_there and one != guest]
                assert lost not in speaking or all(one in speaking for one in candidates)
        assert list(places) == list(there)
        assert len(places) <= 5
