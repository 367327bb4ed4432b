"""The numbers of several workers."""

import os

from lane.tally import CARRIERS, SESSIONS, Count, Tally, alone


def test_the_numbers_of_others():
    tally = Tally(3)
    first, second = Count(tally, 0, SESSIONS), Count(tally, 1, SESSIONS)
    first.put(5)
    second.put(7)
    Count(tally, 1, CARRIERS).put(100)
    assert (first.elsewhere(), second.elsewhere()) == (7, 5)
    assert tally.total(SESSIONS) == 12
    assert tally.get(1, CARRIERS) == 100
    assert not tally.stopping
    tally.stopping = True
    assert tally.stopping
    assert tally.total(SESSIONS) == 12


def test_a_process_alone():
    count = alone(SESSIONS)
    count.put(5)
    assert count.elsewhere() == 0


def test_other_processes_see_them():
    tally = Tally(2)
    pid = os.fork()
    if not pid:
        tally.put(1, SESSIONS, 3)
        os._exit(0)
    os.waitpid(pid, 0)
    assert Count(tally, 0, SESSIONS).elsewhere() == 3
