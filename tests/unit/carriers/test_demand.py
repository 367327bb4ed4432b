"""How many spares stand by: from the times at which sessions begin."""

from hypothesis import given
from hypothesis import strategies as st

from lane.carriers.demand import COVER, HALF_LIFE, IDLE, MOST, Demand


def after(*times):
    demand = Demand()
    for time in times:
        demand.note(time)
    return demand


def test_nobody_calls_for_none():
    assert Demand().spares(0.0) == Demand().spares(1e6) == 0


def test_one_session_calls_for_one_until_it_was_long_ago():
    demand = after(100.0)
    assert demand.spares(100.0) == COVER
    assert demand.spares(100.0 + IDLE) == 1
    assert demand.spares(100.0 + IDLE + 0.001) == 0


def test_many_at_once_call_for_more_at_once():
    assert after(*[100.5] * 10).spares(100.5) == 10 * COVER


def test_a_rate_calls_for_what_begins_in_a_second():
    demand = after(*(100 + number / 18 for number in range(900)))  # 18 a second
    assert 17 * COVER < demand.spares(150.0) <= 19 * COVER


def test_a_burst_fades():
    demand = after(*[100.0] * 16)
    assert [demand.spares(100.0 + HALF_LIFE * k) for k in range(4)] == [48, 24, 12, 6]


def test_a_small_burst_does_not_hide_a_large_one():
    demand = after(*[100.0] * 10, 110.0)
    assert demand.spares(110.0) == 24  # 3 * 10 * 2 ** (-10 / 30), rounded up


def test_there_is_a_limit():
    assert after(*[5.0] * 1000).spares(5.0) == MOST


@given(st.lists(st.floats(0, 200), max_size=200), st.lists(st.floats(0, 400), max_size=10))
def test_the_number_is_always_within_bounds(gaps, looks):
    demand, now = Demand(), 0.0
    for gap in gaps:
        now += gap
        demand.note(now)
        assert 1 <= demand.spares(now) <= MOST
    for look in sorted(looks):
        assert 0 <= demand.spares(now + look) <= MOST
        assert bool(demand.spares(now + look)) == (bool(gaps) and now + look - now <= IDLE)
