from lane.admin.state import State, together
from lane.server.numbers import Histogram


def a_state(number):
    state, lag = State(), Histogram((0.1, 1.0))
    lag.observe(number / 10)
    state.count("bytes", {("quic", "up"): number, ("tls", "up"): 1})
    state.gauge("sessions", number)
    state.gauge("memory", number, f"{number}")
    state.histogram("lag", {(): lag})
    state.users = {"alice": (number, 1), f"user{number}": (1, 1)}
    state.online = {"alice": {"192.0.2.1", f"192.0.2.{number}"}}
    return state


def test_a_state_survives_being_packed():
    state = a_state(5)
    assert vars(State.unpack(state.pack())) == vars(state)


def test_numbers_add_up_and_addresses_are_one_set():
    total = together([a_state(5), a_state(1)])
    assert total.counters["bytes"] == {("quic", "up"): 6, ("tls", "up"): 2}
    assert total.gauges == {"sessions": {(): 6}, "memory": {("5",): 5, ("1",): 1}}
    assert total.histograms["lag"][()] == [1, 1, 0, 0.6]
    assert total.users == {"alice": (6, 2), "user5": (1, 1), "user1": (1, 1)}
    assert total.online == {"alice": {"192.0.2.1", "192.0.2.5"}}


def test_what_lasts_after_a_death_is_what_was_counted():
    kept = a_state(5).lasting()
    assert kept.counters["bytes"]
    assert kept.histograms["lag"]
    assert kept.users
    assert (kept.gauges, kept.online) == ({}, {})
