"""Asking where no client answers as it should. tests/unit/test_control.py asks clients that do."""

import socket

import gevent
import pytest

from lane import asking
from lane.asking import ask
from lane.errors import Unreachable
from tests.support.local_sockets import dead

DEADLINE = 20.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "c.sock"


def test_where_nobody_answers(path):
    with pytest.raises(Unreachable, match=f"^no client answers at {path}: No such file"):
        next(ask(path))
    dead(path)
    with pytest.raises(Unreachable, match=f"^no client answers at {path}: Connection refused"):
        next(ask(path))


def test_where_the_answer_does_not_come(path, monkeypatch):
    monkeypatch.setattr(asking, "ANSWER_TIME", 0.05)
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        with pytest.raises(Unreachable, match="timed out"):
            next(ask(path))


@pytest.mark.parametrize("line", [b"SSH-2.0\n", b"[]\n", b"1\n", b"\xff\n", b"[" * 100_000 + b"\n"])
def test_where_something_else_answers(path, line):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        asked = gevent.get_hub().threadpool.spawn(lambda: next(ask(path)))
        sock, _ = other.accept()
        with sock:
            sock.sendall(line)
            with pytest.raises(Unreachable, match=f"^what answers at {path} is no client of lane$"):
                asked.get(timeout=DEADLINE)
