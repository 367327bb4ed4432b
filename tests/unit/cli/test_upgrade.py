"""`lane upgrade` and processes of other versions. tests/end_to_end/test_upgrade.py has upgrades."""

import os
from argparse import Namespace

import pytest

from lane.cli import upgrade
from lane.errors import Unreachable


@pytest.mark.parametrize("pid", [None, 0, -1, True, "7", 7.0])
def test_nobody_gets_a_signal_whom_the_answer_does_not_name(monkeypatch, tmp_path, pid):
    """Numbers that are not above 0 stand for many processes."""
    monkeypatch.setattr(upgrade, "ask", lambda *_, **__: [{"pid": pid, "upgrade": "", "version": "9"}])
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal"))
    with pytest.raises(Unreachable, match="the running server is too old for that: restart it"):
        upgrade.run(Namespace(server=tmp_path, client=None, json=False), None)
