"""What lane needs of aioquic's private names: canaries that fail when a new one means something else."""

import inspect
import re

import pytest
from aioquic.quic import recovery, stream
from aioquic.quic.connection import QuicConnection, QuicConnectionState
from aioquic.tls import Epoch
from lane_quic.configuration import client_configuration, reset_token, server_configuration
from lane_quic.engine.ack_timing import ACK_DELAY_SLACK, MAX_ACK_DELAY
from lane_quic.engine.engine import Engine
from lane_quic.engine.flow_control import STREAMS
from lane_quic.engine.received_packets import KNOWN_PACKETS
from lane_quic.fastpath import send as fast_send
from lane_quic.recovery.recovery import Recovery

from lane.stream import LinkStats
from tests.support.quic_pipe import IDENTITY, STATE_KEY, Pipe

ADVICE = "aioquic changed: look at lane_quic/engine/engine.py and what stands beside it"


def source(thing):
    return inspect.getsource(thing)


@pytest.fixture
def pipe():
    return Pipe().connect()


@pytest.mark.parametrize(
    "name",
    ["_close_event", "_host_cids", "_local_max_data", "_local_max_streams_bidi", "_local_max_streams_uni",
     "_local_next_stream_id_bidi", "_loss", "_network_paths", "_peer_cid", "_peer_cid_available",
     "_remote_max_streams_bidi", "_state", "_streams", "_streams_queue"],
)  # fmt: skip
def test_a_connection_has_what_the_engine_uses(name):
    assert hasattr(QuicConnection(configuration=client_configuration(None)), name), ADVICE


@pytest.mark.parametrize(
    "name",
    ["_replenish_connection_ids", "_write_application", "_write_connection_limits", "_write_stream_limits",
     "_on_max_stream_data_delivery", "_on_connection_limit_delivery"],
)  # fmt: skip
def test_methods_that_the_engine_overrides_are_called_as_before(name):
    assert f"self.{name}" in source(QuicConnection), ADVICE
    theirs = inspect.signature(getattr(QuicConnection, name))
    assert list(inspect.signature(getattr(Engine, name)).parameters) == list(theirs.parameters), ADVICE


def test_values_of_the_streams_are_walked_for_credit_and_nothing_else():
    assert source(QuicConnection).count("self._streams.values()") == 1, ADVICE
    walk = "for stream in self._streams.values():\n                self._write_stream_limits("
    assert walk in source(QuicConnection._write_application), ADVICE
    for other in ("_streams.items()", "_streams.keys()", "in self._streams:", "len(self._streams)"):
        assert other not in source(QuicConnection), ADVICE


def test_the_order_of_streams_is_changed_by_new_streams_and_by_sending_only():
    text, writing = source(QuicConnection), source(QuicConnection._write_application)
    assert text.count("self._streams_queue.append(stream)") == 2, ADVICE
    assert text.count("self._streams_queue") == 1 + 2 + writing.count("self._streams_queue"), ADVICE


def test_what_an_idle_stream_would_be_asked_for():
    loop = source(QuicConnection._write_application).split("for stream in self._streams_queue:")[1]
    for question in ("is_finished", "receiver.stop_pending", "sender.reset_pending", "buffer_is_empty"):
        assert question in loop, ADVICE


def test_credit_is_written_before_streams_are_dropped():
    text = source(QuicConnection._write_application)
    assert text.index("_write_connection_limits") < text.index("self._streams.pop("), ADVICE


def test_lost_limits_are_marked_as_never_sent():
    assert "limit.sent = 0" in source(QuicConnection._on_connection_limit_delivery), ADVICE
    assert "max_stream_data_local_sent = 0" in source(QuicConnection._on_max_stream_data_delivery), ADVICE


def test_a_sender_counts_as_we_think():
    sender = stream.QuicStreamSender(stream_id=0, writable=True)
    sender.write(bytes(1000))
    assert (sender._buffer_stop, sender._buffer_fin, sender._reset_error_code) == (1000, None, None), ADVICE
    assert len(sender.get_frame(600).data) == sender.highest_offset == 600, ADVICE
    sender.write(b"", end_stream=True)
    assert sender._buffer_fin == 1000, ADVICE
    sender.reset(7)
    assert (sender._reset_error_code, sender.reset_pending, sender.is_finished) == (7, True, False), ADVICE


