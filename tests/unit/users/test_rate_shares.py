"""The parts of a rate that servers get, on a clock of the test's own."""

import pytest

from lane.users import rate_shares as module
from lane.users.rate_shares import HELD, REST, RateShares, Use
from tests.support.clock import FakeClock

RATES = {"Zoë 🎉": 1000.0}
(NAME,) = RATES
EAGER, IDLE = Use(0, 500, False, True), Use(0, 0, False, False)


class Servers:
    """Servers that hear each other, each of one process or of several, given as `server/process`."""

    def __init__(self, *processes):
        self.clock, self.told, self.away = FakeClock(), {}, False
        self.shares = {name: RateShares(name.partition("/")[0], self.clock) for name in processes}

    def round(self, seconds=0.5, **uses):
        """The parts down of all processes, after they have said what they want and heard the others."""
        self.clock.now += seconds
        for name, shares in self.shares.items():
            self.told[name] = shares.wants({NAME: uses.get(name.replace("/", "_"), IDLE)}, RATES)
        found = []
        for shares in self.shares.values():
            if not self.away:
                shares.hear(self.told)
            found.append(round(shares.parts(RATES)[NAME][1], 3))
        return found


def test_those_who_want_all_get_equal_parts_and_an_idle_one_gives_its_part_at_once():
    servers = Servers("one", "two", "three")
    assert servers.round() == [1, 1, 1]
    assert servers.round(one=EAGER) == [1, REST, REST]
    assert servers.round(one=EAGER, two=EAGER) == [0.5, 0.5, REST]
    assert servers.round(one=EAGER, two=EAGER, three=EAGER) == [0.333] * 3
    assert servers.round(two=EAGER) == [REST, 1, REST]


def test_who_wants_little_gets_that_and_the_sum_is_the_rate():
    servers = Servers("one", "two")
    little = Use(0, 100, False, False)  # 200 bytes a second
    assert servers.round(one=EAGER, two=little) == [0.7, 0.3]
    assert servers.round(one=little, two=little) == [0.5, 0.5]


def test_the_processes_of_a_server_are_one_and_directions_are_apart():
    servers = Servers("one/1", "one/2", "two/1")
    assert servers.round(one_1=EAGER, one_2=EAGER, two_1=EAGER) == [0.5] * 3
    assert servers.shares["one/1"].parts(RATES)[NAME][0] == 1


def test_those_who_cannot_be_heard_count_as_they_were_and_then_all_are_equal():
    servers = Servers("one", "two", "three")
    servers.round(one=EAGER, two=EAGER)
    servers.away = True
    assert servers.round(HELD - 0.1, one=EAGER) == [0.5, 0.5, REST]
    assert servers.round(0.2, one=EAGER) == [0.333] * 3
    servers.away = False
    assert servers.round(one=EAGER) == [1, REST, REST]


def test_a_process_tells_of_a_limited_number_of_users(monkeypatch):
    monkeypatch.setattr(module, "MOST_TOLD", 10)
    names = [str(number) for number in range(20)]
    rates = dict.fromkeys(names, 1000.0)
    shares = RateShares("one", FakeClock())
    wants = shares.wants(dict.fromkeys(names, EAGER), rates)
    assert len(wants) == 10
    shares.hear({"one/1": wants, "two/1": dict.fromkeys(names, (1000.0, 1000.0))})
    assert [part for part, _ in shares.parts(rates).values()] == [pytest.approx(REST)] * 20
