"""A look at the way of UDP packets, on a network of the test's own."""

import errno
import os

import gevent
import gevent.socket as gsocket
import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import pull_quic_header
from lane_quic import examination
from lane_quic.stateless import Stateless

from lane.address import Address
from lane.errors import Unreachable


class Server:
    """Answers versions that it does not know, if `lets` lets the packet through (its number and its size)."""

    def __init__(self, lets):
        self._sock = gsocket.socket(gsocket.AF_INET, gsocket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.address = Address(*self._sock.getsockname())
        self._answers = Stateless(bytes(16), [1])
        self._lets = lets
        self._job = gevent.spawn(self._serve)

    def _serve(self):
        number = 0
        while True:
            data, source = self._sock.recvfrom(65536)
            number += 1
            if self._lets(number, len(data)):
                header = pull_quic_header(Buffer(data=data), host_cid_length=8)
                self._sock.sendto(self._answers.negotiation(header), source)

    def close(self):
        self._job.kill()
        self._sock.close()


@pytest.fixture
def server():
    made = []

    def make(lets):
        made.append(Server(lets))
        return made[-1].address

    yield make
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(examination, "EVERY", 0.002)
    monkeypatch.setattr(examination, "PATIENCE", 0.3)


def look(address):
    return {finding.what: finding for finding in examination.examine(address, 0.3)}


def test_all_is_well_where_everything_arrives(server):
    found = look(server(lambda number, size: True))
    assert [(what, one.state) for what, one in found.items()] == [
        ("UDP", "ok"),
        ("path MTU", "ok"),
        ("UDP loss", "ok"),
    ]
    assert found["path MTU"].text == "at least 1500 bytes"
    assert found["UDP loss"].text.startswith("0.0 % of ")


def test_a_black_hole_for_large_packets_is_named_with_its_size(server):
    found = look(server(lambda number, size: size <= 1392))
    assert found["path MTU"].text == "about 1420 bytes"
    assert found["MTU black hole"].state == "warn"
    assert "packets of 1440 bytes and more vanish" in found["MTU black hole"].text
    assert "tcp_mtu_probing=1" in found["MTU black hole"].mend


def test_lost_packets_are_counted(server):
    found = look(server(lambda number, size: size > 1200 or number % 4))
    assert found["UDP loss"].state == "warn"
    lost = float(found["UDP loss"].text.split()[0])
    assert 15 < lost < 35


def test_a_firewall_that_drops_everything(server):
    address = server(lambda number, size: False)
    found = look(address)
    assert list(found) == ["UDP"]
    assert found["UDP"].state == "warn"
    assert f"let UDP through to port {address.port}" in found["UDP"].mend


def test_a_port_where_nobody_listens():
    with gsocket.socket(gsocket.AF_INET, gsocket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address = Address(*sock.getsockname())
    found = look(address)
    assert "nobody listens there: no server runs, or it does not offer quic" in found["UDP"].text


def test_packets_that_do_not_leave_this_machine(monkeypatch, server):
    def send(sock, data):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(gsocket.socket, "send", send)
    found = look(server(lambda number, size: True))
    assert found["UDP"].text.endswith("do not leave this machine: Operation not permitted")


def test_answers_of_strangers_do_not_count(server):
    pings = examination._Pings(server(lambda number, size: False))
    pings.send(1200)
    pings.trips.clear()
    assert pings.answered(1200) == 0
    pings.close()


def test_a_name_without_an_address():
    with pytest.raises(Unreachable, match=r"nowhere\.invalid"):
        look(Address("nowhere.invalid", 1))
