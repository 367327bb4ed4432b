"""What SIGHUP reads: each thing for itself, the newest time only, and no word where nothing changed."""

import logging
import os

import gevent
import pytest

from lane.address import Address
from lane.cli import option_parser, routing
from lane.cli.reload import Reloading, rereading
from lane.config import client_config
from lane.egress.rules import Action
from lane.errors import ConfigError
from lane.plugins import Plugins
from lane.testing.harness import until

TARGET = Address("example.com", 443)


@pytest.fixture(autouse=True)
def _audible(caplog):
    caplog.set_level(logging.INFO, "lane")


def configured(tmp_path, text, *texts):
    path = tmp_path / "rules"
    path.write_text(text)
    return client_config(option_parser.defaults("client", rules=str(path), rule=list(texts) or None)), path


def routed(config):
    made = routing.make_routes(config, Plugins(), None, None)  # it asks neither
    return made, Reloading(config, None, {"rules": lambda now: routing.read_again(made, now)})


def test_the_file_of_rules(tmp_path, caplog):
    config, path = configured(tmp_path, "block example.com", "block first.example")
    made, again = routed(config)
    path.write_text("direct example.com")
    again()
    until(lambda: made.action(TARGET) is Action.DIRECT)
    assert made.action(Address("first.example", 1)) is Action.BLOCK
    for text, what in (("nonsense", ":1: malformed rule 'nonsense'"), (None, "no such file")):
        caplog.clear()
        path.write_text(text) if text else path.unlink()
        again()
        until(lambda: "read again on SIGHUP: nothing" in caplog.messages)
        assert what in caplog.text
        assert "the rules stayed as before" in caplog.text
        assert made.action(TARGET) is Action.DIRECT


def test_the_newest_call_counts(tmp_path, caplog):
    config, path = configured(tmp_path, "lane *")
    made, again = routed(config)
    comments = "# it takes a while\n" * 200_000
    path.write_text(f"block *\n{comments}")
    for _ in range(20):
        again()
        gevent.sleep(0.001)  # it is being read
    other = tmp_path / "other"
    other.write_text("direct *")
    os.replace(other, path)
    again()
    until(lambda: made.action(TARGET) is Action.DIRECT)
    path.write_text(f"lane *\n{comments}")
    again()
    until(lambda: made.action(TARGET) is Action.LANE)  # those that were given up would have been ready, too
    until(lambda: len(caplog.records) >= 2)
    assert caplog.messages == [f"read again on SIGHUP: {path}"] * 2


def test_one_that_fails_keeps_no_other_from_being_read(caplog):
    def wrong(config):
        raise ConfigError("that is wrong")

    def broken(config):
        raise ZeroDivisionError

    config = client_config(option_parser.defaults("client"))
    Reloading(config, None, {"first": wrong, "second": broken, "third": lambda now: "the third"})()
    until(lambda: "read again on SIGHUP: the third" in caplog.messages)
    assert "SIGHUP: the first stayed as before: that is wrong" in caplog.messages
    assert "reading the second again failed" in caplog.text


def started(argv, tmp_path):
    plugins = Plugins()
    namespace, _ = option_parser.parse("client", argv, print, plugins)
    return rereading("client", argv, namespace, plugins, client_config)


def test_what_changes_and_what_takes_a_restart(tmp_path):
    conf = tmp_path / "conf"
    conf.write_text("rule = block a.example\nserver = embedded\n")
    again = started(["-c", str(conf), "--grace", "1s"], tmp_path)
    changed = "listen = 127.0.0.1:1\ngrace = 9s\nmax-sessions = 7\n"
    conf.write_text(f"rule = block b.example\nserver = embedded\n{changed}")
    config, fixed = again()
    assert [rule.text for rule in config.rules] == ["block b.example"]
    assert fixed == ["--listen", "--max-sessions"]
    assert (config.listen, config.max_sessions, config.grace) == (Address("127.0.0.1", 1080), 4096, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "conf:1: expected `key = value`"),
        ("colour = blue", "unknown key 'colour'"),
        ("max-sessions = many", "max-sessions: malformed number"),
        ("listen = 0.0.0.0:1080", "listen: .* needs auth"),
        (None, "cannot read .*conf"),
    ],
)
def test_a_configuration_with_a_mistake_counts_as_a_whole(tmp_path, text, message):
    conf = tmp_path / "conf"
    conf.write_text("server = embedded\n")
    again = started(["-c", str(conf)], tmp_path)
    conf.write_text(f"{text}\nrule = block *\nserver = embedded\n") if text else conf.unlink()
    with pytest.raises(ConfigError, match=message):
        again()


def test_a_password_is_not_lost_where_other_machines_reach_the_port(tmp_path):
    """Neither change alone is wrong in the file, but the port stays where it is."""
    conf = tmp_path / "conf"
    conf.touch(0o600)
    conf.write_text("server = embedded\nlisten = 0.0.0.0:0\nauth = me:secret\n")
    again = started(["-c", str(conf)], tmp_path)
    conf.write_text("server = embedded\nlisten = 127.0.0.1:0\n")
    with pytest.raises(ConfigError, match=r"needs auth"):
        again()
