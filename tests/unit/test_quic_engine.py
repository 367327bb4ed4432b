"""What lane needs of aioquic's private names: canaries that fail when a new one means something else."""

import inspect

import pytest
from aioquic.quic import recovery, stream
from aioquic.quic.connection import QuicConnection, QuicConnectionState
from lane_quic import engine as lane_engine
from lane_quic.engine import STREAMS, Engine, client_configuration, reset_token, server_configuration
from quic_pipe import IDENTITY, STATE_KEY, Pipe

from lane.stream import LinkStats

ADVICE = "aioquic changed: look at lane_quic/engine.py, which stands on this"


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
    assert hasattr(QuicConnection(configuration=client_configuration(None, 1200)), name), ADVICE


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


def test_the_pacer_is_the_one_that_was_put_there(pipe):
    assert "self._loss._pacer" in source(QuicConnection._write_application), ADVICE
    assert "self._pacer.update_rate(" in source(recovery.QuicPacketRecovery), ADVICE
    assert isinstance(pipe.client.engine._loss._pacer, lane_engine._Pacer)
    assert pipe.client.engine._loss._pacer.packet_time is not None, "rated by now"
    assert isinstance(pipe.client.engine._loss._cc, lane_engine._Cubic)


def test_a_pacer_waits_for_a_quantum_and_sends_a_burst():
    pacer = lane_engine._Pacer(max_datagram_size=1200)
    assert pacer.next_send_time(5.0) is None, "nothing is known: nothing is held back"
    pacer.update_rate(12_000_000, 1.0)  # 10,000 packets a second
    assert pacer.bucket_max == lane_engine.PACING_BURST
    pacer.update_bucket(5.0)
    for _ in range(1000):
        pacer.update_after_send(5.0)
    assert pacer.next_send_time(5.0) == 5.0 + lane_engine.PACING_QUANTUM


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
    assert engine.stats() == LinkStats()


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
