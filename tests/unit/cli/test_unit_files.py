"""`lane service install` and `lane service remove`, on a system in a folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lane.cli import service_install, service_remove, unit_files
from lane.config import ServiceConfig
from lane.errors import ConfigError

ROLES = pytest.mark.parametrize("role", ["client", "server"])


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A folder that looks like a system that systemd runs; its file `ran` has the commands that were run."""
    root, tools = tmp_path / "system", tmp_path / "tools"
    (root / "run/systemd/system").mkdir(parents=True)
    tools.mkdir()
    tool = tools / "systemctl"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {root / "ran"}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(unit_files, "fitness", lambda: "")
    return root


def install(role, root, *, dry=False):
    return service_install.run(ServiceConfig(role, dry), None, root)


def remove(role, root, *, dry=False):
    return service_remove.run(ServiceConfig(role, dry), None, root)


def files(root):
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def unit(role, root):
    return root / f"etc/systemd/system/lane-{role}.service"


@ROLES
def test_it_writes_unit_and_configuration_and_takes_them_away(role, system, capsys):
    assert install(role, system) == 0
    assert {*files(system)} == {f"etc/systemd/system/lane-{role}.service", f"etc/lane/{role}.conf", "ran"}
    said = capsys.readouterr().out
    for line in (
        f"wrote {unit(role, system)}",
        f"lane service remove --{role}",
        "ran systemctl daemon-reload",
    ):
        assert line in said
    assert remove(role, system) == 0
    assert {*files(system)} == {"ran"}
    assert (system / "ran").read_text().splitlines() == [
        "daemon-reload",
        f"disable --now lane-{role}",
        "daemon-reload",
    ]


@ROLES
def test_a_dry_run_changes_nothing(role, system, capsys):
    assert install(role, system, dry=True) == 0
    assert not files(system)
    assert f"would write {unit(role, system)}\n" in capsys.readouterr().out
    install(role, system)
    before = files(system)
    assert remove(role, system, dry=True) == 0
    assert files(system) == before
    assert f"would remove {unit(role, system)}\n" in capsys.readouterr().out


@ROLES
def test_installing_again_writes_the_unit_anew(role, system, monkeypatch):
    install(role, system)
    monkeypatch.setattr(unit_files, "program", lambda: Path("/opt/newer/bin/lane"))
    install(role, system)
    assert f"\nExecStart=/opt/newer/bin/lane {role}\n" in unit(role, system).read_text()
    remove(role, system)
    assert {*files(system)} == {"ran"}


@ROLES
@pytest.mark.parametrize("act", [install, remove])
def test_what_lane_did_not_write_stays(role, act, system):
    path = unit(role, system)
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\n")
    before = files(system)
    with pytest.raises(ConfigError, match="was not written by lane service install"):
        act(role, system)
    assert files(system) == before


@ROLES
@pytest.mark.parametrize("act", [install, remove])
def test_a_changed_unit_stays(role, act, system):
    install(role, system)
    with unit(role, system).open("a") as file:
        file.write("Environment=A=B\n")
    before = files(system)
    with pytest.raises(ConfigError, match="or was changed since"):
        act(role, system)
    assert files(system) == before


@ROLES
def test_a_masked_unit_stays(role, system):
    unit(role, system).parent.mkdir(parents=True)
    unit(role, system).symlink_to("/dev/null")
    with pytest.raises(ConfigError, match="was not written"):
        install(role, system)


@ROLES
def test_a_configuration_of_the_users_is_kept(role, system, capsys):
    conf = system / f"etc/lane/{role}.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("log-level = debug\n")
    install(role, system)
    assert conf.read_text() == "log-level = debug\n"
    remove(role, system)
    assert conf.read_text() == "log-level = debug\n"
    assert f"kept {conf}, which is yours\n" in capsys.readouterr().out


def test_the_keys_of_a_server_are_kept(system, capsys):
    (system / "var/lib/lane").mkdir(parents=True)
    install("server", system)
    remove("server", system)
    assert (
        f"kept {system / 'var/lib/lane'}: without it, links to this server stop working\n"
        in capsys.readouterr().out
    )


def test_a_unit_of_a_package_is_not_shadowed(system):
    packaged = system / "usr/lib/systemd/system/lane-server.service"
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    with pytest.raises(ConfigError, match="is from a package: systemctl enable --now lane-server starts it"):
        install("server", system)


def test_removing_nothing_is_no_error(system, capsys):
    assert remove("client", system) == 0
    assert capsys.readouterr().out == f"no {unit('client', system)}\n"


def test_a_client_reads_its_link_as_a_credential(system):
    install("client", system)
    assert "\nLoadCredential=link:/etc/lane/link\n" in unit("client", system).read_text()
    conf = (system / "etc/lane/client.conf").read_text()
    assert "\nserver = @/run/credentials/lane-client.service/link\n" in conf


def test_a_client_with_another_server_needs_no_credential(system):
    (system / "etc/lane").mkdir(parents=True)
    (system / "etc/lane/client.conf").write_text("server = embedded\n")
    install("client", system)
    assert "\n#LoadCredential=link:/etc/lane/link\n" in unit("client", system).read_text()


def test_other_users_may_read_what_the_service_reads(system):
    before = os.umask(0o077)
    try:
        install("server", system)
    finally:
        os.umask(before)
    for path in (unit("server", system), system / "etc/lane/server.conf"):
        assert path.stat().st_mode & 0o777 == 0o644
    assert (system / "etc/lane").stat().st_mode & 0o777 == 0o755


def test_it_needs_root(system, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="needs root: put sudo before it"):
        install("server", system)
    assert not files(system)


def test_it_needs_systemd(tmp_path):
    with pytest.raises(ConfigError, match="not run by systemd"):
        install("server", tmp_path)
    assert not files(tmp_path)


def test_a_dry_run_says_what_is_missing(tmp_path, capsys):
    assert install("server", tmp_path, dry=True) == 0
    said = capsys.readouterr()
    assert "lane: it would fail here: this system is not run by systemd" in said.err
    assert "would write" in said.out


def test_a_lane_that_the_service_could_not_see_is_not_installed(system, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "prefix", "/home/somebody/.local/pipx/venvs/lane")
    with pytest.raises(ConfigError, match="a service can't see /"):
        install("server", system)
    assert not files(system)


def test_a_failure_of_systemctl_is_reported(system, tmp_path):
    (tmp_path / "tools/systemctl").write_text("#!/bin/sh\necho 'Access denied' >&2; exit 4\n")
    with pytest.raises(ConfigError, match="systemctl daemon-reload: Access denied"):
        install("server", system)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/usr/local/bin/lane", "/usr/local/bin/lane"),
        ("/opt/my lane/bin/lane", '"/opt/my lane/bin/lane"'),
        ("/usr/bin/python3", "/usr/bin/python3 -m lane"),
        ("/opt/50%/lane", "/opt/50%%/lane"),
    ],
)
def test_the_unit_starts_the_lane_that_wrote_it(path, words, system, monkeypatch):
    monkeypatch.setattr(unit_files, "program", lambda: Path(path))
    install("server", system)
    assert f"\nExecStart={words} server\n" in unit("server", system).read_text()


@ROLES
def test_systemd_understands_the_unit(role, system):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    install(role, system)
    result = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(unit(role, system))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (result.stdout + result.stderr, result.returncode) == ("", 0)
