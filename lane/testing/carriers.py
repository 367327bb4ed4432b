"""The contract of carriers, listeners and transports, as tests."""

import socket

import gevent
import pytest

from lane.errors import Closed, ConfigError, Refused, Unreachable
from lane.stream import Address, Carrier
from lane.testing.certs import client_tls, server_tls
from lane.testing.harness import (
    PATIENCE,
    Flood,
    Kit,
    echo,
    exchange,
    outcome,
    pattern,
    read_all,
    read_to_error,
    until,
)

both_ends = pytest.mark.parametrize("swap", [False, True], ids=["dialled", "accepted"])


class CarrierContract:
    """See `lane.testing.TransportContract`."""

    certificates: bool
    measures: bool

    def abrupt(self, carrier: Carrier) -> None:
        raise NotImplementedError

    def test_a_thousand_streams_one_after_the_other(self, kit: Kit) -> None:
        kit.serve(echo)
        for number in range(1000):
            data = b"stream %d" % number
            assert exchange(kit.open(), data) == data

    def test_a_hundred_streams_at_once(self, kit: Kit) -> None:
        pairs = [kit.stream() for _ in range(100)]
        for _, far in pairs:
            gevent.spawn(echo, far)
        data = [pattern(20_000, number) for number in range(100)]
        answers = [gevent.spawn(exchange, near, one) for (near, _), one in zip(pairs, data, strict=True)]
        assert [answer.get() for answer in answers] == data

    def test_streams_opened_concurrently_stay_apart(self, kit: Kit) -> None:
        kit.serve(echo)
        data = [pattern(5000, number) for number in range(50)]
        answers = [gevent.spawn(lambda one=one: exchange(kit.open(), one)) for one in data]
        assert [answer.get() for answer in answers] == data

    def test_capacity_is_what_may_still_be_opened(self, kit: Kit) -> None:
        near, _ = kit.dial()
        before = near.capacity
        assert before >= 1
        assert before == 1 or not getattr(near, "one_stream", False)
        near.open()
        assert near.capacity < before
        for _ in range(10_000):
            if not near.capacity:
                break
            near.open()
        assert near.capacity == 0
        with pytest.raises(Closed):
            near.open()

    @pytest.mark.parametrize("word", ["data", "end"])
    def test_a_carrier_that_rings_does_so_once(self, kit: Kit, word: str) -> None:
        near, far = kit.dial()
        if not hasattr(far, "when_heard"):
            return
        rung: list[str] = []
        far.when_heard(lambda: rung.append(word))
        gevent.idle()
        assert not rung
        if word == "end":
            far.close()
            until(lambda: rung)
        else:
            near.open().sendall(b"x")
            until(lambda: rung)
            assert far.accept().recv(1) == b"x"
            far.close()
        gevent.idle()
        assert rung == [word]

    @both_ends
    def test_death_of_a_carrier_wakes_everybody(self, kit: Kit, swap: bool) -> None:
        opened, accepted = kit.stream()
        mine, other = kit.last[::-1] if swap else kit.last
        stream = accepted if swap else opened
        accepting = gevent.spawn(outcome, mine.accept)
        reading = gevent.spawn(outcome, stream.recv)
        writing = Flood(stream)
        writing.wait_until_blocked()
        self.abrupt(other)
        assert isinstance(reading.get(), Closed), "not even an end: nobody has finished"
        assert isinstance(writing.failure.get(), Closed)
        until(lambda: mine.closed)
        assert isinstance(accepting.get(), Closed)
        assert mine.capacity == 0
        with pytest.raises(Closed):
            mine.open()

    @both_ends
    def test_closing_a_carrier_is_no_end_of_its_streams(self, kit: Kit, swap: bool) -> None:
        opened, accepted = kit.stream()
        mine, _ = kit.last[::-1] if swap else kit.last
        here, there = (accepted, opened) if swap else (opened, accepted)
        here.sendall(b"not all")
        reading = gevent.spawn(outcome, here.recv)
        accepting = gevent.spawn(outcome, mine.accept)
        gevent.idle()
        mine.close()
        mine.close()
        assert (mine.closed, mine.capacity) == (True, 0)
        assert isinstance(reading.get(), Closed)
        assert isinstance(accepting.get(), Closed)
        assert isinstance(read_to_error(there), Closed)
        assert isinstance(outcome(here.sendall, b"late"), Closed)

    @both_ends
    def test_closing_a_carrier_while_the_peer_still_sends(self, kit: Kit, swap: bool) -> None:
        opened, accepted = kit.stream()
        mine, _ = kit.last[::-1] if swap else kit.last
        here, there = (accepted, opened) if swap else (opened, accepted)
        writing, reading = Flood(there), gevent.spawn(read_to_error, here)
        until(lambda: writing.sent > 20)
        mine.close()
        assert isinstance(reading.get(), Closed)
        assert isinstance(writing.failure.get(), Closed)
        assert isinstance(outcome(there.recv), Closed)

    @both_ends
    def test_a_finished_stream_drains_when_its_carrier_closes(self, kit: Kit, swap: bool) -> None:
        opened, accepted = kit.stream()
        mine, _ = kit.last[::-1] if swap else kit.last
        here, there = (accepted, opened) if swap else (opened, accepted)
        data = pattern(100_000)
        there.finish()
        assert here.recv() == b""
        here.sendall(data)
        here.finish()
        closing = gevent.spawn(mine.close, 10)
        assert read_all(there) == data
        closing.get()

    @both_ends
    def test_an_idle_carrier_notices_that_its_peer_left(self, kit: Kit, swap: bool) -> None:
        mine, other = kit.dial()[::-1] if swap else kit.dial()
        assert not mine.closed
        other.close()
        until(lambda: mine.closed)
        assert mine.capacity == 0

    def test_dialling_nobody_is_unreachable(self, kit: Kit) -> None:
        kit.listener.close()
        with pytest.raises(Unreachable) as caught:
            kit.transport.dial(kit.listener.address, kit.client_tls)
        assert "\n" not in str(caught.value)

    def test_a_wrong_certificate_is_refused(self, kit: Kit) -> None:
        if not self.certificates:
            pytest.skip("a transport without certificates")
        with pytest.raises(Refused):
            kit.transport.dial(kit.listener.address, client_tls(server_tls()))
        right = gevent.spawn(kit.transport.dial, kit.listener.address, kit.client_tls)
        right.get().close()  # the listener still works

    def test_both_ends_have_one_binding(self, kit: Kit) -> None:
        near, far = kit.dial()
        assert near.binding == far.binding
        assert len(near.binding) == 32
        if self.certificates:
            assert near.binding == kit.server_tls.binding

    def test_the_listener_knows_its_port(self, kit: Kit) -> None:
        assert kit.listener.address.port > 0

    def test_a_taken_port_is_a_configuration_error(self, kit: Kit) -> None:
        with pytest.raises(ConfigError) as caught:
            kit.transport.listen(kit.listener.address, kit.server_tls)
        assert str(kit.listener.address.port) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_closing_a_listener_leaves_its_carriers(self, kit: Kit) -> None:
        near, far = kit.stream()
        accepting = gevent.spawn(outcome, kit.listener.accept)
        gevent.idle()
        kit.listener.close()
        kit.listener.close()
        assert isinstance(accepting.get(), Closed)
        assert isinstance(outcome(kit.listener.accept), Closed)
        near.sendall(b"still here")
        assert far.recv() == b"still here"

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_an_empty_host_is_every_address(self, kit: Kit, host: str) -> None:
        if host == "::1" and not _has_ipv6():
            pytest.skip("no IPv6 on this machine")
        listener = kit.transport.listen(Address("", 0), kit.server_tls)
        try:
            accepting = gevent.spawn(listener.accept)
            near = kit.transport.dial(Address(host, listener.address.port), kit.client_tls)
            far = accepting.get()
            stream = near.open()
            stream.sendall(b"hello")
            assert far.accept().recv() == b"hello"
            assert "ffff" not in far.peer, "an IPv4 peer is named as such"
            near.close()
            far.close()
        finally:
            listener.close()

    def test_what_a_carrier_tells(self, kit: Kit) -> None:
        near, far = kit.stream()
        before = near_before, _ = [carrier.stats() for carrier in kit.last]
        near.sendall(bytes(100_000))
        near.finish()
        read_all(far)
        if self.measures:
            until(lambda: kit.last[0].stats().sent >= near_before.sent + 100_000)
        for carrier, then in zip(kit.last, before, strict=True):
            assert carrier.peer
            assert carrier.datagrams is None or carrier.datagrams.max_size > 0
            stats = carrier.stats()
            assert stats.rtt is not None or not self.measures
            assert stats.rtt is None or 0 < stats.rtt < PATIENCE
            assert 0 <= stats.lost <= stats.sent
            assert (stats.sent, stats.lost) >= (then.sent, then.lost), "they only grow"
            assert stats.loss is None or 0 <= stats.loss <= 1
            assert stats.delivered >= 0
            assert stats.in_flight >= 0


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
