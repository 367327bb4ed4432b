"""`lane service` as a user types it."""

import os
import subprocess
import sys

import pytest


def run(*arguments, env=None, **how):
    command = [sys.executable, "-m", "lane", "service", *arguments]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=100, env=environment, **how
    )


@pytest.mark.parametrize("role", [[], ["--client"], ["--server"]])
@pytest.mark.parametrize("act", ["install", "remove"])
def test_a_dry_run_succeeds_anywhere_and_is_plain_text(act, role):
    result = run(act, *role, "--dry-run", env={"LANE_SERVER": "lane://not-for-this", "LANE_CLIENT": "x"})
    assert result.returncode == 0, result.stderr
    assert result.stdout.replace("\n", "").isprintable()
    assert all(len(line) <= 100 for line in result.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected lane service install or lane service remove"),
        (["start"], "expected lane service install or lane service remove"),
        (["install", "--client", "--server"], "--client or --server, not both: run it once for each"),
        (["install", "--frob"], "unknown option --frob (lane service install --help lists them)"),
    ],
)
def test_wrong_usage_is_one_line(arguments, said):
    result = run(*arguments)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"lane: {said}\n")


@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="would change this system")
def test_without_systemd_nothing_happens():
    result = run("install", "--server")
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr == ("lane: this system is not run by systemd (there is no /run/systemd/system)\n")
    assert not os.path.exists("/etc/systemd/system/lane-server.service")
