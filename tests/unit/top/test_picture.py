"""Frames of every size, of views that lack anything or have it wrong, and what they say."""

import json
import unicodedata
from math import inf, nan

import pytest
from rich.cells import cell_len

from lane.top.choices import Choices
from lane.top.past import MOST_LANES, SECONDS, Past
from lane.top.picture import Picture
from tests.support.views import NOW, client_view, history, lane, server_view, session

SIZES = [(80, 24), (40, 10), (200, 60), (61, 15), (20, 5), (9, 4), (2, 2), (1, 1)]
ODD = (
    None,
    True,
    "",
    "x\x1b[31m\x9b\r\n\t\u202eevil",
    -5,
    10**400,
    1e300,
    nan,
    inf,
    [],
    {},
    [None, 3, "x"],
    {"a": 1},
)


def frame(view, size=(80, 24), keys=(), trouble="", *, plain=False):
    past, choices = Past(), Choices()
    past.take(view, fresh=True)
    for key in keys:
        choices.press(key)
    return [line.plain for line in Picture(plain=plain).frame(view, past, choices, size, trouble)]


def check(lines, size):
    width, height = size
    assert len(lines) <= height
    for line in lines:
        assert cell_len(line) <= width, line
        assert all(unicodedata.category(char)[0] != "C" for char in line), line


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    "view", [client_view(), client_view(150), server_view(150), {}], ids=["c", "cc", "s", "-"]
)
def test_a_frame_fits_every_window(view, size):
    for keys in ([], ["?"], ["tab"], ["tab", "tab"], ["end", "up", "t"]):
        check(frame(view, size, keys), size)
        check(frame(view, size, keys, trouble="gone for 5 s, waiting for it"), size)


def places(value, path=()):
    """Every place of a value, by its path."""
    yield path
    inside = (
        value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    )
    for key, one in inside:
        yield from places(one, (*path, key))


def put(value, path, odd):
    found = json.loads(json.dumps(value))
    at = found
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = odd
    return found


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12])
@pytest.mark.parametrize("view", [client_view(), server_view()], ids=["client", "server"])
def test_values_that_are_missing_or_odd_cost_only_themselves(view, odd):
    small = {**view, "history": history("tls", seconds=2)}
    for path in places(small):
        if path:
            changed = put(small, path, odd)
            for keys in ([], ["tab"], ["tab", "tab"]):
                check(frame(changed, (100, 30), keys), (100, 30))
            Picture().whole(changed, Past())


def test_what_a_client_shows():
    lines = frame(client_view())
    assert lines[0].startswith("lane 0.1.0, client 4242, up 2 h")
    assert lines[1] == "carried by tls: lowest CPU cost, no problems seen"
    assert lines[2].split() == ["lane", "state", "goodput", "round", "trip", "loss", "sessions"]
    assert lines[3].split()[:4] == ["tls", "carries", "472.0", "Mbit/s"]
    assert "▂▃▅▆▇█" in lines[3]
    assert lines[4].split()[:2] == ["quic", "answers"]
    assert lines[5].endswith("quic -> tls: lowest CPU cost, no problems seen")  # the newest first
    assert lines[6].endswith("tls -> quic: tls loses 3 % of the packets")
    assert lines[7] == "3 sessions"
    assert lines[8].split() == [
        "target",
        "over",
        "bit/s",
        "down",
        "bit/s",
        "up",
        "bytes",
        "down",
        "bytes",
        "up",
        "age",
    ]
    assert lines[9].split() == ["host-0.example.com:443", "tls", "800", "0", "1.0", "G", "0", "1", "min"]
    assert lines[-1] == "d down  u up  a age  t name  arrows scroll  ? help  q quit"


def test_a_small_window_keeps_what_matters():
    lines = frame(client_view(20), (40, 10))
    words = [line.split()[0] for line in lines]
    assert words[:6] == ["lane", "carried", "lane", "tls", "quic", "target"]
    assert words[6:] == [*(f"host-{number}.example.c.." for number in range(3)), "d"]
    assert lines[5].split() == ["target", "bit/s", "down", "bit/s", "up"]


def test_what_a_server_shows():
    lines = frame(server_view(), (100, 24))
    assert "17 times a session went on over another connection" in lines
    assert "3 sessions  2 users  2 workers" in lines
    assert any(line.split()[:3] == ["host-0.example.com:443", "alice", "tls"] for line in lines)
    users = frame(server_view(), (120, 24), ["tab"])
    assert [line.split() for line in users if line.startswith(("alice", "bob"))] == [
        ["bob", "0", "7.2", "k", "8", "1.0", "G", "5", "50.0", "M", "1.0", "G/100", "G"],
        ["alice", "yes", "3", "2.4", "k", "8", "1.0", "G", "5", "50.0", "M", "1.0", "G/100", "G"],
    ]
    workers = frame(server_view(), (100, 24), ["tab", "tab"])
    assert [line.split()[:3] for line in workers if line.startswith(("7 ", "8 "))] == [
        ["8", "2", "4"],
        ["7", "1", "4"],
    ]


def test_a_lane_that_does_not_answer_says_why_and_so_does_lane_once_it_is_gone():
    view = client_view(
        lanes=[lane("tls", state="silent", why="no answer for 5.0 s")], headline="not reached: no answer"
    )
    lines = frame(view)
    assert lines[1] == "not reached: no answer"
    assert lines[3] == "tls   silent  no answer for 5.0 s"
    lines = frame(view, trouble="gone for 5 s, waiting for it: the client at /x has ended")
    assert lines[1] == "gone for 5 s, waiting for it: the client at /x has ended"


def test_a_terminal_that_has_only_ascii():
    for size in SIZES:
        assert all(line.isascii() for line in frame(server_view(150), size, plain=True))


def test_wide_characters_keep_the_columns():
    sessions = [session(0, target="例え.テスト.example:443" * 3), session(1, target="e\u0301" * 200)]
    for size in SIZES:
        check(frame(client_view(sessions=2) | {"sessions": sessions}, size), size)


def test_the_whole_is_not_cut():
    view, past = server_view(150), Past()
    view["sessions"][7]["target"] = "x" * 250 + ":443"
    past.take(view, fresh=True)
    text = "\n".join(line.plain for line in Picture().whole(view, past))
    assert "x" * 250 + ":443  alice" in text
    assert text.count(".example.com:443") == 149
    assert {"alice", "bob"} <= {*text.split()}


def test_the_past_is_bounded_and_begins_anew_with_a_connection():
    past = Past()
    for at in range(5):
        view = {"history": history("tls", seconds=2 * SECONDS)}
        view["history"]["times"] = [second + at * SECONDS for second in view["history"]["times"]]
        past.take(view, fresh=False)
    assert [len(kept) for kept in past._lanes.values()] == [SECONDS]
    past.take({"history": history(*map(str, range(3 * MOST_LANES)), seconds=1)}, fresh=False)
    assert len(past._lanes) == MOST_LANES
    past.take({"history": history("quic", seconds=10)}, fresh=True)
    assert [*past._lanes] == ["quic"]


def test_bars_stand_for_at_least_two_minutes():
    past = Past()
    past.take({"history": history("tls", seconds=60)}, fresh=True)
    assert past.bars("tls", "rtt", 12, NOW) == [None] * 5 + [0.02] * 7  # ten seconds each
    bars = past.bars("tls", "goodput", 200, NOW)
    assert (bars[-60], bars[-1], bars[-61]) == (0, 59e6, None)
    assert past.bars("tls", "goodput", 0, NOW) == past.bars("other", "loss", 0, NOW) == []
    assert past.bars("other", "loss", 2, NOW) == [None, None]
