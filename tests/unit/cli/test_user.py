"""`lane user` without a running server."""

import json
import os
import stat
from time import time

import pytest

from lane import cli, state
from lane.link import Link


@pytest.fixture
def folder(tmp_path):
    state.keep(tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def lane(folder, capsys):
    """Run a command on the folder: what it printed, or its status and error if it failed."""

    def run(*argv):
        status = cli.main([*argv[:2], "--state-dir", str(folder), *argv[2:]])
        said = capsys.readouterr()
        return said.out if not status else (status, said.err)

    return run


def accounts(folder):
    store = state.open_accounts(folder)
    found = {account.name: account for account in store.all()}
    store.close()
    return found


HOST = ("--host", "proxy.example")


@pytest.mark.parametrize("name", ["anna", "Zoë", "a b", "李/雷", "🎉", "a'b\"c;--", "50%", "=x", "@file"])
def test_a_user_is_added_with_a_link_and_its_picture(lane, folder, name):
    (link,) = lane("user", "add", name, *HOST).splitlines()
    account = accounts(folder)[name]
    found = Link.parse(link)
    assert (found.key, found.pin) == (account.key, state.read_identity(folder).binding)
    assert str(found.address) == "proxy.example:4433"
    assert lane("user", "link", name, *HOST) == f"{link}\n"
    same, picture = lane("user", "link", name, "--qr", *HOST).split("\n", 1)
    assert same == link
    assert "▀" in picture
    assert json.loads(lane("user", "show", name, "--json"))["name"] == name


def test_a_name_may_begin_with_a_dash(lane, folder):
    lane("user", "add", *HOST, "--", "-x")
    assert "-x" in accounts(folder)
    assert lane("user", "remove", "--", "-x") == "-x: removed\n"


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[31m", "x" * 65])
def test_a_name_that_can_not_be_shown_is_refused(lane, folder, name):
    status, error = lane("user", "add", name, *HOST)
    assert status == 2
    assert error.count("\n") == 1
    assert len(accounts(folder)) == 1


def test_all_limits_are_set_shown_and_lifted(lane, folder):
    options = ["--expires", "30d", "--quota", "100GB/month", "--rate", "50mbit", "--sessions", "10"]
    options += ["--devices", "3", "--note", "of Anna"]
    found = json.loads(lane("user", "add", "anna", *options, *HOST, "--json"))
    assert found["link"].startswith("lane://")
    del found["link"]
    assert abs(found.pop("expires") - time() - 30 * 86400) < 60
    assert abs(found.pop("created") - time()) < 60
    assert found == {
        "name": "anna", "quota": 100 << 30, "rate": 6_250_000, "sessions": 10, "devices": 3,
        "disabled": False, "note": "of Anna",
    }  # fmt: skip
    table = lane("user", "list")
    assert [word in table for word in ("100GB", "50mbit", "of Anna")] == [True] * 3
    shown = lane("user", "show", "anna")
    assert "100GB/month" in shown
    assert "no server runs here" in shown
    lift = [f"--{name}=none" for name in ("expires", "quota", "rate", "sessions", "devices")]
    assert lane("user", "set", "anna", *lift, "--note", "") == "anna: changed\n"
    account = accounts(folder)["anna"]
    values = account.expires, account.quota, account.rate, account.sessions, account.devices, account.note
    assert values == (None, None, None, None, None, "")


def test_a_user_is_disabled_enabled_and_removed(lane, folder, capsys):
    key = accounts(folder)["default"].key
    assert lane("user", "disable", "default") == "default: disabled\n"
    assert accounts(folder)["default"].disabled
    assert "disabled" in lane("user", "list")
    assert json.loads(lane("user", "enable", "default", "--json"))["disabled"] is False
    link = lane("user", "rotate-key", "default", *HOST).strip()
    assert Link.parse(link).key == accounts(folder)["default"].key != key
    assert json.loads(lane("user", "remove", "default", "--json"))["name"] == "default"
    assert lane("user", "list") == "no users: lane user add NAME makes one\n"
    assert json.loads(lane("user", "list", "--json")) == []
    status = cli.main(["link", "--state-dir", str(folder), *HOST])
    said = capsys.readouterr().err
    assert (status, said) == (78, "lane: this server has no user: lane user add NAME makes one\n")


def test_usage_is_shown(lane, folder):
    store = state.open_accounts(folder)
    store.count({"default": (1 << 20, 3 << 30)}, ["default"], time())
    store.close()
    assert ["1MB" in lane("user", "list"), "3GB" in lane("user", "show", "default")] == [True, True]
    (found,) = json.loads(lane("user", "list", "--json"))
    assert (found["up"], found["down"], found["online"]) == (1 << 20, 3 << 30, None)
    assert abs(found["last_seen"] - time()) < 60
    days = json.loads(lane("user", "show", "default", "--json"))["days"]
    assert [*days.values()] == [{"up": 1 << 20, "down": 3 << 30}]


@pytest.mark.parametrize("command", ["show", "set", "disable", "enable", "remove", "rotate-key", "link"])
def test_a_user_who_is_not_there_is_a_clear_error(lane, folder, command):
    more = {"set": ["--quota", "1GB"], "rotate-key": HOST, "link": HOST}.get(command, ())
    assert lane("user", command, "bob", *more) == (2, "lane: there is no user bob\n")
    assert lane("kick", "bob") == (2, "lane: there is no user bob\n")


def test_a_user_who_is_there_is_not_added_again(lane, folder):
    before = accounts(folder)
    assert lane("user", "add", "default", *HOST) == (2, "lane: there is a user default already\n")
    assert accounts(folder) == before


def test_kick_says_that_no_server_runs(lane):
    status, error = lane("kick", "default")
    assert status == 69
    assert "no server answers at" in error


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["user", "add", *HOST], "which user? lane user add NAME"),
        (["user", "set", "default"], "nothing to set"),
        (["user", "add", "bob", "--quota", "lots", *HOST], "--quota: malformed size 'lots'"),
        (["user", "add", "bob", "carol", *HOST], "unexpected argument 'carol'"),
        (["user", "ad", "bob"], "unknown command 'user ad', did you mean user add?"),
    ],
)
def test_a_mistake_is_one_clear_line(lane, folder, argv, message):
    status, error = lane(*argv)
    assert status == 2
    assert message in error
    assert error.count("\n") == 1
    assert [*accounts(folder)] == ["default"]


