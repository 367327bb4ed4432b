"""A diagnosis has no secret in it, wherever lane gets it from, and is complete whatever is broken."""

import json

import pytest

from lane import state
from lane.address import Address
from lane.cli import diag, main
from lane.link import Link, encode

PASSWORD = "correct-horse-battery"
KEY = bytes(range(100, 132))
LINK = str(Link(KEY, Address("proxy.example.com", 4433), bytes(range(32))))


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """Writes a standard configuration file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "lane").mkdir()

    def write(text, name="client.conf"):
        file = tmp_path / "lane" / name
        file.write_text(text)
        file.chmod(0o600)
        return file

    return write


@pytest.fixture
def told(capsys, tmp_path):
    def run(*arguments):
        assert main(["diag", "--state-dir", str(tmp_path / "none"), *arguments]) == 0
        said = capsys.readouterr()
        assert said.out.replace("\n", "").isprintable()
        return said.out

    return run


def is_clean(text):
    assert encode(KEY) not in text
    assert KEY.hex() not in text
    assert PASSWORD not in text
    assert "lane://" not in text
    return True


def test_secrets_of_files_are_removed(conf, told):
    file = conf(
        f"server = {LINK}\nauth = somebody:{PASSWORD}\nvia = socks5://somebody:{PASSWORD}@127.0.0.1:9050\n"
        f"congestion = cubic\nlog-level = debug\n"
    )
    text = told()
    assert is_clean(text)
    assert f"server = [removed]  ({file})" in text
    assert f"auth = [removed]  ({file})" in text
    assert f"via = [removed]  ({file})" in text
    assert f"log-level = debug  ({file})" in text


def test_secrets_of_variables_are_removed(monkeypatch, told):
    monkeypatch.setenv("LANE_SERVER", LINK)
    monkeypatch.setenv("LANE_AUTH", f"somebody:{PASSWORD}")
    monkeypatch.setenv("LANE_KEY", encode(KEY))
    monkeypatch.setenv("LANE_FROB", PASSWORD)
    text = told()
    assert is_clean(text)
    assert "variables: LANE_AUTH, LANE_FROB, LANE_KEY, LANE_SERVER" in text
    assert "LANE_FROB is no option of lane" in text


def test_a_secret_in_the_wrong_place_is_removed(conf, told):
    conf(f"server = @link\nrules = /etc/{encode(KEY)}\nforward = tcp://a:1={LINK}:2\nca = {LINK}\n")
    text = told()
    assert encode(KEY) not in text
    assert "lane://" not in text


@pytest.mark.parametrize(
    "text",
    [
        LINK,
        f"see {LINK} there",
        encode(KEY),
        f"key={encode(KEY)}",
        KEY.hex(),
        f"socks5://me:{PASSWORD}@host:1",
        f"-----BEGIN PRIVATE KEY-----\n{PASSWORD}\n-----END PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{PASSWORD}",
    ],
)
def test_what_looks_like_a_secret_is_replaced(text):
    cleaned = diag.without_secrets(text)
    assert is_clean(cleaned)
    assert diag.HIDDEN in cleaned


def test_files_with_secrets_are_named_and_not_read(conf, told, tmp_path):
    (tmp_path / "link").write_text(LINK)
    conf(f"server = @{tmp_path}/link\n")
    text = told()
    assert is_clean(text)
    assert f"server = @{tmp_path}/link" in text


def test_the_keys_of_a_server_do_not_show(told, tmp_path, capsys):
    kept = state.keep(tmp_path / "state")
    assert main(["diag", "--state-dir", str(tmp_path / "state")]) == 0
    text = capsys.readouterr().out
    assert encode(kept.first.key) not in text
    assert "PRIVATE KEY" not in text


@pytest.mark.parametrize("name", ["client.conf", "server.conf"])
def test_a_broken_file_does_not_stop_it(name, conf, told):
    file = conf(f"rubbish {PASSWORD}", name)
    text = told()
    assert is_clean(text)
    assert f"{file}:1: expected `key = value`" in text
    assert "## system" in text


def test_a_part_that_fails_says_so(monkeypatch, told):
    def fails():
        raise RuntimeError(f"no luck with {LINK}")

    monkeypatch.setattr(diag, "_system", fails)
    text = told()
    assert "failed: RuntimeError: no luck with [removed]" in text


def test_it_says_what_runs_where(told):
    text = told()
    for words in (
        "## versions",
        "Python 3.",
        "gevent ",
        "quic ",
        "no client answers at",
        "no server answers at",
    ):
        assert words in text, words


def test_a_running_client_answers(told, monkeypatch):
    snapshot = {"choice": "tls", "reason": f"because of {LINK}", "time": 1, "since": 1}
    monkeypatch.setattr(diag, "ask", lambda *_, **__: iter([json.loads(json.dumps(snapshot))]))
    monkeypatch.setattr(diag.status, "report", lambda snapshot: "a server")
    text = told("--control", "/run/lane/x.sock")
    assert "carried by tls since" in text
    assert is_clean(text)
