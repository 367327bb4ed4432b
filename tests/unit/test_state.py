"""What a server keeps: made once, never anew beside what clients know, nobody else's to read or change."""

import fcntl
import os
import stat
import subprocess
import sys

import pytest

from lane import state
from lane.certs import ServerIdentity
from lane.errors import ConfigError
from lane.link import encode
from lane.users.store import Store


@pytest.fixture
def folder(tmp_path):
    """A folder that was in use."""
    state.keep(tmp_path / "state")
    return tmp_path / "state"


def test_all_is_made_once_and_kept(tmp_path):
    folder = tmp_path / "a" / "state"
    first = state.keep(folder)
    assert first.made == ("identity.pem", "accounts.db")
    again = state.keep(folder)
    assert again.made == ()
    assert (again.identity, again.first) == (first.identity, first.first)
    assert state.look(folder) == again
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {name: stat.S_IMODE((folder / name).stat().st_mode) for name in os.listdir(folder)} == {
        "identity.pem": 0o600,
        "accounts.db": 0o600,
    }
    assert first.first.name == "default"
    assert state.keep(tmp_path / "b").identity.binding != first.identity.binding


def test_an_own_identity_is_not_kept(tmp_path):
    own = ServerIdentity.make()
    first = state.keep(tmp_path / "state", own)
    assert first.made == ("accounts.db",)
    assert first.identity is own
    assert state.look(tmp_path / "state", own).first == first.first
    assert os.listdir(tmp_path / "state") == ["accounts.db"]


@pytest.mark.parametrize(("lost", "left"), [("identity.pem", "accounts.db"), ("accounts.db", "identity.pem")])
def test_what_is_lost_is_not_made_anew_without_a_word(folder, lost, left, caplog):
    before = (folder / left).read_bytes()
    (folder / lost).unlink()
    with pytest.raises(ConfigError, match=rf"no {lost} in .*state, but {left}: .* links .* --renew"):
        state.keep(folder)
    assert os.listdir(folder) == [left]
    assert state.keep(folder, renew=True).made == (lost,)
    assert f"made a new {lost}: links from before do not work any more" in caplog.text
    assert (folder / left).read_bytes() == before
    assert state.keep(folder, renew=True).made == ()


def test_lost_keys_beside_an_own_identity(folder):
    (folder / "accounts.db").unlink()
    with pytest.raises(ConfigError, match=r"no accounts\.db in"):
        state.keep(folder, ServerIdentity.make())


def test_back_from_an_own_identity(tmp_path):
    state.keep(tmp_path, ServerIdentity.make())
    with pytest.raises(ConfigError, match=r"no identity\.pem in .*, but accounts.db"):
        state.keep(tmp_path)


def test_a_link_to_what_is_not_mounted_is_not_replaced(folder):
    (folder / "accounts.db").unlink()
    (folder / "accounts.db").symlink_to(folder / "mnt" / "accounts.db")
    with pytest.raises(ConfigError, match=r"cannot read .*accounts.db: No such file"):
        state.keep(folder)
    assert (folder / "accounts.db").is_symlink()


@pytest.mark.parametrize("name", ["accounts.db", "identity.pem"])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o666, 0o620, 0o602])
@pytest.mark.parametrize("way", [state.keep, state.look])
def test_secrets_that_others_may_read_or_change_are_refused(folder, name, mode, way):
    (folder / name).chmod(mode)
    with pytest.raises(ConfigError, match=rf"{name}: refused, since others may .* it \(chmod 600 .*{name}\)"):
        way(folder)
    (folder / name).chmod(0o400)
    way(folder)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777, 0o722])
