import os

import pytest

from lane.admin import cleared
from lane.admin.cleared import Cleared
from lane.admin.web import Refusal


def test_counts_begin_anew_and_nothing_is_lost_or_counted_twice():
    counts = Cleared()
    assert counts.since({"a": (10, 1), "b": (0, 0)}, clear=False) == {"a": (10, 1)}
    assert counts.since({"a": (10, 1)}, clear=True) == {"a": (10, 1)}
    assert counts.since({"a": (10, 1)}, clear=False) == {}
    assert counts.since({"a": (15, 1), "c": (1, 1)}, clear=True) == {"a": (5, 0), "c": (1, 1)}
    assert counts.since({"a": (2, 1)}, clear=False) == {"a": (2, 1)}  # forgotten, and counted anew


def test_two_processes_share_them():
    counts = Cleared()
    if not (pid := os.fork()):
        counts.since({"a": (10, 1)}, clear=True)
        os._exit(0)
    os.waitpid(pid, 0)
    assert counts.since({"a": (11, 1)}, clear=True) == {"a": (1, 0)}


def test_a_worker_that_hangs_in_it_is_an_error_after_a_while(monkeypatch):
    monkeypatch.setattr(cleared, "PATIENCE", 0.1)
    counts = Cleared()
    ours, theirs = os.pipe()
    told, tell = os.pipe()
    if not (pid := os.fork()):
        counts._enter()
        os.write(tell, b".")
        os.read(ours, 1)
        os._exit(0)
    os.read(told, 1)
    with pytest.raises(Refusal, match="another request clears the counts"):
        counts.since({}, clear=True)
    os.write(theirs, b".")
    os.waitpid(pid, 0)
    assert counts.since({}, clear=True) == {}
    for fd in (ours, theirs, told, tell):
        os.close(fd)
