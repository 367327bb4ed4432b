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


@pytest.fixture
def folder(tmp_path):
    """A folder that was in use."""
    state.keep(tmp_path / "state")
    return tmp_path / "state"


def test_all_is_made_once_and_kept(tmp_path):
    folder = tmp_path / "a" / "state"
    first = state.keep(folder)
    assert first.made == ("identity.pem", "keys")
    again = state.keep(folder)
    assert again.made == ()
    assert (again.identity, again.keys) == (first.identity, first.keys)
    assert state.look(folder) == again
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {name: stat.S_IMODE((folder / name).stat().st_mode) for name in os.listdir(folder)} == {
        "identity.pem": 0o600,
        "keys": 0o600,
    }
    assert (folder / "keys").read_text() == f"default {encode(first.keys.first[1])}\n"
    assert state.keep(tmp_path / "b").identity.binding != first.identity.binding


def test_an_own_identity_is_not_kept(tmp_path):
    own = ServerIdentity.make()
    first = state.keep(tmp_path / "state", own)
    assert first.made == ("keys",)
    assert first.identity is own
    assert state.look(tmp_path / "state", own).keys == first.keys
    assert os.listdir(tmp_path / "state") == ["keys"]


@pytest.mark.parametrize(("lost", "left"), [("identity.pem", "keys"), ("keys", "identity.pem")])
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
    (folder / "keys").unlink()
    with pytest.raises(ConfigError, match="no keys in"):
        state.keep(folder, ServerIdentity.make())


def test_back_from_an_own_identity(tmp_path):
    state.keep(tmp_path, ServerIdentity.make())
    with pytest.raises(ConfigError, match=r"no identity\.pem in .*, but keys"):
        state.keep(tmp_path)


def test_a_link_to_what_is_not_mounted_is_not_replaced(folder):
    (folder / "keys").unlink()
    (folder / "keys").symlink_to(folder / "mnt" / "keys")
    with pytest.raises(ConfigError, match=r"cannot read .*keys: No such file"):
        state.keep(folder)
    assert (folder / "keys").is_symlink()


@pytest.mark.parametrize("name", ["keys", "identity.pem"])
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
        "print(found.identity.binding.hex(), found.keys.first)"
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
    assert sorted(os.listdir(folder)) == ["identity.pem", "keys"]


def test_who_comes_second_takes_what_the_first_made(tmp_path, monkeypatch):
    """The first is made to finish just as the second gets the lock."""
    flock, firsts = fcntl.flock, []

    def lock(folder, how):
        monkeypatch.setattr(fcntl, "flock", lambda folder, how: None)
        firsts.append(state.keep(tmp_path))
        flock(folder, how)

    monkeypatch.setattr(fcntl, "flock", lock)
    second = state.keep(tmp_path)
    assert second.keys == firsts[0].keys
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
