"""`lane reload` and processes of other versions. tests/end_to_end/test_reload.py has the command."""

from argparse import Namespace
from pathlib import Path

import pytest

from lane.asking import NotKnown
from lane.cli import reload_command
from lane.errors import Unreachable

CONFIG = Namespace(control=Path("/run/c"), who="client", named=False, json=False)


@pytest.mark.parametrize("answer", [None, {}, {"read": "all", "kept": []}, {"read": [], "kept": None}])
def test_another_version_is_told_by_a_signal(monkeypatch, answer):
    def ask(*_, **__):
        if answer is None:
            raise NotKnown("no")
        yield answer

    monkeypatch.setattr(reload_command, "ask", ask)
    with pytest.raises(Unreachable, match=r"the client at /run/c is of a version .*: kill -HUP"):
        reload_command.run(CONFIG, None)


def test_what_it_says_can_be_shown(monkeypatch, capsys):
    answer = {"read": ["\x1b[31mred", 5], "kept": ["a\nb"], "failed": False}
    monkeypatch.setattr(reload_command, "ask", lambda *_, **__: [answer])
    assert reload_command.run(CONFIG, None) == 0
    assert capsys.readouterr().out == "read again: ?[31mred, -\na?b\n"
