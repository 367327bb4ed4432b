"""For how long a lane is not tried after it did worse, and which conditions are others than those."""

from hypothesis import given
from hypothesis import strategies as st

from lane.carriers.trial_backoff import BACKOFF, BACKOFF_MOST, LOSS, TrialBackoffs


def waits(*times):
    backoffs, seen = TrialBackoffs(), []
    for time in times:
        backoffs = backoffs.failed("a", time, 0.0, 1.0)
        seen.append(backoffs.of("a").until - time)
    return seen


def test_each_failure_doubles_up_to_a_limit():
    assert waits(*range(0, 4200, 600)) == [30, 60, 120, 240, 480, 600, 600]


def test_a_failure_long_ago_counts_no_more():
    last = BACKOFF + BACKOFF_MOST
    assert waits(0, last) == [BACKOFF, 2 * BACKOFF]
    assert waits(0, last + 1) == [BACKOFF, BACKOFF]


def test_what_makes_other_conditions():
    entry = TrialBackoffs().failed("a", 0.0, 0.02, 100.0).of("a")
    assert not entry.changed(0.06, 50.0, quiet=False)
    assert entry.changed(0.061, 50.0, quiet=False)
    assert entry.changed(0.02, 49.0, quiet=False)
    assert not entry.changed(0.02, None, quiet=False)
    assert entry.changed(0.0, None, quiet=True)
    clean = TrialBackoffs().failed("a", 0.0, 0.0, 100.0).of("a")
    assert not clean.changed(3 * LOSS, None, quiet=True)
    assert clean.changed(3 * LOSS + 0.001, None, quiet=True)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 100)), max_size=30))
def test_there_is_one_entry_for_a_lane(failures):
    backoffs, now = TrialBackoffs(), 0.0
    for lane, gap in failures:
        now += gap
        backoffs = backoffs.failed(lane, now, 0.0, 0.0)
        assert BACKOFF <= backoffs.of(lane).wait <= BACKOFF_MOST
    assert len(backoffs.entries) == len({lane for lane, _ in failures})
    assert backoffs.without("a").of("a") is None
