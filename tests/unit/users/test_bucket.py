"""The budget of a rate: its arithmetic on a clock of the test's, and how several processes share it."""

import random

import pytest

from lane.users import bucket as module
from lane.users.bucket import DEPTH, LATE, LEAST_DEPTH, PLACES, RESTED, Bucket, Shared


def moved(bucket, rate, size, seconds, now=1000.0):
    """Bytes that go in that time, in pieces of `size`, as early as they may."""
    end, total = now + seconds, 0
    while now < end:
        wait = bucket.wait(now, rate)
        if not wait:
            bucket.spend(size, rate)
            total += size
        now += wait
    return total


@pytest.mark.parametrize("rate", [8e3, 125e3, 1.25e6, 125e6])
@pytest.mark.parametrize("size", [1460, 20000])
def test_the_rate_is_kept_and_a_pause_gives_no_burst_beyond_the_depth(rate, size):
    bucket = Bucket()
    depth = max(DEPTH * rate, LEAST_DEPTH)
    seconds = 10 if rate < 1e8 else 1
    for begin in (1000.0, 5000.0):
        total = rate * seconds
        assert total - size <= moved(bucket, rate, size, seconds, begin) <= total + depth + 2 * size


def test_a_change_of_the_rate_holds_from_then_on():
    bucket = Bucket()
    moved(bucket, 1e6, 1000, 10, 1000.0)
    assert moved(bucket, 1e4, 1000, 10, 1010.0) == pytest.approx(1e5, rel=0.05)
    assert moved(bucket, 1e7, 1000, 10, 1020.0) == pytest.approx(1e8, rel=0.05)


def test_what_could_not_go_when_it_was_due_goes_later_and_no_more_than_that():
    bucket, now = Bucket(), 1000.0
    bucket.wait(now, 1e6)
    bucket.spend(DEPTH * 1e6, 1e6)
    gone = 0
    while not bucket.wait(now + 10, 1e6, late=True):
        bucket.spend(1000, 1e6)
        gone += 1000
    assert gone == pytest.approx(LATE * 1e6, abs=1001)


def test_workers_keep_to_one_rate_together(monkeypatch):
    shared, now, sizes = Shared(3), 1000.0, [0, 0, 0]
    buckets = [shared.bucket("ann", worker) for worker in range(3)]
    dice = random.Random(1)
    while now < 1010.0:
        worker = dice.choice([0, 0, 0, 1, 1, 2])
        if not buckets[worker].wait(now, 1e6):
            buckets[worker].spend(5000, 1e6)
            sizes[worker] += 5000
        now += 0.0001
    assert 1e7 <= sum(sizes) <= 1e7 * (1 + DEPTH / 10) + 15000
    assert all(sizes)


def test_what_two_spend_in_the_same_instant_is_owed_afterwards():
    shared = Shared(2)
    first, second = (shared.bucket("ann", worker) for worker in range(2))
    assert (first.wait(1000.0, 1e6), second.wait(1000.0, 1e6)) == (0, 0)
    for bucket in (first, second):
        bucket.spend(100_000, 1e6)
    assert first.wait(1000.0, 1e6) == second.wait(1000.0, 1e6) == pytest.approx(0.2 - DEPTH)


def test_users_at_rest_make_place_for_others_and_nobody_else_does(monkeypatch):
    monkeypatch.setattr(module, "BUCKETS", 1)
    shared = Shared(2)
    now = 1000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)

    def use(name):
        bucket = shared.bucket(name, 1)
        bucket.wait(now, 1e6)
        bucket.spend(1000, 1e6)
        return bucket

    buckets = [use(f"user {number}") for number in range(PLACES)]
    assert shared.bucket("late", 0) is None
    now += RESTED + DEPTH + 0.1
    for number in range(1, PLACES):
        use(f"user {number}")
    assert not any(bucket.lost for bucket in buckets)
    late = use("late")
    assert [bucket.lost for bucket in (*buckets, late)] == [True, *[False] * PLACES]
    assert shared.bucket("user 0", 0) is None


def test_a_name_that_is_no_text_of_unicode_has_a_bucket():
    assert Shared(1).bucket("\udcff", 0) is not None