def test_a_receiver_counts_a_final_size_that_it_never_saw():
    receiver = stream.QuicStreamReceiver(stream_id=0, readable=True)
    receiver.handle_reset(final_size=5000, error_code=1)
    assert (receiver.highest_offset, receiver.is_finished) == (5000, True), ADVICE


def test_recovery_is_the_one_that_was_put_there(pipe):
    """All that aioquic asks of it is what Recovery and Pacer answer."""
    asked = set(re.findall(r"self\._loss\.(\w+)", source(QuicConnection))) - {"_pacer"}
    assert asked == {
        "bytes_in_flight", "congestion_window", "discard_space", "get_loss_detection_time",
        "get_probe_timeout", "handshake_confirmed", "max_ack_delay", "on_ack_received",
        "on_loss_detection_timeout", "on_packet_sent", "peer_completed_address_validation",
        "reschedule_data", "spaces",
    }, ADVICE  # fmt: skip
    assert set(re.findall(r"_loss\._pacer\.(\w+)", source(QuicConnection))) == {
        "next_send_time", "update_after_send",
    }, ADVICE  # fmt: skip
    assert isinstance(pipe.client.engine._loss, Recovery)
    assert pipe.client.engine._loss.pacer.rate is not None, "rated by now"


@pytest.mark.parametrize("name", ["get_loss_detection_time", "reschedule_data", "_in_persistent_congestion"])
def test_what_recovery_inherits_asks_no_controller_of_aioquics(name):
    text = source(getattr(recovery.QuicPacketRecovery, name))
    assert "_cc" not in text, ADVICE
    assert "_pacer" not in text, ADVICE


def test_packets_are_registered_after_all_of_them_were_built():
    text = source(QuicConnection._write_application)
    assert text.index("next_send_time") < text.index("start_packet") < text.index("update_after_send"), ADVICE
    assert "on_packet_sent" in source(QuicConnection._flush_builder), ADVICE
    assert "on_packet_sent" not in text, ADVICE


def test_packet_numbers_are_shared_by_the_spaces():
    assert source(QuicConnection).count("packet_number=self._packet_number") == 2, ADVICE


def test_streams_are_made_in_two_places_and_stored_at_once():
    assert source(QuicConnection).count("self._streams[") == 2, ADVICE
    assert re.findall(r"self\._streams\[\w+\] = QuicStream\(", source(QuicConnection)), ADVICE


def test_our_ack_delay_is_told_to_the_peer(pipe):
    promised = MAX_ACK_DELAY + ACK_DELAY_SLACK
    for side in (pipe.client, pipe.server):
        assert side.engine._loss.max_ack_delay == pytest.approx(promised), ADVICE
        assert side.engine._ack_delay <= MAX_ACK_DELAY
    assert "space.ack_at = now + self._ack_delay" in source(QuicConnection.receive_datagram), ADVICE


def test_more_packet_numbers_are_remembered_than_aioquic_does(pipe):
    assert pipe.client.engine._spaces[Epoch.ONE_RTT].received_packets._size == KNOWN_PACKETS, ADVICE
    window = recovery.QuicPacketNumberWindow()
    window._size = KNOWN_PACKETS
    window.add(5000)
    assert 5000 - KNOWN_PACKETS in window, "too old to tell"
    assert 5000 - KNOWN_PACKETS + 1 not in window, ADVICE


def test_states_and_the_close_event():
    assert {"FIRSTFLIGHT", "CONNECTED", "CLOSING", "DRAINING", "TERMINATED"} <= set(
        QuicConnectionState.__members__
    ), ADVICE
    assert "self._close_event = events.ConnectionTerminated(" in source(
        QuicConnection._handle_connection_close_frame
    ), ADVICE


