"""Versions of libraries beside those that lane was tested with, and what the log gets to hear."""

import logging

import pytest

from lane import tested


@pytest.fixture
def installed(monkeypatch):
    """Say what version of which package there is."""

    def install(found):
        monkeypatch.setattr(tested, "version", lambda package: found[package])

    yield install
    tested._notes.clear()


@pytest.mark.parametrize(
    ("found", "known"),
    [
        ("1.7.0", True),
        ("1.7.12", True),
        ("1.7", True),
        ("1.70.0", False),
        ("1.8.0", False),
        ("1", False),
        ("2.1.7", False),
    ],
)
def test_a_patch_is_no_other_version(installed, found, known):
    installed({"aioquic": found})
    assert tested.is_tested("aioquic", ("1.6", "1.7")) == known


def told(caplog):
    with caplog.at_level(logging.WARNING, "lane"):
        tested.tell()
    return [record.getMessage() for record in caplog.records]


def test_another_version_is_told_of_once(installed, caplog):
    installed({"aioquic": "9.1.0", "gevent": "26.9.1"})
    for _ in range(3):
        assert not tested.is_tested("aioquic", ("1.6", "1.7"), otherwise="something is off")
    assert tested.is_tested("gevent", ("26.9",))
    text = "aioquic 9.1.0 is installed, and lane was tested with 1.6 and 1.7: something is off"
    assert told(caplog) == [text]
    assert told(caplog) == [text], "not again"


def test_what_is_missing_is_named_up_to_a_few(installed, caplog):
    installed({"aioquic": "1.7.9"})
    missing = tested.lacking([], ["append", *(f"_gone{number}" for number in range(7))])
    assert missing[0] == "list._gone0"
    assert len(missing) == 7
    assert not tested.is_tested("aioquic", ("1.7",), missing=missing[:1], otherwise="off")
    assert "it lacks list._gone0: off" in told(caplog)[0]
    assert not tested.is_tested("aioquic", ("1.7",), missing=missing, otherwise="off")
    assert "list._gone4, ...: off" in told(caplog)[1]


def test_a_version_that_is_tested_after_all_is_not_told_of(installed, caplog):
    installed({"aioquic": "9.1.0"})
    assert not tested.is_tested("aioquic", ("1.7",))
    assert tested.is_tested("aioquic", ("9.1",))
    assert told(caplog) == []


def test_a_package_without_a_version_is_another_one(caplog):
    assert not tested.is_tested("no-such-package-of-lane", ("1.7",))
    assert "of an unknown version" in told(caplog)[0]
