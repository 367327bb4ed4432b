"""`lane open`: which process is asked, and what is printed and opened."""

from pathlib import Path

import pytest

from lane.address import Address
from lane.cli import open as command
from lane.cli import option_parser
from lane.config import OpenConfig, open_config
from lane.errors import Unreachable, UsageError
from tests.support.terminal import at_terminal


def configured(*argv):
    return open_config(option_parser.parse("open", [*argv], lambda line: None)[0])


@pytest.fixture
def processes(monkeypatch):
    """The answers of the client and the server that run, by who they are."""
    found = {}

    def ask(path, *, who, named):
        if who not in found:
            raise Unreachable(f"no {who} answers at {path}")
        yield found[who]

    monkeypatch.setattr(command, "ask", ask)
    return found


def test_options():
    assert configured() == OpenConfig(None, None, None, False)
    one = configured("--admin", "127.0.0.1:9433", "--control", "c", "--state-dir", "s", "--print")
    assert one == OpenConfig(Address("127.0.0.1", 9433), Path("c"), Path("s"), True)
    assert configured("--admin", "unix:/a.sock").admin == Path("/a.sock")
    with pytest.raises(UsageError, match="a client without a socket can't be asked"):
        configured("--control", "off")


@pytest.mark.parametrize(
    ("where", "url"),
    [
        ("127.0.0.1:9433", "http://127.0.0.1:9433/"),
        ("0.0.0.0:9433", "http://127.0.0.1:9433/"),
        ("[::]:9433", "http://localhost:9433/"),
        ("[::1]:1", "http://[::1]:1/"),
    ],
)
def test_the_address_is_printed(where, url, capsys):
    assert command.run(configured("--admin", where), None) == 0
    assert capsys.readouterr().out == f"{url}\n"


def test_a_browser_is_started_from_a_terminal_only(tmp_path, monkeypatch, run_lane):
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o700)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    for argv in (["--print"], []):
        assert not opened.exists()
        assert at_terminal("open", "--admin", "127.0.0.1:1", *argv) == (0, "http://127.0.0.1:1/\r\n")
    assert opened.read_text() == "http://127.0.0.1:1/\n"
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    at_terminal("open", "--admin", "127.0.0.1:1")
    assert run_lane("open", "--admin", "127.0.0.1:1", env={"BROWSER": f"{browser} %s"}).returncode == 0
    assert opened.read_text() == "http://127.0.0.1:1/\n"


def test_a_socket_is_nothing_for_a_browser():
    with pytest.raises(Unreachable, match=r"a browser cannot open unix:/a\.sock.*ssh -N -L .*:/a\.sock HOST"):
        command.run(configured("--admin", "unix:/a.sock"), None)


def test_who_is_asked(processes, capsys):
    processes |= {"client": {"admin": "127.0.0.1:1"}, "server": {"admin": "127.0.0.1:2"}}
    for argv in ([], ["--control", "c"], ["--state-dir", "s"]):
        command.run(configured(*argv), None)
    assert capsys.readouterr().out.split() == ["http://127.0.0.1:1/"] * 2 + ["http://127.0.0.1:2/"]
    processes["client"] = {"admin": None}
    command.run(configured(), None)
    assert capsys.readouterr().out == "http://127.0.0.1:2/\n"


def test_without_an_admin_port_it_says_how_to_have_one(processes):
    processes["client"] = {"admin": None}
    with pytest.raises(Unreachable, match="the client has no admin port: start it with --admin 127"):
        command.run(configured(), None)
    processes["client"] = {}  # of a version before
    with pytest.raises(Unreachable, match="that does not tell where its admin port is: lane open --admin"):
        command.run(configured(), None)


def test_without_a_process_it_says_where_it_looked(processes):
    with pytest.raises(Unreachable, match=r"no client answers at .*; no server answers at .*status\.sock"):
        command.run(configured(), None)
    processes["server"] = {"admin": "nonsense\n"}
    with pytest.raises(Unreachable, match="the process tells no address: nonsense"):
        command.run(configured(), None)