def test_reset_tokens_are_the_servers_own(pipe):
    server, client = pipe.server.engine, pipe.client.engine
    assert len(server.host_cids) == len(set(server.host_cids)) == 8
    assert set(pipe.server.cids) == set(server.host_cids[1:]), "announced by events"
    for entry in server._host_cids:
        assert entry.stateless_reset_token == reset_token(STATE_KEY, entry.cid), ADVICE
    pipe.settle(1)
    theirs = (client._peer_cid, *client._peer_cid_available)
    known = {entry.cid: entry.stateless_reset_token for entry in theirs}
    assert known == {cid: reset_token(STATE_KEY, cid) for cid in server.host_cids}, ADVICE
    for cid in server.host_cids:
        assert client.is_stateless_reset(b"noise" + reset_token(STATE_KEY, cid))
        assert not client.is_stateless_reset(b"noise" + reset_token(b"another key", cid))
    assert not client.is_stateless_reset(reset_token(STATE_KEY, b"what cid?"))
    assert not server.is_stateless_reset(bytes(64)), "clients have no tokens"


def test_retired_connection_ids_are_replaced_by_ones_with_our_tokens(pipe):
    pipe.settle(1)
    server, before = pipe.server.engine, set(pipe.server.engine.host_cids)
    pipe.client.engine.change_connection_id()
    pipe.settle(1)
    new = set(server.host_cids) - before
    assert len(new) == 1
    assert len(server.host_cids) == 8
    assert new <= set(pipe.server.cids)
    assert pipe.client.engine.is_stateless_reset(reset_token(STATE_KEY, new.pop()))


def test_tokens_and_ids_of_lost_announcements_are_the_same_again():
    pipe = Pipe(loss=0.3, seed=5).connect()
    pipe.settle(5)
    for cid in pipe.server.engine.host_cids:
        assert pipe.client.engine.is_stateless_reset(bytes(20) + reset_token(STATE_KEY, cid))


def test_the_certificate_and_the_path_are_seen(pipe):
    assert len(pipe.client.engine.chain) == 1
    assert pipe.server.engine.chain == []
    number = pipe.client.open(bytes(100_000), end=True)
    pipe.run(lambda: number in pipe.server.ends and pipe.client.engine.drained())
    stats = pipe.client.engine.stats()
    assert 0.03 < stats.rtt < 0.2
    assert stats.loss == 0
    assert stats.delivered > 100_000


def test_an_engine_that_has_heard_nothing():
    engine = Engine(server_configuration(IDENTITY), bytes(8), STATE_KEY)
    assert (engine.reached, engine.capacity, engine.ended_by_peer, engine.drained()) == (False, 0, None, True)
    assert engine.stats() == LinkStats(more=engine.stats().more)


def test_the_peers_reason_is_known_at_once(pipe):
    pipe.client.engine.close(reason_phrase="enough")
    pipe.settle(0.05)
    assert "enough" in str(pipe.server.engine.ended_by_peer)
    assert pipe.client.engine.ended_by_peer is None


def test_as_many_streams_as_the_carrier_wants(pipe):
    assert pipe.client.engine.capacity == STREAMS
    assert pipe.server.engine.capacity == 0
    assert pipe.client.engine._remote_max_streams_uni == 0
    numbers = [pipe.client.open(b"x", end=True) for _ in range(STREAMS)]
    assert pipe.client.engine.capacity == 0
    pipe.run(lambda: pipe.server.ends == set(numbers))
    pipe.settle(1)
    assert pipe.client.engine.capacity == 0, "the server has not ended them"
    for number in numbers[:5]:
        pipe.server.engine.send_stream_data(number, b"", True)
    pipe.run(lambda: pipe.client.engine.capacity == 5)


def test_after_a_migration_common_packets_are_common_again(pipe, monkeypatch):
    number = pipe.client.open(b"first")
    pipe.settle(1)
    engine, sent = pipe.server.engine, []
    datagram = pipe.client.engine
    datagram.send_ping(1)
    for data, _ in datagram.datagrams_to_send(now=pipe.now):
        engine.receive_datagram(data, "elsewhere", now=pipe.now)
    for data, address in engine.datagrams_to_send(now=pipe.now):
        sent.append(address)
        datagram.receive_datagram(data, "server", now=pipe.now)
    for data, _ in datagram.datagrams_to_send(now=pipe.now):
        engine.receive_datagram(data, "elsewhere", now=pipe.now)
    assert "elsewhere" in sent
    assert [path.is_validated for path in engine._network_paths] == [True, True]
    engine.send_stream_data(number, bytes(100))
    engine.datagrams_to_send(now=pipe.now)
    engine.send_stream_data(number, bytes(100_000))
    datagrams, _ = fast_send.send(engine, pipe.now)
    assert datagrams