def test_a_folder_without_a_server_is_left_alone(tmp_path, capsys):
    argv = ["user", "add", "anna", "--state-dir", str(tmp_path / "none"), *HOST]
    assert cli.main(argv) == 78
    assert "no accounts.db in" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_without_a_host_the_link_leads_to_this_machine_and_this_is_said(lane, capsys, folder):
    assert cli.main(["user", "add", "anna", "--state-dir", str(folder), "--listen", ":99"]) == 0
    said = capsys.readouterr()
    assert Link.parse(said.out.split("\n")[0]).address.port == 99
    assert "--host is the name or address that clients use" in said.err


def test_the_image_is_a_secret(lane, folder, tmp_path):
    image = tmp_path / "anna.png"
    image.write_bytes(b"")
    image.chmod(0o644)
    lane("user", "link", "default", "--png", str(image), *HOST)
    assert image.read_bytes().startswith(b"\x89PNG")
    assert stat.S_IMODE(image.stat().st_mode) == 0o600
    status, error = lane("user", "link", "default", "--png", str(tmp_path), *HOST)
    assert (status, error) == (78, f"lane: cannot write {tmp_path}: Is a directory\n")


def test_the_users_of_an_earlier_version_are_taken_over(tmp_path, capsys, folder):
    (folder / "accounts.db").unlink()
    (folder / "keys").write_text(f"anna {'A' * 43}\n")
    (folder / "keys").chmod(0o600)
    assert cli.main(["user", "list", "--json", "--state-dir", str(folder)]) == 0
    said = capsys.readouterr()
    assert [one["name"] for one in json.loads(said.out)] == ["anna"]
    assert (folder / "keys.old").exists()


def test_help_names_the_commands(capsys):
    assert cli.main(["user", "--help"]) == 0
    assert "rotate-key" in capsys.readouterr().out
    assert cli.main(["user"]) == 2
    with pytest.raises(SystemExit):
        cli.main(["user", "add", "--help"])
    assert "lane user add NAME [options]" in capsys.readouterr().out


def test_a_database_that_nobody_may_write_is_a_clear_error(lane, folder, monkeypatch):
    (folder / "accounts.db").write_bytes(b"garbage" * 100)
    status, error = lane("user", "list")
    assert (status, error.count("\n")) == (78, 1)
    assert os.fspath(folder / "accounts.db") in error