def test_a_folder_that_others_may_write_to_is_refused(folder, mode):
    folder.chmod(mode)
    with pytest.raises(ConfigError, match=r"state folder .*: others may write to it"):
        state.keep(folder)
    folder.chmod(0o755)
    state.keep(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_a_folder_of_another_user_is_refused(folder):
    os.chown(folder, 12345, -1)
    with pytest.raises(ConfigError, match="others may write to it"):
        state.keep(folder)
    state.look(folder)  # root asks for the link of a service


def test_processes_that_start_together_share_one_identity_and_key(tmp_path):
    program = (
        "import sys; from pathlib import Path; from lane import state; print('ready', flush=True);"
        "sys.stdin.readline(); found = state.keep(Path(sys.argv[1]));"
        "print(found.identity.binding.hex(), found.first.key)"
    )
    folder = tmp_path / "state"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    answers = []
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        answers.append(child.communicate(timeout=60)[0])
        assert child.returncode == 0
    assert len(set(answers)) == 1
    assert answers[0]
    assert sorted(os.listdir(folder)) == ["accounts.db", "identity.pem"]


def test_who_comes_second_takes_what_the_first_made(tmp_path, monkeypatch):
    """The first is made to finish just as the second gets the lock."""
    flock, firsts = fcntl.flock, []

    def lock(folder, how):
        monkeypatch.setattr(fcntl, "flock", lambda folder, how: None)
        firsts.append(state.keep(tmp_path))
        flock(folder, how)

    monkeypatch.setattr(fcntl, "flock", lock)
    second = state.keep(tmp_path)
    assert second.first == firsts[0].first
    assert second.made == ()


def test_a_state_folder_that_can_not_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write to .*state: "):
        state.keep(tmp_path / "file" / "state")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state.os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        state.keep(tmp_path / "state")
    assert os.listdir(tmp_path / "state") == []


def test_a_kept_identity_that_was_damaged(folder):
    (folder / "identity.pem").write_text("garbage")
    with pytest.raises(ConfigError, match=r"no certificate in .*identity\.pem"):
        state.keep(folder)


def old(folder, *names):
    """A folder of an earlier version, with these users and keys of their letters."""
    state.keep(folder)
    (folder / "accounts.db").unlink()
    (folder / "keys").write_text("".join(f"{name} {encode(name[:1].encode() * 32)}\n" for name in names))
    (folder / "keys").chmod(0o600)
    return (folder / "keys").read_bytes()


@pytest.mark.parametrize("way", [state.keep, state.open_accounts])
def test_the_users_of_an_earlier_version_are_taken_over_once(tmp_path, way, caplog):
    before = old(tmp_path, "anna", "bob")
    assert state.look(tmp_path).first.name == "anna"
    assert not (tmp_path / "accounts.db").exists()
    way(tmp_path)
    assert f"{tmp_path / 'keys'} was taken over: its 2 users are in accounts.db now" in caplog.text
    assert "keys.old now, and not read" in caplog.text
    assert (tmp_path / "keys.old").read_bytes() == before
    found = [(one.name, one.key) for one in Store(tmp_path / "accounts.db").all()]
    assert found == [("anna", b"a" * 32), ("bob", b"b" * 32)]
    caplog.clear()
    assert state.keep(tmp_path).made == ()
    assert caplog.text == ""
    assert state.look(tmp_path).first.name == "anna"


def test_a_bad_file_of_an_earlier_version_changes_nothing(tmp_path):
    old(tmp_path, "anna")
    (tmp_path / "keys").write_text("anna no-key\n")
    with pytest.raises(ConfigError, match="keys, line 1: the key is not 32 bytes"):
        state.keep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["identity.pem", "keys"]


def test_keys_beside_accounts_are_not_read_and_this_is_said(tmp_path, caplog):
    old(tmp_path, "anna")
    state.keep(tmp_path)
    old(tmp_path / "other", "bob")
    (tmp_path / "other" / "keys").rename(tmp_path / "keys")
    caplog.clear()
    assert state.keep(tmp_path).first.name == "anna"
    assert f"{tmp_path / 'keys'} is not read: users are in {tmp_path / 'accounts.db'}" in caplog.text


def test_accounts_that_are_elsewhere(tmp_path):
    found = state.keep(tmp_path, accounts=False)
    assert (found.first, found.made) == (None, ("identity.pem",))
    assert os.listdir(tmp_path) == ["identity.pem"]
    assert state.keep(tmp_path, accounts=False).identity == found.identity
