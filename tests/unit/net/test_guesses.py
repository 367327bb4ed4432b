"""Guesses cost those who guess time, are bounded, and are in the log so that fail2ban finds them."""

import configparser
import logging
import re
from pathlib import Path

import gevent
import pytest

from lane import log
from lane.net import guesses as guesses_module
from lane.net.guesses import EASE_TIME, FIRST, LONGEST, STEPS, Guesses
from lane.testing.harness import until

DOC = Path(__file__).parents[3] / "docs" / "FAIL2BAN.md"
HOST = "192.0.2.7"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Clock()


@pytest.fixture
def guesses(time):
    return Guesses("key", clock=time)


@pytest.fixture
def log_lines(tmp_path):
    """The lines of the log, as lane writes them."""
    logger = logging.getLogger("lane")
    before = logger.level
    writer = log.setup("info", tmp_path / "log")
    yield lambda: (tmp_path / "log").read_text().splitlines()
    logging.getLogger().removeHandler(writer)
    writer.close()
    logger.setLevel(before)


def failregex():
    """What docs/FAIL2BAN.md has fail2ban look for, with its own idea of a host."""
    blocks = re.findall(r"```ini\n(.*?)```", DOC.read_text(), re.DOTALL)
    block = next(text for text in blocks if "failregex" in text)
    parser = configparser.RawConfigParser(delimiters="=")
    parser.read_string(block)
    return re.compile(parser["Definition"]["failregex"].replace("<HOST>", r"(?P<host>[0-9a-fA-F:.]+)"))


def test_each_wrong_guess_doubles_the_delay(guesses):
    assert [guesses.wrong(HOST) for _ in range(9)] == [
        0,
        *(FIRST * 2**step for step in range(STEPS)),
        LONGEST,
        LONGEST,
    ]
    assert guesses.delay("192.0.2.8") == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.7", HOST, True),
        ("fe80::1%lo", "fe80::2%lo", True),
        (HOST, "192.0.2.8", False),
    ],
)
def test_addresses_of_a_network_are_one(guesses, one, other, same):
    guesses.wrong(one)
    assert (guesses.delay(other) > 0) == same


def test_time_eases_it(guesses, time):
    for _ in range(20):
        guesses.wrong(HOST)
    time.now += EASE_TIME
    assert guesses.delay(HOST) == LONGEST / 2
    time.now += STEPS * EASE_TIME
    assert guesses.delay(HOST) == 0


def test_a_right_one_waits_as_long_and_eases_it(guesses, monkeypatch):
    slept = []
    monkeypatch.setattr(gevent, "sleep", slept.append)
    for _ in range(4):
        guesses.wrong(HOST)
    for _ in range(6):
        guesses.right(HOST)
    assert slept == [FIRST * 8, FIRST * 4, FIRST * 2, FIRST]
    assert guesses.census()["guessers"] == 0


def test_no_delay_is_longer_than_its_owner_says(time):
    guesses = Guesses("key", longest=0.5, clock=time)
    assert max(guesses.wrong(HOST) for _ in range(20)) == 0.5


def test_the_table_is_bounded(guesses, monkeypatch):
    monkeypatch.setattr(guesses_module, "MOST_KNOWN", 100)
    for number in range(1000):
        guesses.wrong(f"10.0.{number // 250}.{number % 250}")
    assert guesses.census()["guessers"] == 100


def test_who_waits_is_bounded_and_the_oldest_of_the_fullest_address_goes(guesses, monkeypatch):
    monkeypatch.setattr(guesses_module, "MOST_OF_ONE", 4)
    guesses._waiting = guesses_module.Places(6)
    jobs = [gevent.spawn(guesses.pause, HOST, 60) for _ in range(5)]
    gevent.idle()
    assert [job.ready() for job in jobs] == [True, False, False, False, False]
    assert jobs[0].value is False
    others = [gevent.spawn(guesses.pause, f"192.0.2.{number}", 60) for number in range(100, 103)]
    gevent.idle()
    assert [job.ready() for job in jobs] == [True, True, False, False, False]
    assert not any(job.ready() for job in others)
    assert guesses.census()["guesses"] == 6
    gevent.killall([*jobs, *others])
    assert guesses.census()["guesses"] == 0


def test_a_pause_ends():
    assert Guesses("key").pause(HOST, 0.01) is True


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        (HOST, HOST),
        ("::ffff:192.0.2.7", HOST),
        ("2001:db8::7", "2001:db8::7"),
        ("fe80::7%eth0", "fe80::7"),
    ],
)
@pytest.mark.parametrize("what", ["key", "user or password"])
def test_a_line_a_minute_that_fail2ban_reads(time, log_lines, what, peer, shown):
    guesses = Guesses(what, clock=time)
    for _ in range(50):
        guesses.wrong(peer)
    time.now += 60
    guesses.wrong(peer)
    until(lambda: len(log_lines()) == 2)
    first, second = log_lines()
    assert "(49 more since the last such line)" in second
    for line in (first, second):
        cut = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "", line, count=1)  # as fail2ban does with the time
        journal = f"proxy lane[4711]: {line}"
        assert [failregex().search(text)["host"] for text in (cut, journal)] == [shown, shown]


@pytest.mark.parametrize(
    "line",
    [
        " INFO lane.server: user: wrong key from 192.0.2.7:443 refused: not allowed",
        " INFO lane.server: INFO lane.guesses: wrong key from 192.0.2.7",
        " INFO lane.guesses: wrong key from 192.0.2.7 and more",
        " DEBUG lane.guesses: wrong key from 192.0.2.7",
    ],
)
def test_nobody_can_have_another_banned(line):
    assert failregex().search(line) is None
