"""What keys do."""

import pytest

from lane.top.choices import PAGE, Choices
from tests.support.views import client_view, server_view, session


def targets(choices, view):
    return [int(row["id"]) for row in choices.rows(view)]


def pressed(*keys, server=False):
    choices = Choices()
    for key in keys:
        choices.press(key, server=server)
    return choices


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        ([], [0, 1, 2]),
        (["d"], [2, 1, 0]),  # the same key again turns it round
        (["u"], [2, 1, 0]),
        (["u", "u"], [0, 1, 2]),
        (["a"], [0, 1, 2]),
        (["a", "a"], [2, 1, 0]),
        (["t", "t"], [2, 1, 0]),
        (["u", "x", "\x1b", ""], [2, 1, 0]),
    ],
)
def test_sorting(keys, order):
    assert targets(pressed(*keys), client_view()) == order


def test_rows_without_a_value_come_last_and_equal_ones_stay():
    rows = [session(at, down_rate=rate) for at, rate in enumerate((None, "x", 5, 5))]
    rows[2]["down"] = 1
    assert targets(pressed(), {"sessions": rows}) == [3, 2, 0, 1]
    assert pressed().rows({"sessions": "x"}) == pressed().rows({}) == []


def test_tables_of_a_server_have_orders_of_their_own():
    choices = pressed("u", "tab", server=True)
    assert (choices.table, choices.key("users"), choices.key("sessions")) == ("users", "d", "u")
    assert [row["name"] for row in choices.rows(server_view())] == ["bob", "alice"]
    choices.press("s")
    assert [row["name"] for row in choices.rows(server_view())] == ["alice", "bob"]
    choices.press("a")  # users have no age here
    assert choices.key("users") == "s"
    choices.press("tab")
    choices.press("tab")
    assert choices.table == "sessions"
    assert pressed("tab").table == "sessions"  # a client has no others


def test_scrolling_stays_within_the_rows():
    choices = pressed("down", "down", "page down")
    assert choices.window(100, 10) == range(2 + PAGE, 12 + PAGE)
    choices.press("end")
    assert choices.window(100, 10) == range(90, 100)
    choices.press("up")
    assert choices.window(100, 10) == range(89, 99)
    assert choices.window(5, 10) == range(5)
    choices.press("page up")
    assert choices.window(100, 0) == range(0)
    assert choices.window(0, 10) == range(0)
    choices.press("end")
    choices.press("home")
    assert choices.window(100, 10) == range(10)


def test_help_and_the_end():
    choices = pressed("?")
    assert choices.helps
    choices.press("q")
    assert (choices.helps, choices.over) == (False, False)
    choices.press("q")
    assert choices.over
    assert pressed("?", "ctrl-c").over
