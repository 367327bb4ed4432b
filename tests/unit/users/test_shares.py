"""How users share a full uplink: who is held, to how much, and when nobody is."""

import pytest

from lane.users.shares import FREE, HEADROOM, PART, SETTLE, Ceiling, Shares, Use

LOOK = 0.25


def run(shares, seconds, users, begin=0.0):
    """The last decision after looks for some time; `users(held)` are the uses after a decision."""
    held, now = {}, begin
    while now < begin + seconds:
        held = shares.decide(users(held), now)
        now += LOOK
    return held


def shared_link(capacity, connections):
    """Users of one link: by connections, except for who is held; the others get the rest."""

    def users(held):
        left = capacity - sum(held.values())
        free = sum(count for name, count in connections.items() if name not in held)
        return {
            name: Use(count, held[name] if name in held else left * count / free)
            for name, count in connections.items()
        }

    return users


def test_a_user_with_many_connections_is_held_to_an_equal_part():
    held = run(Shares(), 60, shared_link(3e6, {"many": 100, "one": 1}))
    assert held == {"many": pytest.approx(PART * 1.5e6, rel=0.05)}


def test_several_users_are_held_and_who_has_the_fewest_is_not():
    held = run(Shares(), 60, shared_link(4e6, {"a": 100, "b": 10, "c": 2, "d": 2}))
    assert held == {name: pytest.approx(PART * 1e6, rel=0.05) for name in "ab"}


def test_users_with_equal_numbers_of_connections_and_a_single_one_are_not_held():
    for connections in ({"a": 7, "b": 7}, {"a": 100}, {}):
        assert run(Shares(), 10, shared_link(1e6, connections)) == {}


def own_links(held):
    """Each has a bottleneck of its own."""
    return {"many": Use(10, min(10e6, held.get("many", 10e6))), "one": Use(1, 1e6)}


def test_nobody_is_held_for_long_where_nobody_else_takes_what_is_left():
    shares, held, now, decided = Shares(), {}, 0.0, []
    for _ in range(int(400 / LOOK)):
        held = shares.decide(own_links(held), now)
        decided.append(bool(held))
        now += LOOK
    assert decided[0]
    first = decided.index(False) * LOOK
    assert SETTLE <= first <= SETTLE + 5
    assert not any(decided[int((first + 1) / LOOK) : int((first + FREE - 1) / LOOK)])
    assert sum(decided) / len(decided) < 0.15  # each time for longer


def test_a_bottleneck_that_has_become_narrower_is_shared_again_soon():
    shares, connections = Shares(), {"many": 100, "one": 1}
    run(shares, 5, shared_link(10e6, connections))
    held, begin = {}, 5.0
    for _ in range(int(4 * SETTLE / LOOK)):
        held = shares.decide(shared_link(2e6, connections)(held), begin)
        begin += LOOK
    assert held == {"many": pytest.approx(PART * 1e6, rel=0.05)}


def test_another_user_begins_it_anew():
    shares = Shares()
    assert run(shares, SETTLE + 5, own_links) == {}
    both = shared_link(3e6, {"many": 100, "one": 1, "new": 1})
    assert "many" in run(shares, 1, both, SETTLE + 5)


def test_lumps_do_not_end_it():
    shares, number = Shares(), 0

    def users(held):
        nonlocal number
        number += 1
        many = 0.5e6 if number % 2 else 2.4e6
        return {"many": Use(100, many), "one": Use(1, 1.5e6)}

    assert run(shares, 60, users)


def busy_process(wishes, capacity=100e6):
    """The rates of users of one process after a minute. They keep to what they had, and try a little more.

    `wishes`: what each could have for itself.
    """
    ceiling, most, rates = Ceiling(), float("inf"), dict(zip("abc", wishes, strict=False))
    for _ in range(int(60 / LOOK)):
        rates = {name: min(1.1 * rate, wishes["abc".index(name)], most) for name, rate in rates.items()}
        work = sum(rates.values()) / capacity
        rates = {name: rate / max(work, 1.0) for name, rate in rates.items()}
        most = ceiling.decide(rates, busy=work > 0.9)
    return list(rates.values())


def test_users_of_a_busy_process_come_to_equal_parts_whatever_they_had_before():
    for wishes in ((100e6, 50e6), (100e6, 60e6, 80e6)):
        rates = busy_process(wishes)
        assert max(rates) < 1.1 * HEADROOM * sum(rates) / len(rates)
        assert sum(rates) > 75e6


def test_the_parts_of_who_wants_little_are_left_to_others():
    fast, slow = busy_process((100e6, 5e6))
    assert slow == 5e6
    assert fast > 70e6


def test_nobody_is_held_where_the_process_has_time_left_or_one_user_is_alone():
    assert busy_process((30e6, 5e6)) == [30e6, 5e6]
    assert busy_process((90e6,)) == [90e6]
