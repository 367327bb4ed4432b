"""`lane link`: the link of a server, alone."""

import os
from pathlib import Path

import pytest

from lane import cli, state
from lane.certs import ServerIdentity
from lane.link import Link
from tests.support.command_line import fails


def test_link_prints_the_link_alone(run_lane, tmp_path):
    folder = tmp_path / "state"
    kept = state.keep(folder)
    result = run_lane("link", "--state-dir", folder, "--host", "proxy.example:99")
    assert (result.returncode, result.stderr) == (0, "")
    link = Link.parse(result.stdout)
    assert (link.key, str(link.address), link.pin) == (
        kept.first.key,
        "proxy.example:99",
        kept.identity.binding,
    )


def test_link_of_a_server_with_a_certificate_of_its_own(tmp_path, capsys):
    folder, other = tmp_path / "state", ServerIdentity.make()
    state.keep(folder, other)
    (tmp_path / "cert").write_bytes(other.chain_pem)
    (tmp_path / "key").write_bytes(other.key_pem)
    (tmp_path / "key").chmod(0o600)
    argv = ["link", "--state-dir", str(folder), "--host", "h", "--cert", str(tmp_path / "cert")]
    assert cli.main([*argv, "--cert-key", str(tmp_path / "key")]) == 0
    link = Link.parse(capsys.readouterr().out)
    assert (str(link.address), link.pin) == ("h:4433", other.binding)


def test_link_makes_no_accounts(run_lane, tmp_path):
    state = tmp_path / "state"
    result = run_lane("link", "--state-dir", state, "--host", "proxy.example:99")
    fails(result, 78, f"lane: no accounts.db in {state}: lane server makes it at its first start")
    assert not state.exists()
    fails(run_lane("link", "--state-dir", state), 2, "lane: pass --host HOST:PORT, where .*")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::]", "127.9.9.9"])
def test_a_link_for_this_machine_only_is_told(tmp_path, capsys, host):
    state.keep(tmp_path / "state")
    argv = ["link", "--state-dir", str(tmp_path / "state"), "--host"]
    assert cli.main([*argv, f"{host}:4433"]) == 0
    said = capsys.readouterr()
    assert Link.parse(said.out).address.host == host.strip("[]")
    assert said.err.endswith(" works on this machine only: --host is the name or address that clients use\n")
    assert cli.main([*argv, "192.0.2.1"]) == 0
    assert capsys.readouterr().err == ""


def test_a_link_that_this_user_may_not_read(tmp_path, capsys, monkeypatch):
    state.keep(tmp_path / "state")

    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", forbidden)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["link", "--state-dir", str(tmp_path / "state"), "--host", "h"]) == 78
    said = f"lane: cannot read {tmp_path / 'state' / 'accounts.db'}: Permission denied (try it with sudo)\n"
    assert capsys.readouterr().err == said
