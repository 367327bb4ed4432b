"""Long lines: folded at a terminal, and whole in a pipe."""

import sys

from lane.cli.fold import fold

LINE = "ok   kernel      set --some-option and " + "word " * 20


def test_only_a_terminal_folds(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert fold(LINE) == LINE
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    lines = fold(LINE, 17).split("\n")
    assert lines[0] == "ok   kernel      set --some-option and"
    assert all(len(line) <= 40 and line.startswith(" " * 17 + "word") for line in lines[1:])
    assert fold("short") == "short"
