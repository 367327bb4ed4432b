"""Completions are asked in the shells themselves, and the manual page is read by man."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lane.cli import shells
from lane.cli.commands import COMMANDS
from lane.cli.shipped import MANUAL, SHELLS
from lane.config.settings import options_of

SHARE = Path(__file__).parents[3] / "share"


def bash(words):
    """What bash offers for the last of `words`."""
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"source {SHARE / SHELLS['bash']}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
    return run(
        ["bash", "-c", f"{script} COMP_TYPE=9; _shtab_lane 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\""]
    )


def fish(words):
    script = f"source {SHARE / SHELLS['fish']}; complete -C '{' '.join(words)}'"
    return [line.partition("\t")[0] for line in run(["fish", "--no-config", "-c", script])]


def run(command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return result.stdout.split("\n")[:-1]


SHELL = pytest.mark.parametrize("offered", [bash, fish])


@SHELL
def test_commands_are_offered(offered):
    assert {*COMMANDS} >= {"client", "server"}
    assert {"server", "status"} <= {*offered(["lane", "s"])}


@SHELL
@pytest.mark.parametrize("command", COMMANDS)
def test_all_options_of_a_command_are_offered_and_no_others(offered, command):
    found = {one for one in offered(["lane", *command.split(), "--"]) if one.startswith("--")}
    own = {f"--{option.name}" for option in options_of(command)}
    assert found >= own
    others = {f"--{option.name}" for each in COMMANDS for option in options_of(each)} - own
    assert not found & others


@SHELL
def test_the_client_needs_no_command(offered):
    assert "--server" in offered(["lane", "--ser"])


@SHELL
def test_options_of_plugins_are_offered(offered):
    assert "--qlog-dir" in offered(["lane", "server", "--qlog"])


@SHELL
def test_files_are_offered_where_a_file_is_meant(offered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.pem").touch()
    assert "one.pem" in offered(["lane", "server", "--cert", "on"])


def test_the_script_for_zsh_is_one():
    run(["zsh", "-n", str(SHARE / SHELLS["zsh"])])


def test_the_manual_page_is_shown_without_complaint():
    if shutil.which("man") is None:
        pytest.skip("needs man")
    page = subprocess.run(
        ["man", "--warnings", "-l", str(SHARE / MANUAL)],
        env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert page.stderr == ""
    for command in COMMANDS:
        assert f"\n   lane {command}\n" in page.stdout


def test_the_texts_do_not_depend_on_the_terminal(monkeypatch):
    before = shells.manual(), [shells.completion(shell) for shell in SHELLS]
    monkeypatch.setenv("COLUMNS", "40")
    assert (shells.manual(), [shells.completion(shell) for shell in SHELLS]) == before
