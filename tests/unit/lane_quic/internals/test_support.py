"""An aioquic that lane was not tested with, or that lacks something: no fast path, and the log says so."""

import logging
from types import SimpleNamespace

import pytest
from lane_quic import plugin
from lane_quic.configuration import Settings
from lane_quic.internals import support

from lane import tested
from lane.plugins import Plugins


def test_nothing_is_missing_here():
    assert support.missing() == []


@pytest.fixture
def configured(monkeypatch):
    """Configure the transport: its settings, and what the log was told."""
    monkeypatch.setattr(plugin._transport, "settings", Settings())

    def configure(caplog, fast="on"):
        options = SimpleNamespace(congestion="bbr", quic_fast_path=fast, quic_offload="on", qlog_dir=None)
        plugin.lane_configure(options, Plugins().call_each)
        with caplog.at_level(logging.WARNING, "lane"):
            tested.tell()
        return plugin._transport.settings, [record.getMessage() for record in caplog.records]

    return configure


def test_with_what_was_tested_the_fast_path_is_on(configured, caplog):
    settings, said = configured(caplog)
    assert settings.fast
    assert said == []


def test_with_another_version_the_fast_path_is_off(configured, caplog, monkeypatch):
    monkeypatch.setattr(tested, "version", lambda package: "1.8.0")
    settings, (said,) = configured(caplog)
    assert not settings.fast
    for part in ("aioquic 1.8.0", "tested with 1.7", "--quic-fast-path off"):
        assert part in said


def test_with_a_name_missing_the_fast_path_is_off(configured, caplog, monkeypatch):
    monkeypatch.setattr(support, "examples", [*support.examples, ([], ("append", "_spin"))])
    settings, (said,) = configured(caplog)
    assert not settings.fast
    assert "it lacks list._spin: " in said
