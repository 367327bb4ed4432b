"""UDP to targets on real loopback sockets: who is reached, whose answers count, and what is bounded."""

import logging
import socket as native

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from lane.address import Address
from lane.budget import Budget, Share
from lane.egress import udp
from lane.egress.policy import Policy, Rule
from lane.egress.udp import UdpEgress
from lane.errors import Status, TargetError
from lane.net.resolver import Resolver
from lane.testing.harness import until
from tests.support.descriptors import no_descriptors
from tests.support.names import Names

LOCAL = Policy(local=True)
TARGETS = []


class Target:
    """A socket that remembers what it got."""

    def __init__(self, host="127.0.0.1"):
        self.sock = socket.socket(native.AF_INET6 if ":" in host else native.AF_INET, native.SOCK_DGRAM)
        self.sock.bind((host, 0))
        self.address = Address(*self.sock.getsockname()[:2])
        self.got = []
        self.serving = gevent.spawn(self._serve)
        TARGETS.append(self)

    def close(self):
        self.serving.kill()
        self.sock.close()

    def _serve(self):
        while True:
            self.got.append(self.sock.recvfrom(65535))


@pytest.fixture
def make():
    made = []

    def make(policy=LOCAL, resolver=None, authorize=None, anyone=False):
        egress = UdpEgress(policy, resolver or Resolver(), authorize, anyone=anyone)
        egress.got = []
        egress.deliver = lambda source, payload: egress.got.append((source, bytes(payload)))
        made.append(egress)
        return egress

    yield make
    for egress in made:
        egress.close()
    while TARGETS:
        TARGETS.pop().close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("size", [0, 1, 1200, 60000])
def test_there_and_back(make, host, size):
    egress, target = make(), Target(host)
    payload = bytes(size)
    egress.send(target.address, payload)
    until(lambda: target.got)
    data, where = target.got[0]
    assert data == payload
    target.sock.sendto(b"answer", where)
    until(lambda: egress.got)
    assert egress.got == [(target.address, b"answer")]


def test_a_packet_of_65507_bytes_goes_and_a_larger_one_is_dropped(make):
    egress, target = make(), Target()
    egress.send(target.address, bytes(65507))
    until(lambda: target.got)
    assert len(target.got[0][0]) == 65507
    egress.send(target.address, bytes(65508))
    assert egress.dropped == 1


def test_only_who_was_sent_to_may_answer(make):
    egress, target, stranger = make(), Target(), Target("127.0.0.2")
    egress.send(target.address, b"hello")
    until(lambda: target.got)
    where = target.got[0][1]
    stranger.sock.sendto(b"surprise", where)
    until(lambda: egress.dropped)
    other_port = Target()  # of the same host: address-dependent, not port-dependent
    other_port.sock.sendto(b"from another port", where)
    until(lambda: egress.got)
    assert egress.got == [(other_port.address, b"from another port")]
    egress.send(stranger.address, b"and you?")
    until(lambda: stranger.got)
    stranger.sock.sendto(b"now", where)
    until(lambda: len(egress.got) == 2)
    assert egress.got[1] == (stranger.address, b"now")


def test_anyone_may_send_where_the_application_wants_it_but_not_who_is_denied(make):
    policy = Policy(deny=(Rule.parse("127.0.0.3"),), local=True)
    egress, target = make(policy, anyone=True), Target()
    egress.send(target.address, b"hello")
    until(lambda: target.got)
    where = target.got[0][1]
    Target("127.0.0.3").sock.sendto(b"denied", where)
    until(lambda: egress.dropped)
    stranger = Target("127.0.0.2")
    stranger.sock.sendto(b"surprise", where)
    until(lambda: egress.got)
    assert egress.got == [(stranger.address, b"surprise")]


def test_the_policy_judges_every_target(make):
    egress = make(Policy(allow=(Rule.parse("127.0.0.1"),)))
    allowed, denied = Target(), Target("127.0.0.2")
    for _ in range(3):
        egress.send(denied.address, b"no")
        egress.send(allowed.address, b"yes")
    until(lambda: len(allowed.got) == 3)
    assert not denied.got
    assert egress.dropped == 3


def test_a_user_who_may_not_is_refused_and_a_hook_that_breaks_refuses(make):
    def authorize(target):
        if target.host == "127.0.0.2":
            raise TargetError(Status.NOT_ALLOWED, "not allowed")
        if target.host == "127.0.0.3":
            raise RuntimeError("broken plugin")

    egress, target = make(authorize=authorize), Target()
    for host in "127.0.0.2", "127.0.0.3":
        egress.send(Address(host, target.address.port), b"no")
    egress.send(Address("127.0.0.1", 0), b"port 0")
    egress.send(target.address, b"yes")
    until(lambda: target.got)
    assert egress.dropped == 3


def test_who_decides_may_take_time_and_packets_wait_for_that_up_to_a_number(make, monkeypatch):
    monkeypatch.setattr(udp, "JUDGED", 2)
    go = Event()
    egress, target = make(authorize=lambda target: go.wait()), Target()
    egress.send(target.address, b"first")
    egress.send(Address("127.0.0.2", 9), b"another")
    egress.send(Address("127.0.0.3", 9), b"one too many")
    egress.send(target.address, b"second")
    assert egress.dropped == 1
    assert not target.got
    go.set()
    until(lambda: len(target.got) == 2)
    assert [data for data, _ in target.got] == [b"first", b"second"]


