"""The control socket, over real sockets: what it answers, and what it takes from whom."""

import json
import os
import socket
from contextlib import closing, contextmanager

import gevent
import gevent.socket as gsocket
import pytest

from lane import control
from lane.address import Address
from lane.asking import ask
from lane.control import Control, open_control
from lane.errors import ConfigError, Unreachable
from lane.meeting import default_path
from lane.testing.harness import until
from tests.support.local_sockets import dead

DEADLINE = 20.0
FOLLOW = b'{"follow": true}\n'
ONCE = b'{"follow": false}\n'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "c.sock"


@contextmanager
def started(path, snapshot=dict):
    with closing(Control(path, snapshot)) as made:
        made.start()
        yield made


@contextmanager
def connection(path, request=b""):
    """A socket, and its lines as values."""
    with gsocket.socket(gsocket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(str(path))
        sock.sendall(request)
        with sock.makefile("rb") as reader:
            yield sock, (json.loads(line) for line in reader)


def answer(path, request=ONCE):
    """The one line that there is."""
    with connection(path, request) as (_, lines):
        (line,) = lines
        return line


def in_thread(function, *arguments, **named):
    """Run what blocks the whole process where it does not."""
    return gevent.get_hub().threadpool.apply(function, arguments, named)


def test_a_default_that_cannot_be_used_is_a_warning_and_a_path_that_was_asked_for_an_error(
    path, monkeypatch, caplog
):
    listen = Address("127.0.0.1", 1080)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    assert default_path(listen).parent == path / "lane"
    assert open_control("off", listen, dict) is None
    assert caplog.messages == []
    assert open_control("auto", listen, dict) is None
    (line,) = caplog.messages
    assert line.startswith(f"lane why will not work: cannot listen on {default_path(listen)}: ")
    with pytest.raises(ConfigError):
        open_control(path / "lane" / "s", listen, dict)
    with closing(open_control(path, listen, lambda: {"a": 1})):
        assert answer(path) == {"a": 1}


def test_it_goes_at_the_end(path):
    with started(path) as made:
        assert path.exists()
    assert not path.exists()
    made.close()


def test_a_socket_that_somebody_else_put_there_stays(path):
    with started(path):
        path.unlink()
        dead(path)
    assert path.exists()


# What it answers


def test_who_asks_gets_a_snapshot_of_now(path):
    numbers = iter(range(9))
    with started(path, lambda: {"number": next(numbers)}):
        assert [answer(path) for _ in range(3)] == [{"number": n} for n in range(3)]


def test_a_request_may_come_in_pieces(path):
    with started(path, lambda: {"a": 1}), connection(path, ONCE[:7]) as (sock, lines):
        gevent.sleep(0)
        sock.sendall(ONCE[7:])
        assert list(lines) == [{"a": 1}]


@pytest.mark.parametrize(
    "request_",
    [b"\n", b"{}\n", b"[]\n", b"null\n", b'{"follow": 1}\n', b"\xff\n", b"[" * 4000 + b"\n", b'"follow"\n'],
)
def test_a_bad_request_is_told_so(path, request_):
    with started(path):
        assert answer(path, request_) == {"error": 'expected {"follow": true} or {"follow": false}'}


def test_a_request_that_is_too_long_or_has_no_end_is_told_so(path):
    expected = {"error": "expected one line of at most 4096 bytes"}
    padding = b" " * (4096 - len(ONCE))
    with started(path, lambda: {"a": 1}):
        assert answer(path, padding + ONCE) == {"a": 1}
        assert answer(path, b"  " + padding + ONCE.rstrip()) == expected
        with connection(path, ONCE.rstrip()) as (sock, lines):
            sock.shutdown(socket.SHUT_WR)
            assert list(lines) == [expected]


def test_who_says_nothing_is_told_so(path, monkeypatch):
    monkeypatch.setattr(control, "REQUEST_TIME", 0.05)
    with started(path):
        assert answer(path, b"") == {"error": "no request in time"}


@pytest.mark.parametrize("bad", [{"x": object()}, {"x": float("nan")}, ZeroDivisionError(), gevent.Timeout()])
def test_a_snapshot_that_fails_costs_only_who_asked(path, bad, caplog):
    given = [bad, {"a": 1}]

    def snapshot():
        value = given.pop(0)
        if isinstance(value, BaseException):
            raise value
        return value

    with started(path, snapshot):
        assert answer(path, FOLLOW) == {"error": "the client failed to say it; its log has the reason"}
        assert answer(path) == {"a": 1}
    assert caplog.messages == [f"no snapshot for {path}"]


# Who follows


def test_who_follows_gets_changes_at_once(path, monkeypatch):
    monkeypatch.setattr(control, "PERIOD", DEADLINE * 10)
    state = {"choice": "quic"}
    with (
        started(path, lambda: state) as made,
        connection(path, FOLLOW) as (_, one),
        connection(path, FOLLOW) as (_, other),
    ):
        assert (next(one), next(other)) == ({"choice": "quic"}, {"choice": "quic"})
        for name in ("tls", "quic"):
            state["choice"] = name
            made.changed()
            assert (next(one), next(other)) == ({"choice": name}, {"choice": name})


def test_who_follows_gets_the_figures_without_a_change_too(path, monkeypatch):
    monkeypatch.setattr(control, "PERIOD", 0.01)
    numbers = iter(range(10**6))
    with started(path, lambda: {"number": next(numbers)}), connection(path, FOLLOW) as (_, lines):
        assert [next(lines)["number"] for _ in range(4)] == [0, 1, 2, 3]


def test_who_has_gone_is_forgotten(path, monkeypatch):
    monkeypatch.setattr(control, "PERIOD", 0.01)
    with started(path) as made:
        with connection(path, FOLLOW) as (_, lines):
            next(lines)
            assert made.connections == 1
        until(lambda: not made.connections)


def test_who_reads_too_slowly_is_dropped_and_keeps_nobody_waiting(path, monkeypatch):
    monkeypatch.setattr(control, "SEND_TIME", 1.0)
    with started(path, lambda: {"padding": "x" * 1_000_000}) as made, connection(path, FOLLOW) as (slow, _):
        until(lambda: made.connections)
        assert len(answer(path)["padding"]) == 1_000_000
        until(lambda: not made.connections)
        with slow.makefile("rb") as reader:
            assert len(reader.read()) < 1_000_000


def test_connections_are_limited(path):
    with started(path, lambda: {"a": 1}) as made:
        followers = [connection(path, FOLLOW) for _ in range(16)]
        for follower in followers:
            assert next(follower.__enter__()[1]) == {"a": 1}
        assert answer(path, b"") == {"error": "too many connections"}
        with pytest.raises(Unreachable, match="says: too many connections"):
            in_thread(list, ask(path))
        followers[0].__exit__(None, None, None)
        made.changed()
        until(lambda: made.connections < 16)
        assert answer(path) == {"a": 1}
        for follower in followers[1:]:
            follower.__exit__(None, None, None)


def test_the_end_of_the_client_is_the_end_for_who_follows(path):
    with started(path, lambda: {"a": 1}) as made, connection(path, FOLLOW) as (_, lines):
        next(lines)
        made.close()
        assert list(lines) == []


# Who asks


def test_to_ask_and_to_follow(path):
    with started(path, lambda: {"a": 1}) as made:
        assert in_thread(list, ask(path)) == [{"a": 1}]
        followed = ask(path, follow=True)
        assert in_thread(next, followed) == {"a": 1}
        made.close()
        with pytest.raises(Unreachable, match=f"^the client at {path} has ended$"):
            in_thread(list, followed)


def test_a_process_that_ends_before_it_answers_leaves_that_to_the_next_one(path):
    """As in an upgrade, whose processes share the socket."""
    with started(path, lambda: {"a": 1}) as made:
        shared = gsocket.socket(fileno=made.lend().detach())
        made.pause()
        for hows in (["closes"], ["resets"], ["closes", "resets", "closes"]):
            asking = gevent.spawn(in_thread, list, ask(path))
            with gevent.Timeout(DEADLINE):
                for how in hows:
                    sock, _ = shared.accept()
                    if how == "closes":
                        sock.recv(4096)
                    sock.close()  # a reset, unless it has read the question
            if len(hows) == 1:
                made.resume()
                assert asking.get(timeout=DEADLINE) == [{"a": 1}]
                made.pause()
            else:
                with pytest.raises(Unreachable, match=f"^the client at {path} has ended$"):
                    asking.get(timeout=DEADLINE)
        shared.close()


@pytest.mark.parametrize("who", ["user", "root"])
def test_a_folder_of_another_user_is_not_asked(path, monkeypatch, who):
    asker, owner = (0, 54321) if who == "root" else (54321, 12345)
    with started(path, lambda: {"a": 1}):
        if os.geteuid() == 0:
            os.chown(path.parent, owner, -1)
        elif who == "root":
            pytest.skip("needs root, to give a folder away")
        monkeypatch.setattr(os, "geteuid", lambda: asker)
        reason = "its folder belongs to another user"
        with pytest.raises(Unreachable, match=f"^{path} is not asked: {reason}$"):
            next(ask(path))
