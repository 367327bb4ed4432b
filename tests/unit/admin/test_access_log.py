import json
import os
import re
from types import SimpleNamespace

import pytest

from lane.address import Address
from lane.admin import access_log
from lane.admin.access_log import AccessLog, fields, line
from lane.errors import Closed, ConfigError
from lane.testing.harness import until

NAMES = ["time", "user", "client", "transport", "kind", "target", "up", "down", "seconds", "end"]


def a_session(user="alice", target="example.com", **more):
    values = {"peer": "192.0.2.7", "transport": "quic", "kind": "tcp", "up": 10, "down": 20}
    target = target and Address(target, 443)
    return SimpleNamespace(user=user, target=target, seconds=1.23456, **{**values, **more})


EVIL = [
    "a\nuser=root", "a\r\nb", 'a" end=clean x="', "a b=c", "\\", "\x1b[2J", "a\u2028b", "\u202eabc", "-", "",
    "\u00fc", "\ud800",
]  # fmt: skip


def test_a_line_of_text():
    text = line(fields(a_session(), None), "text")
    expected = "user=alice client=192.0.2.7 transport=quic kind=tcp target=example.com:443 up=10 down=20"
    assert re.fullmatch(rf"time=20\d\d-\S+[+-]\d\d:\d\d {expected} seconds=1\.235 end=clean", text)


def test_a_line_of_json():
    values = json.loads(line(fields(a_session(target=None), Closed("it was lost")), "json"))
    assert list(values) == NAMES
    assert (values["target"], values["end"], values["up"]) == (None, "it was lost", 10)


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_text_begins_a_line_or_a_field(evil, form):
    text = line(fields(a_session(user=evil, target="h" + evil), Closed(evil)), form)
    assert text.isascii()
    assert text.isprintable()
    if form == "json":
        assert json.loads(text)["user"] == evil
    else:
        found = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)(?: |$)', text)
        assert [name for name, _ in found] == NAMES
        word = dict(found)["user"]
        assert (json.loads(word) if word.startswith('"') else word) == evil


def test_a_line_is_short_whatever_is_in_it():
    live = a_session(user="\U0001f600" * 10_000, target="x" * 10_000)
    assert len(line(fields(live, Closed("y" * 10_000)), "json")) < 5000


def test_the_file_that_was_moved_and_no_file(tmp_path):
    file, moved = tmp_path / "log", tmp_path / "log.1"
    access = AccessLog(file, "text")
    access(a_session(user="first"), None)
    until(file.read_text)
    file.rename(moved)
    access.reopen(file, "json")
    access(a_session(user="second"), None)
    access.reopen(None, "json")
    access(a_session(user="third"), None)
    until(file.read_text)
    access.close()
    assert "first" in moved.read_text()
    assert json.loads(file.read_text())["user"] == "second"


def test_a_file_that_cannot_be_written_changes_nothing(tmp_path):
    file = tmp_path / "log"
    access = AccessLog(file, "text")
    with pytest.raises(ConfigError, match=r"cannot write the access log .*no/log: No such file"):
        access.reopen(tmp_path / "no" / "log", "json")
    with pytest.raises(ConfigError, match="cannot write the access log"):
        access_log.check(tmp_path / "no" / "log")
    access(a_session(), None)
    access.close()
    assert file.read_text().startswith("time=")


def test_a_reader_that_stopped_holds_up_nobody_and_is_named(tmp_path, caplog):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    access = AccessLog(fifo, "text")
    for _ in range(5000):  # more than pipe and queue take
        access(a_session(), None)
    access.reopen(None, "text")  # it waits for nobody either
    os.set_blocking(reader, True)
    while os.read(reader, 1 << 16):
        pass
    os.close(reader)
    until(lambda: "lines of the access log were dropped" in caplog.text)
