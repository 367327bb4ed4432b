"""Counts that wait, in memory and in a file."""

import stat

from lane.users.unsent import PATTERN, Unsent


def test_counts_of_a_day_are_one_batch_until_it_is_sent(tmp_path):
    unsent = Unsent()
    unsent.add("1", {"anna": (1, 2)})
    unsent.add("1", {"anna": (1, 2), "bob": (5, 5)})
    (batch,) = unsent.batches
    assert batch.used == {"anna": (2, 4), "bob": (5, 5)}
    unsent.add("2", {"anna": (1, 2)})
    batch.sent = unsent.batches[1].sent = True
    unsent.add("2", {"anna": (9, 9)})
    assert [one.day for one in unsent.batches] == ["1", "2", "2"]
    assert len({one.name for one in unsent.batches}) == 3
    unsent.save()


def test_a_file_is_taken_over_once_its_process_has_ended(tmp_path):
    first = Unsent(tmp_path)
    first.add("1", {"Zoë": (1, 2)})
    first.save()
    first.save()
    (path,) = tmp_path.glob(PATTERN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Unsent(tmp_path).batches == []
    first._let_go()
    second = Unsent(tmp_path)
    assert [(one.name, one.used, one.sent) for one in second.batches] == [
        (first.batches[0].name, {"Zoë": (1, 2)}, True)
    ]
    assert Unsent(tmp_path).batches == []  # one heir
    second.save()
    assert len([*tmp_path.glob(PATTERN)]) == 1
    second.batches.clear()
    second.save()
    assert [*tmp_path.iterdir()] == []


def test_a_damaged_file_stops_nothing(tmp_path):
    (tmp_path / "usage-1.unsent").write_text("[[1")
    unsent = Unsent(tmp_path)
    assert unsent.batches == []
    unsent.save()
    assert [*tmp_path.iterdir()] == []
