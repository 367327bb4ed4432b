"""A line that is written anew, only on a terminal."""

import io
from types import SimpleNamespace

import pytest

from lane.cli import progress
from lane.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    screen = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=screen))
    return screen


def test_the_line_fits_and_goes_away(terminal):
    with Progress() as line:
        line.show("x" * 100, 0.5)
        line.show("short")
    lines = terminal.getvalue().split("\r")
    assert max(map(len, lines)) <= 39
    assert lines[1].startswith("[##########..........] xxx")
    assert lines[2].startswith("short ")
    assert lines[-1] == ""
    assert lines[-2].strip() == ""


def test_a_line_of_the_result_stands_alone(terminal, capsys):
    with Progress() as line:
        line.show("going on")
        line.say("result\x1b[31m")
    assert capsys.readouterr().out == "result?[31m\n"


def test_a_pipe_gets_only_results(capsys):
    with Progress() as line:
        line.show("going on", 0.5)
        line.say("result")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("result\n", "")


@pytest.mark.parametrize("part", [-1.0, 0.0, 1.0, 7.0])
def test_the_bar_stays_in_its_frame(part, terminal):
    Progress().show("", part)
    assert len(terminal.getvalue().strip("\r ")) == 22
