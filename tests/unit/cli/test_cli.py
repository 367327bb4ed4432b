"""The command line from outside: exit statuses, and lines on standard error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lane import cli
from lane.config import client_config, server_config
from tests.support.command_line import LINK, fails, parse


def test_an_unknown_option_is_2(run_lane):
    fails(run_lane("--foo", "x"), 2, r"lane: unknown option --foo \(lane client --help lists them\)")
    fails(run_lane("server", "--lis=x"), 2, r"lane: unknown option --lis.* \(lane server --help lists them\)")


def test_an_unknown_command_or_argument_is_2_and_shows_no_link(run_lane):
    fails(run_lane("frob"), 2, r"lane: unknown command 'frob' \(lane --help lists them\)")
    fails(run_lane("lane://KEY@h:1"), 2, r"lane: unknown command \(a link is given with --server; .*\)")
    fails(run_lane("client", "lane://KEY@h:1"), 2, "lane: a link is given with --server")
    fails(run_lane("client", "odd"), 2, r"lane: unexpected argument 'odd' \(lane client --help .*\)")
    fails(run_lane("client", "--listen"), 2, "lane: argument --listen: expected one argument")


def test_a_secret_in_a_file_that_others_may_read_is_78(run_lane, conf):
    file, wrong = conf(f"server = {LINK}\n"), r"others may read it \(chmod 600 .*\)"
    file.chmod(0o644)
    fails(run_lane("-c", file), 78, f"lane: {file}: server: a secret, and {wrong}")
    file.write_text(LINK)
    fails(run_lane("--server", f"@{file}"), 78, f"lane: {file}: refused, since {wrong}")


def test_a_malformed_link_is_2_on_the_command_line_and_78_in_a_file(run_lane, conf):
    fails(run_lane("--server", "lane://x"), 2, "lane: --server: .*")
    file = conf("server = lane://x\n")
    fails(run_lane("-c", file), 78, f"lane: {file}: server: .*")
    file.chmod(0o600)
    fails(run_lane("--server", f"@{file}"), 78, f"lane: {file}: malformed .*")
    fails(run_lane(env={"LANE_SERVER": "lane://x"}), 2, "lane: LANE_SERVER: .*")


def test_an_unknown_key_in_a_file_is_78(run_lane, conf):
    file = conf("# fine\nserver = embedded\nfoo = 1\n")
    fails(run_lane("-c", file), 78, f"lane: {file}: unknown key 'foo'")


def test_a_missing_file_is_78(run_lane, tmp_path):
    fails(run_lane("-c", "missing.conf"), 78, r"lane: cannot read missing\.conf: No such file or directory")
    fails(run_lane("--config=."), 78, r"lane: cannot read \.: Is a directory")
    fails(run_lane("--plugin-dir", "missing"), 78, "lane: plugin folder missing: No such file or directory")


def test_check_needs_a_server(run_lane):
    fails(run_lane("check"), 2, "lane: no server to check: pass --server")


def test_a_reader_that_is_gone_is_quiet(tmp_path):
    reader, pipe = os.pipe()
    os.close(reader)
    try:
        argv = [sys.executable, "-m", "lane", "--help"]
        result = subprocess.run(argv, stdout=pipe, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(pipe)
    assert (result.returncode, result.stderr) == (1, b"")


def test_an_interrupt_is_130(monkeypatch):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    assert cli.main([]) == 130


def no_home(monkeypatch):
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)


@pytest.mark.parametrize("command", ["server", "link"])
def test_who_has_no_home(command, monkeypatch, tmp_path, capsys):
    no_home(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~/.config/lane").mkdir(parents=True)
    (tmp_path / "~/.config/lane/server.conf").write_text("nonsense")
    assert cli.main([command, "--listen", "127.0.0.1:0", "--host", "h:1"]) == 2
    err = capsys.readouterr().err
    assert (
        err == "lane: this user has no home: pass --state-dir DIR, where certificate and accounts are kept\n"
    )
    assert cli.main([command, "--state-dir", "~/x", "--host", "h:1"]) == 2
    assert "--state-dir: ~/x: there is no home ~ here: give the path in full" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["~"]
    assert server_config(parse("server", "--state-dir", "x")[0]).state_dir == Path("x")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/lane:/var/lib/other")
    assert server_config(parse("server")[0]).state_dir == Path("/var/lib/lane")
    assert client_config(parse("client")[0]).server is None


def test_a_home_of_the_state_that_is_no_full_path_is_ignored(monkeypatch):
    """XDG Base Directory says so."""
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    monkeypatch.setenv("HOME", "/home/me")
    assert server_config(parse("server")[0]).state_dir == Path("/home/me/.local/state/lane")
