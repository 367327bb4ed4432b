"""What is left of a handshake that is over, and what late packets of it find there."""

from collections import deque

import pytest
from aioquic.quic.connection import MAX_LOCAL_CHALLENGES
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription, Context, Epoch
from lane_quic.engine import handshake_memory
from lane_quic.engine.handshake_memory import PathChallenges, ShortQueue
from lane_quic.internals.parts import FinishedTLS

from tests.support.quic_pipe import Pipe

OLD = (Epoch.INITIAL, Epoch.ZERO_RTT, Epoch.HANDSHAKE)


@pytest.fixture
def pipe():
    pipe = Pipe()
    pipe.first = []  # what the client says before it is connected

    def keep(datagram):
        if not pipe.client.connected:
            pipe.first.append(datagram)
        return False

    pipe.dropped = keep
    pipe.connect().settle(1)
    return pipe


def test_a_server_has_nothing_left_of_it(pipe):
    engine = pipe.server.engine
    assert all(engine._spaces[epoch] is handshake_memory._NO_SPACE for epoch in OLD)
    assert all(engine._cryptos[epoch] is handshake_memory._NO_KEYS for epoch in OLD)
    assert list(engine._crypto_streams) == [Epoch.ONE_RTT]
    assert engine._loss.spaces == [engine.space]
    assert isinstance(engine.tls, FinishedTLS)
    assert not vars(engine), "each attribute has its slot"


def test_late_packets_of_it_are_dropped_and_change_nothing_that_all_share(pipe):
    before = [dict(vars(shared)) for shared in (handshake_memory._NO_SPACE, handshake_memory._NO_KEYS)]
    assert any(datagram[0] & 0x80 for datagram in pipe.first)
    for datagram in pipe.first:
        pipe.server.engine.receive_datagram(datagram, "peer", pipe.now)
    pipe.settle(1)
    number = pipe.client.open(b"still there", end=True)
    pipe.run(lambda: number in pipe.server.ends)
    after = [dict(vars(shared)) for shared in (handshake_memory._NO_SPACE, handshake_memory._NO_KEYS)]
    assert after == before


def test_messages_of_tls_after_it_end_the_connection(pipe):
    client = pipe.client.engine
    client._crypto_streams[Epoch.ONE_RTT].sender.write(b"\x18\0\0\x01\0")  # KeyUpdate, which QUIC has not
    client.said_all = False  # aioquic writes them while it takes packets
    pipe.settle(1)
    event = pipe.server.engine._close_event
    assert event.error_code == QuicErrorCode.CRYPTO_ERROR + AlertDescription.unexpected_message


def test_what_a_finished_server_uses_of_tls():
    said_all = set(vars(FinishedTLS(Context(is_client=False, max_early_data=None))))
    assert said_all <= set(vars(Context(is_client=False, max_early_data=None))), "aioquic changed its names"


def test_few_is_a_queue_as_a_deque_is():
    few, reference = ShortQueue([1, 2]), deque([1, 2])
    assert [few.popleft(), few.popleft()] == [reference.popleft(), reference.popleft()]
    for queue in (few, reference):
        with pytest.raises(IndexError):
            queue.popleft()


def test_only_the_last_challenges_are_kept():
    challenges = PathChallenges()
    for number in range(3 * MAX_LOCAL_CHALLENGES):
        challenges.append(bytes([number]))
    assert challenges == [bytes([n]) for n in range(2 * MAX_LOCAL_CHALLENGES, 3 * MAX_LOCAL_CHALLENGES)]
