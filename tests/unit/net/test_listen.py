"""Where it is listened: all addresses of a name, both families, and what of it is not there."""

import errno
import os
import socket as native

import pytest
from gevent import socket

from lane.address import Address
from lane.errors import ConfigError
from lane.net import listen
from tests.support.names import Names


@pytest.fixture
def opened(monkeypatch):
    """A function that listens on a name with such addresses, over TCP or UDP; all is closed at the end."""
    kept = []

    def open_all(kind, host, *found, port=0):
        monkeypatch.setattr(listen, "system_resolver", lambda: Names(*found))
        where = Address(host, port)
        kept.append(listen.listen(where, 16) if kind == "tcp" else listen.bind_udp(where))
        return kept[-1]

    yield open_all
    for socks in kept:
        for sock in socks:
            sock.close()


def names(socks):
    assert len({sock.getsockname()[1] for sock in socks}) == 1
    return [sock.getsockname()[0] for sock in socks]


def reaches(kind, host, port):
    """Whether somebody takes what is sent there."""
    family = native.AF_INET6 if ":" in host else native.AF_INET
    with native.socket(family, native.SOCK_STREAM if kind == "tcp" else native.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        try:
            sock.connect((host, port))
            if kind == "udp":
                sock.send(b"x")
                sock.send(b"x")  # hears of a refusal of the first one
        except ConnectionRefusedError:
            return False
        return True


both = pytest.mark.parametrize("kind", ["tcp", "udp"])


@both
def test_all_addresses_of_a_name_on_one_port(opened, kind):
    socks = opened(kind, "name.test", "::1", "127.0.0.1", "127.0.0.2")
    assert names(socks) == ["::1", "127.0.0.1", "127.0.0.2"]
    port = socks[0].getsockname()[1]
    assert [host for host in names(socks) if not reaches(kind, host, port)] == []
    assert not reaches(kind, "127.0.0.3", port)


@both
@pytest.mark.parametrize("host", ["", "::", "0::0"])
def test_every_address_of_both_families(opened, kind, host):
    socks = opened(kind, host)
    assert names(socks) == ["::"]
    port = socks[0].getsockname()[1]
    assert reaches(kind, "127.0.0.1", port)
    assert reaches(kind, "::1", port)


@both
def test_an_address_alone(opened, kind):
    assert names(opened(kind, "127.0.0.2")) == ["127.0.0.2"]
    assert names(opened(kind, "::1")) == ["::1"]
    assert names(opened(kind, "0.0.0.0")) == ["0.0.0.0"]
    assert names(opened(kind, "::ffff:127.0.0.1")) == ["127.0.0.1"]


@both
@pytest.mark.parametrize("found", [["192.0.2.1", "127.0.0.1"], ["127.0.0.1", "192.0.2.1", "2001:db8::1"]])
def test_addresses_that_are_not_here_are_left_out(opened, kind, found):
    assert names(opened(kind, "name.test", *found)) == ["127.0.0.1"]


@both
@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (["192.0.2.1", "2001:db8::1"], "Cannot assign requested address"),
        ([], "name not known"),
    ],
)
def test_nowhere_to_listen(opened, kind, found, reason):
    before = len(os.listdir("/proc/self/fd"))
    what = "name.test:0" if kind == "tcp" else r"name.test:0 \(UDP\)"
    with pytest.raises(ConfigError, match=rf"^cannot listen on {what}: {reason}$"):
        opened(kind, "name.test", *found)
    assert len(os.listdir("/proc/self/fd")) == before


@both
def test_one_address_whose_port_is_taken_is_an_error(opened, kind):
    (taken,) = opened(kind, "127.0.0.2")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError, match="already in use"):
        opened(kind, "name.test", "127.0.0.1", "127.0.0.2", port=taken.getsockname()[1])
    assert len(os.listdir("/proc/self/fd")) == before


@both
def test_a_free_port_is_free_at_all_addresses(opened, kind, monkeypatch):
    """The kernel looks for one at the first address only."""
    (taken,) = opened(kind, "127.0.0.2")
    bind, tried = listen._bind, []

    def unlucky(make, sort, address, port, **how):
        if str(address) == "127.0.0.1" and not tried:
            port = taken.getsockname()[1]
        tried.append(str(address))
        return bind(make, sort, address, port, **how)

    monkeypatch.setattr(listen, "_bind", unlucky)
    socks = opened(kind, "name.test", "127.0.0.1", "127.0.0.2")
    assert names(socks) == ["127.0.0.1", "127.0.0.2"]
    assert tried == ["127.0.0.1", "127.0.0.2"] * 2


@both
@pytest.mark.parametrize("where", ["socket", "bind"])
def test_every_address_where_there_is_no_ipv6(opened, kind, monkeypatch, where):
    base = socket.socket if kind == "tcp" else native.socket
    error = OSError(errno.EAFNOSUPPORT if where == "socket" else errno.EADDRNOTAVAIL, "no IPv6")

    class NoIPv6(base):
        def __init__(self, family, *arguments):
            if family == native.AF_INET6 and where == "socket":
                raise error
            super().__init__(family, *arguments)

        def bind(self, address):
            if self.family == native.AF_INET6:
                raise error
            super().bind(address)

    monkeypatch.setattr(listen.gsocket if kind == "tcp" else listen.socket, "socket", NoIPv6)
    assert names(opened(kind, "")) == ["0.0.0.0"]
    with pytest.raises(ConfigError, match="no IPv6"):
        opened(kind, "::1")
