"""What was reached lately: for a while, bounded, and nothing that an application names stands for UDP."""

import pytest

from lane.address import Address
from lane.carriers import recent_targets as module
from lane.carriers.connector import Targets
from lane.carriers.recent_targets import LIFE, MOST, RecentTargets


@pytest.fixture
def clock(monkeypatch, throttled):
    monkeypatch.setattr(module, "monotonic", throttled)
    return throttled


def test_a_success_counts_for_a_while(clock):
    reached, target = RecentTargets(), Address("example.com", 443)
    reached.note(target, True)
    assert Address("example.com", 80) not in reached
    clock.now += LIFE - 1
    assert target in reached
    clock.now += 2
    assert target not in reached
    reached.note(target, True)
    reached.note(target, False)
    assert target not in reached


def test_the_one_that_was_not_reached_for_longest_is_forgotten(clock):
    reached = RecentTargets()
    for port in (*range(MOST), 0, *range(MOST, MOST + 10)):
        reached.note(Address("example.com", port), True)
    assert len(reached) == MOST
    assert [port for port in range(12) if Address("example.com", port) in reached] == [0, 11]


@pytest.mark.parametrize("host", ["*", "", "UDP", "Targets.UDP"])
def test_no_target_is_taken_for_all_of_udp(host):
    reached = RecentTargets()
    reached.note(Address(host, 0), True)
    assert Targets.UDP not in reached
    reached.note(Targets.UDP, True)
    reached.note(Address(host, 0), False)
    assert Targets.UDP in reached
    assert str(Targets.UDP) == "UDP"
