"""qlog files, key logs and counters: what a connection did can be seen, and costs nothing if nobody looks."""

import json
import logging
import os
import stat

import pytest
from lane_quic import plugin
from lane_quic.configuration import Settings
from lane_quic.plugin import QuicTransport
from lane_quic.trace import qlog

from lane.errors import ConfigError
from lane.stream import Address
from lane.testing.harness import Kit, until
from tests.support.quic_endpoints import exchange


def kit_with(**settings):
    transport = QuicTransport()
    transport.settings = Settings(**settings)
    return Kit(transport, Address("127.0.0.1", 0))


def records(path):
    """JSON text sequences (RFC 7464)."""
    return [json.loads(record) for record in path.read_text().split("\x1e") if record]


def test_each_connection_writes_a_file_that_says_what_was_sent_and_received(tmp_path):
    kit = kit_with(qlog=qlog.Qlog(tmp_path / "new"))
    near, far = kit.dial()
    exchange(near, far, 50_000)
    near.close()
    until(lambda: far.closed)
    kit.close()
    files = sorted((tmp_path / "new").glob("*.sqlog"))
    assert [path.stem.rpartition("-")[2] for path in files] == ["client", "server"]
    for path in files:
        head, *events = records(path)
        assert (head["qlog_format"], head["qlog_version"]) == ("JSON-SEQ", "0.3")
        assert head["trace"]["vantage_point"]["type"] in path.name
        names = {event["name"] for event in events}
        assert {"transport:packet_sent", "transport:packet_received", "recovery:metrics_updated"} <= names
        assert [event["time"] for event in events] == sorted(event["time"] for event in events)
        for name in ("transport:packet_sent", "transport:packet_received"):
            frames = [f for event in events if event["name"] == name for f in event["data"]["frames"]]
            streams = sum(f["length"] for f in frames if f["frame_type"] == "stream")
            assert streams >= 50_000, name
        assert any(event["data"].get("smoothed_rtt") for event in events)


def test_a_qlog_is_bounded_and_a_full_disk_ends_it_only(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(qlog, "MOST_BYTES", 5000)
    kit = kit_with(qlog=qlog.Qlog(tmp_path))
    near, far = kit.dial()
    exchange(near, far)

    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

    trace = near.engine._quic_logger
    trace._file.close()
    trace._file, trace._left = Full(), 1 << 20
    exchange(near, far)
    assert "No space left" in caplog.text
    near.close()
    until(lambda: far.closed)
    kit.close()
    assert all(path.stat().st_size <= 5000 for path in tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--qlog-dir: .*file"):
        qlog.Qlog(tmp_path / "file" / "below")


def test_the_secrets_of_connections_go_where_sslkeylogfile_says(tmp_path, monkeypatch, caplog):
    path = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    with caplog.at_level(logging.WARNING):
        keys = plugin._key_log()
    assert str(path) in caplog.text
    kit = kit_with(keys=keys)
    exchange(*kit.dial())
    kit.close()
    keys.close()
    labels = {line.split()[0] for line in path.read_text().splitlines()}
    assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= labels
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "no" / "keys"))
    with pytest.raises(ConfigError, match="SSLKEYLOGFILE"):
        plugin._key_log()
    monkeypatch.delenv("SSLKEYLOGFILE")
    assert plugin._key_log() is None


def test_a_full_disk_costs_secrets_and_no_connection(monkeypatch, caplog):
    monkeypatch.setenv("SSLKEYLOGFILE", "/dev/full")
    keys = plugin._key_log()
    caplog.clear()
    kit = kit_with(keys=keys)
    exchange(*kit.dial())
    kit.close()
    keys.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"], "once, not for each secret"
    assert "No space left" in caplog.text


def test_counters_tell_of_a_connection(caplog):
    kit = kit_with()
    near, far = kit.dial()
    exchange(near, far, 2_000_000)
    more = near.stats().more
    assert more["packet_size"] == 1452
    assert more["packets_a_batch"] > 1
    assert 0 < more["acks"] < 2_000_000 / 1200
    assert more["spurious"] >= 0
    assert more["reordering"] > 0
    with caplog.at_level(logging.DEBUG, "lane.quic"):
        near.close()
    assert "packets_a_batch" in caplog.text
    kit.close()
