"""The memory of begun sessions that workers share."""

import pytest

from lane.server import begun
from lane.server.begun import Begun


def session(number):
    return number.to_bytes(16, "big")


def test_a_session_begins_once_in_all_workers():
    table = Begun(3, 60.0)
    assert table.begin(0, "user", session(1), 0)
    for worker in range(3):  # 0: a successor of the one that began it
        for generation in range(3):
            assert not table.begin(worker, "user", session(1), generation)
    assert table.begin(1, "another user", session(1), 0)
    assert table.begin(1, "a plugin's \udcff", session(1), 0)
    assert table.begin(1, "user", session(2), 3)  # a repeated request of which nobody has heard
    assert not table.begin(2, "user", session(2), 0)  # the first one, late


def test_a_table_that_forgets_too_early_says_so(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(begun, "monotonic", lambda: now)
    monkeypatch.setattr(begun, "BUCKETS", 1)
    table = Begun(2, 60.0)
    for number in range(begun.PLACES):
        assert table.begin(0, "user", session(number), 0)
    assert table.begin(1, "user", session(100), 1)
    assert table.begin(0, "user", session(101), 0)  # one is forgotten
    now += 59.0
    assert not table.begin(1, "user", session(102), 1)  # it might be that one
    assert table.begin(1, "user", session(103), 0)
    now += 2.0
    assert table.begin(1, "user", session(104), 1)


def test_old_entries_make_room(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(begun, "monotonic", lambda: now)
    monkeypatch.setattr(begun, "BUCKETS", 1)
    table = Begun(1, 100.0)
    for number in range(10 * begun.PLACES):
        now += 101.0 / begun.PLACES
        assert table.begin(0, "user", session(number), 1)


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_workers_at_once_one_begins_at_most(monkeypatch, first):
    """Whatever the order: each writes before it looks at the other's table."""
    table = Begun(2, 60.0)
    outcomes = []

    def at_once():
        if not outcomes:
            outcomes.append(None)
            outcomes.append(table.begin(1 - first, "user", session(1), 1))
        return 1000.0

    monkeypatch.setattr(begun, "monotonic", at_once)
    outcomes.append(table.begin(first, "user", session(1), 0))
    assert outcomes.count(True) <= 1


def test_what_a_dead_process_may_have_begun_is_not_begun_by_any_worker(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(begun, "monotonic", lambda: now)
    table = Begun(2, 60.0)
    table.lost(0)
    for worker in range(2):
        assert not table.begin(worker, "user", session(1), 1)
    assert table.begin(1, "user", session(2), 0)
    now += 61.0
    assert table.begin(1, "user", session(3), 1)
