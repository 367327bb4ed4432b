"""Datagrams over real sockets: who has them, beside a bulk, and what strangers can have a server hold."""

from contextlib import contextmanager
from dataclasses import replace

import gevent
import pytest
from lane_quic import endpoint, listener
from lane_quic.configuration import client_configuration, server_configuration
from lane_quic.engine.datagrams import COST, UNASKED_MOST
from lane_quic.plugin import QuicTransport
from lane_quic.udp.udp import GATHER_MOST

from lane.stream import Address
from lane.testing.harness import PATIENCE, Kit, until


@contextmanager
def quic():
    with gevent.Timeout(PATIENCE, AssertionError("the test hangs")):
        kit = Kit(QuicTransport(), Address("127.0.0.1", 0))
        try:
            yield kit
        finally:
            kit.close()


@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
def test_a_peer_that_takes_none_may_send_some(monkeypatch, client):
    make = client_configuration if client else server_configuration

    def without(*arguments):
        return replace(make(*arguments), max_datagram_frame_size=None)

    monkeypatch.setattr(endpoint if client else listener, make.__name__, without)
    with quic() as kit:
        near, far = kit.dial()
        takes, none = (far, near) if client else (near, far)
        assert takes.datagrams is None
        assert none.datagrams is not None
        assert none.datagrams.send(b"hello")
        until(lambda: takes.stats().more["datagrams_received"])


def test_the_size_follows_the_path():
    with quic() as kit:
        near, _ = kit.dial()
        assert near.datagrams.max_size == 1200 - 30
        near.datagrams.send(b"something to look for larger packets beside")
        until(lambda: near.datagrams.max_size == 1452 - 30)
        assert near.stats().more["packet_size"] == 1452


def test_nothing_gathers_where_datagrams_come():
    with quic() as kit:
        near, far = kit.dial()
        here = kit.listener._addresses[0]._socket
        until(lambda: far.engine._handshake_confirmed)
        assert here._patience == GATHER_MOST
        assert near.datagrams.send(b"hello")
        until(lambda: not here._patience)


@pytest.mark.bulk
def test_a_bulk_beside_a_thousand_datagrams():
    with quic() as kit:
        opened, accepted = kit.stream()
        near, far = kit.last
        came, read = [], [0]

        def listen():
            while True:
                came.append(far.datagrams.recv())

        def write():
            while True:
                opened.sendall(bytes(65536))

        def drain():
            while True:
                read[0] += len(accepted.recv())

        greenlets = [gevent.spawn(run) for run in (listen, write, drain)]
        sent = 1000
        for number in range(sent):
            assert near.datagrams.send(number.to_bytes(1000, "big"))
            while near.stats().more["datagrams_sent"] <= number:  # more would be dropped for newer ones
                gevent.sleep(0)
        until(lambda: len(came) > 0.9 * sent)
        assert len(set(came)) == len(came)
        until(lambda: read[0] > 1000 * sent)
        counts = near.stats().more
        assert counts["datagrams_sent"] + counts["datagrams_dropped_out"] == sent
        gevent.killall(greenlets)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_stranger_makes_a_server_hold_little(size):
    with quic() as kit:
        near, far = kit.dial()
        while far.stats().more["datagrams_received"] <= 1000:
            near.datagrams.send(bytes(size))
            gevent.sleep(0)
        held = far.datagrams._incoming
        assert len(held) * (size + COST) == held.size <= UNASKED_MOST
        assert far.stats().more["datagrams_dropped_in"] > 0


def test_everybody_who_waits_hears_of_the_end():
    with quic() as kit:
        near, far = kit.dial()
        readers = [gevent.spawn(near.datagrams.recv) for _ in range(2)]
        gevent.idle()
        far.close()
        for reader in readers:
            with pytest.raises(Exception, match="closed"):
                reader.get()
