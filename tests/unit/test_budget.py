"""A budget and the shares of its users: whoever takes all he can leaves enough for the others."""

from hypothesis import given
from hypothesis import strategies as st

from lane.budget import Budget, Share

TOTAL = 1 << 30


def grab(share, size):
    """Take until nothing more is to be had: how much."""
    before = share.used
    while share.take(size):
        pass
    while share.take_most(size):
        pass
    return share.used - before


def test_one_who_takes_all_leaves_half_and_the_next_a_quarter():
    whole = Budget(TOTAL)
    one, two, three = (Share(whole) for _ in range(3))
    grab(one, 1 << 16)
    assert one.used <= TOTAL / 2
    grab(two, 1 << 16)
    assert two.used <= TOTAL / 4
    assert three.take(1 << 20)
    assert whole.used == one.used + two.used + three.used


def test_one_alone_gets_nearly_half():
    whole = Budget(TOTAL)
    assert grab(Share(whole), 1 << 16) > 0.45 * TOTAL


def test_what_is_given_back_is_there_for_all():
    whole = Budget(TOTAL)
    one, two = Share(whole), Share(whole)
    grab(one, 1 << 16)
    one.give(one.used)
    assert (one.used, whole.used) == (0, 0)
    assert grab(two, 1 << 16) > 0.45 * TOTAL


def test_there_is_plenty_only_while_the_user_has_left_some():
    whole = Budget(TOTAL)
    one, two = Share(whole), Share(whole)
    grab(one, 1 << 16)
    assert not one.plenty
    assert two.plenty


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, TOTAL), st.booleans()), max_size=60))
def test_no_share_is_larger_than_what_is_left_and_the_sum_is_right(steps):
    whole = Budget(TOTAL)
    shares = [Share(whole) for _ in range(4)]
    for number, size, back in steps:
        share = shares[number]
        if back:
            share.give(min(size, share.used))
            continue
        before = share.used
        share.take(size)
        share.take_most(size)
        assert share.used == before or share.used <= TOTAL - whole.used
    assert whole.used == sum(share.used for share in shares)
