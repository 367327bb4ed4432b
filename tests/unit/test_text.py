"""Text of peers does nothing to who reads it: not on a terminal, and not in a log."""

import logging
import os
import sys
from types import SimpleNamespace

import pytest

from lane import cli, log
from lane.errors import Unreachable
from lane.text import complain, printable

HOSTILE = "a\x1b[2J\x9b2J\u202eb\u2066c\u200fd\re\nf\x00g\x7f\u2028h\ud800"
SHOWN = "a?[2J?2J?b?c?d?e?f?g??h?"


def test_printable():
    assert printable(HOSTILE) == SHOWN
    assert printable("caf\u00e9 \u6771\u4eac") == "caf\u00e9 \u6771\u4eac"


def test_an_error_on_a_terminal(monkeypatch, capsys):
    def fail(argv):
        raise Unreachable(f"the proxy says: {HOSTILE}")

    monkeypatch.setattr(cli, "_run", fail)
    assert cli.main([]) == 69
    assert capsys.readouterr().err == f"lane: the proxy says: {SHOWN}\n"


@pytest.fixture
def said():
    """What is logged by a call."""
    reader, writer = os.pipe()
    handler = log.QueuedWriter(os.dup(writer))
    os.close(writer)

    def said(record):
        handler.emit(record)
        handler.close()
        with os.fdopen(reader, encoding="utf-8") as file:
            return file.read()

    return said


def record(name, message, error=None):
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord(name, logging.INFO, "", 0, message, None, info)


def test_a_line_of_the_log(said):
    assert said(record("aioquic", f"closed: {HOSTILE}")).endswith(f" INFO aioquic: closed: {SHOWN}\n")


def test_a_traceback_in_the_log(said):
    lines = said(record("lane", "failed", ValueError(HOSTILE))).splitlines()
    assert lines[1] == "ValueError: a?[2J?2J?b?c?d?e"
    assert lines[2] == "f?g??h?"


def test_a_warning_of_python_keeps_its_lines(said):
    assert said(record("py.warnings", "x.py:1: UserWarning: \x9b\n  warn()")).endswith(": ?\n  warn()\n")


def test_a_complaint_is_one_line_written_in_one_piece(monkeypatch):
    """The log has a thread of its own, which may write between two pieces."""
    written = []
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=written.append, flush=lambda: None))
    complain("it\x1b failed")
    assert written == ["it? failed\n"]
