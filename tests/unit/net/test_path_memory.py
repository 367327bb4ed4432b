"""What is remembered of paths: by network, for a time, so many, and by one at a time."""

import pytest

from lane.net.path_memory import LIFETIME, PathFigures, PathMemory


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def memory(clock):
    return PathMemory(clock, most=8)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::2:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_a_peer_is_known_by_its_network(memory, one, other, same):
    memory.to(one).learn(1e6, 0.1, 0.0)
    assert (memory.to(other).figures is not None) is same


def test_figures_age_out(memory, clock):
    path = memory.to("192.0.2.1")
    path.learn(1e6, 0.1, 0.01)
    assert path.figures == PathFigures(1e6, 0.1, 0.01, 100.0)
    clock.now += LIFETIME
    assert path.figures is not None
    clock.now += 1
    assert path.figures is None
    assert memory.census() == {"paths": 0}


def test_figures_that_are_brought_back_are_as_old_as_before(memory, clock):
    path = memory.to("192.0.2.1")
    path.learn(1e6, 0.1, 0.0)
    clock.now += LIFETIME - 1
    path.bring_back(path.take())
    path.learn(5e5, 0.1, 0.02, least=True)
    assert path.figures == PathFigures(1e6, 0.1, 0.02, 100.0)
    clock.now += 2
    assert path.figures is None


def test_one_connection_at_a_time_takes_them(memory):
    memory.to("192.0.2.1").learn(1e6, 0.1, 0.0)
    assert memory.to("192.0.2.1").take() is not None
    assert memory.to("192.0.2.1").take() is None


def test_new_figures_replace_older_ones_unless_they_are_a_lower_bound(memory):
    path = memory.to("192.0.2.1")
    path.learn(1e6, 0.1, 0.0)
    path.learn(2e6, 0.1, 0.0, least=True)
    assert path.figures.rate == 2e6
    path.learn(1e6, 0.1, 0.0, least=True)
    assert path.figures.rate == 2e6
    path.learn(1e6, 0.1, 0.0)
    assert path.figures.rate == 1e6


def test_an_unknown_loss_leaves_the_known_one(memory):
    path = memory.to("192.0.2.1")
    path.learn(1e6, 0.1)
    assert path.figures.loss == 0.0
    path.learn(1e6, 0.1, 0.02)
    path.learn(3e6, 0.1)
    assert path.figures[:3] == (3e6, 0.1, 0.02)


def test_the_table_is_bounded_and_drops_what_was_learnt_longest_ago(memory):
    for number in range(8):
        memory.to(f"192.0.2.{number}").learn(1e6, 0.1, 0.0)
    memory.to("192.0.2.0").learn(2e6, 0.1, 0.0)
    for number in range(100, 107):
        memory.to(f"192.0.2.{number}").learn(1e6, 0.1, 0.0)
    assert memory.census() == {"paths": 8}
    assert memory.to("192.0.2.0").figures is not None
    assert memory.to("192.0.2.1").figures is None


def test_another_network_forgets_all_of_them(memory):
    memory.to("192.0.2.1").learn(1e6, 0.1, 0.0)
    memory.clear()
    assert memory.to("192.0.2.1").figures is None


def test_what_is_dumped_is_restored_at_its_age(memory, clock):
    memory.to("192.0.2.1").learn(1e6, 0.1, 0.01)
    clock.now += 10
    memory.to("192.0.2.2").learn(2e6, 0.2)
    other = PathMemory(Clock(), most=8)
    other.clock.now = 5000.0
    for row in memory.dump():
        other.restore(*row)
    assert other.to("192.0.2.1").figures == PathFigures(1e6, 0.1, 0.01, 4990.0)
    assert other.to("192.0.2.2").figures == PathFigures(2e6, 0.2, 0.0, 5000.0)


def test_what_is_restored_replaces_nothing_newer(memory):
    memory.restore("net", 1e6, 0.1, 0.0, 10.0)
    memory.restore("net", 2e6, 0.1, 0.0, 20.0)
    memory.restore("net", 3e6, 0.1, 0.0, 5.0)
    assert memory.find("net").rate == 3e6


@pytest.mark.parametrize(
    "row",
    [
        ("net", 0.0, 0.1, 0.0, 0.0),
        ("net", float("inf"), 0.1, 0.0, 0.0),
        ("net", float("nan"), 0.1, 0.0, 0.0),
        ("net", 1e6, 0.0, 0.0, 0.0),
        ("net", 1e6, 0.1, 1.0, 0.0),
        ("net", 1e6, 0.1, -0.1, 0.0),
        ("net", 1e6, 0.1, 0.0, -1.0),
        ("net", 1e6, 0.1, 0.0, LIFETIME + 1),
    ],
    ids=str,
)
def test_figures_that_no_path_has_are_not_restored(memory, row):
    memory.restore(*row)
    assert memory.census() == {"paths": 0}
