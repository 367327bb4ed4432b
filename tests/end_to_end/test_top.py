"""`lane top` in a real terminal, beside real clients and servers with traffic."""

import json
import os
import re
import signal
from contextlib import ExitStack

import pytest

from lane import __version__
from lane.testing.harness import until
from tests.support.origin import MB, Origin
from tests.support.processes import connected, echoes, read_exactly, start_client, start_server
from tests.support.tmux import needs_tmux, terminal


@pytest.fixture(scope="module")
def origin():
    with Origin() as origin:
        yield origin


@needs_tmux
def test_a_client_in_windows_of_all_sizes(origin, tmp_path):
    control = tmp_path / "run" / "c.sock"
    with (
        start_server(tmp_path / "server") as server,
        start_client(tmp_path / "client", "auto", server.link, "--control", control) as client,
        ExitStack() as stack,
        terminal(tmp_path) as window,
    ):
        socks = [stack.enter_context(connected(client.address, origin.echo)) for _ in range(30)]
        assert all(map(echoes, socks))
        load = stack.enter_context(connected(client.address, origin.endless))
        busy = f"127.0.0.1:{origin.endless} "

        def begins_with_the_download():
            read_exactly(load, MB)
            rows = [line for line in window.look().split("\n") if line.startswith("127.0.0.1:")]
            return rows and rows[0].startswith(busy)

        window.lane("top", "--control", control)
        lines = window.shows("31 sessions", f"127.0.0.1:{origin.echo}")
        assert re.match(rf"lane \S+, client {client.process.pid}, up ", lines[0])
        assert lines[1].startswith("carried by ")
        assert {line.split()[0] for line in lines[3:5]} == {"quic", "tls"}
        assert lines[23].endswith("? help  q quit")
        until(begins_with_the_download, window.look)  # what moves most comes first
        window.type("End")
        window.shows(" to 31")
        window.type("a", "a")  # the oldest first
        until(lambda: not begins_with_the_download(), window.look)
        window.type("a")
        until(begins_with_the_download, window.look)
        window.resize(40, 10)
        until(lambda: window.look().split("\n")[9].endswith("q quit"), window.look)
        window.resize(120, 40)
        window.shows("of memory", "31 sessions")
        window.type("?")
        window.shows("turns the order round")
        window.type("q")
        window.shows("31 sessions")
        window.type("q")
        lines = window.shows("ended 0")
        assert not any("sessions" in line for line in lines)
        window.type("clear; stty -a", "Enter")
        window.shows(" icanon ", " echo ")


@needs_tmux
def test_a_server_that_is_restarted(origin, tmp_path):
    folder = tmp_path / "server"
    with start_server(folder) as server, terminal(tmp_path) as window:
        with (
            start_client(tmp_path / "client", "quic", server.link) as client,
            connected(client.address, origin.echo) as sock,
        ):
            assert echoes(sock)
            window.lane("top", "--state-dir", folder / "state")
            lines = window.shows("1 session  1 user  1 worker", f"127.0.0.1:{origin.echo}")
            assert lines[0].startswith(f"lane {__version__}, server {server.process.pid}, up ")
            window.type("Tab")
            window.shows("default", "yes")
            window.type("Tab")
            window.shows("restarts", f"{server.process.pid} ")
        server.kill()
        window.shows("gone for", "waiting for it: ", f"server {server.process.pid}")
        with start_server(folder) as again:
            window.shows(f"server {again.process.pid}, ", "0 sessions")
            window.lacks("gone for")
            window.type("C-z")
            window.shows("Stopped")
            window.type("clear; fg; echo ended $?", "Enter")
            window.shows(f"server {again.process.pid}, ")
            window.type("C-c")
            window.shows("ended 0")


@needs_tmux
def test_a_signal_leaves_the_terminal_as_it_was(tmp_path):
    with start_server(tmp_path / "server"), terminal(tmp_path) as window:
        window.lane("top", "--state-dir", tmp_path / "server" / "state", after="; echo ended $?; stty -a")
        window.shows("0 sessions")
        os.kill(window.child, signal.SIGTERM)
        window.shows("ended 0", " icanon ", " echo ")


def test_one_frame_for_scripts(origin, tmp_path, run_lane):
    """Also of whatever there is, without options: a client, or else a server."""
    env = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "XDG_STATE_HOME": str(tmp_path / "home")}
    (tmp_path / "run").mkdir(mode=0o700)
    nobody = run_lane("top", "--once", env=env)
    assert (nobody.returncode, nobody.stdout) == (69, "")
    assert re.fullmatch(r"lane: there is no client at \S+ and no server at \S+: .*\n", nobody.stderr)
    control = "--control", tmp_path / "run" / "c"
    with (
        start_server(tmp_path / "server") as server,
        start_client(tmp_path / "client", "tls", server.link, *control) as client,
        connected(client.address, origin.echo) as sock,
    ):
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "lane").symlink_to(tmp_path / "server" / "state")
        result = run_lane("top", "--once", env=env)
        assert (result.returncode, result.stderr) == (0, "")
        assert f"server {server.process.pid}, " in result.stdout
        assert echoes(sock)
        result = run_lane("top", "--once", *control, env={"PYTHONIOENCODING": "utf-8"})
        assert (result.returncode, result.stderr) == (0, "")
        assert all(char == "\n" or char.isprintable() for char in result.stdout)
        assert re.search(rf"(?m)^127.0.0.1:{origin.echo}  tls ", result.stdout)
        result = run_lane("top", "--once", "--json", *control)
        found = json.loads(result.stdout)
        assert (found["role"], found["session_count"], len(found["sessions"])) == ("client", 1, 1)
        result = run_lane("top", *control)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == "lane: lane top needs a terminal: lane top --once prints what it would show\n"
        plain = run_lane("top", "--once", *control, env={"PYTHONIOENCODING": "ascii"})
        assert (plain.returncode, plain.stderr) == (0, "")
        assert plain.stdout.isascii()


def test_what_goes_wrong_is_one_line(tmp_path, run_lane):
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    for options, status, text in (
        (["--state-dir", tmp_path, "--control", folder / "c"], 2, "pass one"),
        (["--control", "off"], 2, "--control: a client without a socket can't be asked"),
        (["--json"], 2, "--json goes with --once"),
        (["--control", folder / "c", "--once"], 69, f"no client answers at {folder / 'c'}: No such file"),
    ):
        result = run_lane("top", *options)
        assert (result.returncode, result.stdout) == (status, "")
        assert re.fullmatch(r"lane: .*\n", result.stderr)
        assert text in result.stderr
    folder.chmod(0o777)
    result = run_lane("top", "--once", "--control", folder / "c")
    assert (result.returncode, result.stdout) == (69, "")
    assert result.stderr == f"lane: {folder / 'c'} is not asked: others may write to its folder\n"