def test_a_name_is_looked_up_once_and_packets_wait_for_it(make):
    names = Names(**{"target.test": ["127.0.0.1"]})
    names.go.clear()
    egress, target = make(resolver=names), Target()
    there = Address("target.test", target.address.port)
    for number in range(udp.WAITING + 3):
        egress.send(there, b"%d" % number)
    assert egress.dropped == 3  # the oldest
    names.go.set()
    until(lambda: len(target.got) == udp.WAITING)
    assert [data for data, _ in target.got] == [b"%d" % n for n in range(3, udp.WAITING + 3)]
    egress.send(there, b"again")
    until(lambda: target.got[-1][0] == b"again")
    assert names.asked == ["target.test"]


def test_ipv4_is_taken_where_a_name_has_both(make):
    names = Names(**{"target.test": ["::1", "127.0.0.1"]})
    egress, target = make(resolver=names), Target()
    egress.send(Address("target.test", target.address.port), b"hello")
    until(lambda: target.got)


def test_an_address_that_is_refused_leaves_the_others_of_a_name(make):
    names = Names(**{"target.test": ["127.0.0.1", "127.0.0.2"]})
    egress, target = make(Policy(deny=[Rule.parse("127.0.0.1")], local=True), names), Target("127.0.0.2")
    egress.send(Address("target.test", target.address.port), b"hello")
    until(lambda: target.got)


@pytest.mark.parametrize("host", ["::1%lo", "::1%" + "\u00e9" * 70, "fe80::1%1"])
def test_an_address_with_a_scope_is_for_nobody(make, monkeypatch, caplog, host):
    monkeypatch.setattr(udp, "_has_route", lambda ip: pytest.fail("the system was asked"))
    egress = make(Policy((Rule.parse("::/0"),)))
    with caplog.at_level(logging.INFO):
        egress.send(Address(host, 9), b"no")
    assert egress.dropped == 1
    assert not caplog.records


def test_look_ups_at_once_are_bounded(make):
    names = Names()
    names.go.clear()
    egress = make(resolver=names)
    for number in range(udp.LOOKUPS + 5):
        egress.send(Address(f"name{number}.test", 1), b"x")
    assert len(egress._lookups) == udp.LOOKUPS
    assert egress.dropped == 5
    names.go.set()
    until(lambda: not egress._lookups)
    assert egress.dropped == udp.LOOKUPS + 5


def test_look_ups_end_with_the_association(make):
    names = Names()
    names.go.clear()
    egress = make(resolver=names)
    egress.send(Address("name.test", 1), b"x")
    until(lambda: names.waiting)
    egress.close()
    until(lambda: not names.waiting)
    egress.send(Address("name.test", 1), b"x")
    assert egress.dropped == 1


def test_a_name_that_is_not_known_is_not_looked_up_for_each_packet(make):
    names = Names()
    egress = make(resolver=names)
    for _ in range(10):
        egress.send(Address("nobody.test", 1), b"x")
        gevent.sleep(0)
    assert names.asked == ["nobody.test"]
    assert egress.dropped == 10


def test_what_is_remembered_is_bounded(make, monkeypatch):
    monkeypatch.setattr(udp, "REMEMBERED", 10)
    egress, first = make(), Target()
    egress.send(first.address, b"hello")
    until(lambda: first.got)
    for port in range(1, 30):
        egress.send(Address("127.0.0.2", port), b"x")
        egress.send(Address(f"127.0.1.{port}", 9), b"x")
    assert len(egress._targets) == 10
    assert len(egress._peers) == 10
    first.sock.sendto(b"late", first.got[0][1])
    until(lambda: egress.dropped)  # it was forgotten
    assert not egress.got


def test_close_frees_the_sockets_and_drops_what_comes_after(make):
    egress, target = make(), Target()
    egress.send(target.address, b"hello")
    until(lambda: target.got)
    sockets = list(egress._sockets.values())
    egress.close()
    egress.close()
    until(lambda: all(sock._sock.fileno() < 0 for sock in sockets))
    egress.send(target.address, b"late")
    egress.send(Address("127.0.0.9", 9), b"late")
    assert egress.dropped == 2
    assert not egress._sockets


def test_without_descriptors_a_packet_is_dropped_like_any_other(make, caplog):
    target, egress = Target(), make()
    with no_descriptors(), caplog.at_level(logging.INFO):
        egress.send(target.address, b"lost")
    assert egress.dropped == 1
    assert not caplog.records


def test_a_socket_that_could_not_be_had_is_tried_again(make, monkeypatch):
    target, egress = Target(), make()
    with monkeypatch.context() as patch:
        patch.setattr(udp, "_has_route", lambda address: True)  # as with the last descriptor
        with no_descriptors():
            egress.send(target.address, b"lost")
    egress.send(target.address, b"found")
    until(lambda: target.got)
    assert [data for data, _ in target.got] == [b"found"]
    assert egress.dropped == 1


def test_tables_and_what_waits_for_look_ups_are_paid_of_the_users_share():
    whole = Budget(1 << 20)
    one, two = Share(whole), Share(whole)
    egress = UdpEgress(Policy(local=True), Resolver(), None, anyone=False, share=lambda user: one)
    try:
        for number in range(3000):
            egress.send(Address(f"127.1.{number // 200}.{number % 200 + 1}", 9), b"x")
        assert 0 < one.used <= (1 << 20) / 2
        assert len(egress._targets) < 3000
        assert two.take(1 << 16)
    finally:
        egress.close()
    assert one.used == 0
