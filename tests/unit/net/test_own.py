"""A process's own ports are no targets, and the connections that it made are known where they come back."""

from ipaddress import ip_address

import pytest
from gevent import socket

from lane.address import Address
from lane.errors import Status
from lane.net import own
from lane.net.connect import connect_to
from lane.net.own import REVERSE, TCP, UDP, OwnPort, is_dialled, refuse_own, remember_dials
from lane.testing.harness import outcome

PORT = 4433


def refused(kind, host, port=PORT):
    found = outcome(refuse_own, kind, ip_address(host), port)
    assert found is None or found.status is Status.NOT_ALLOWED
    return found is not None


@pytest.mark.parametrize(
    ("listening", "target", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),  # Linux connects to loopback then
        ("127.0.0.1", "127.0.0.2", False),
        ("::1", "::1", True),
        ("::1", "::", True),
        ("", "127.0.0.1", True),
        ("::", "127.0.0.9", True),
        ("::", "::1", True),
        ("0.0.0.0", "127.0.0.9", True),
        ("0.0.0.0", "::1", False),
        ("::", "192.0.2.1", False),  # of somebody else
        ("fe80::1%lo", "fe80::2", False),
        ("localhost", "127.0.0.1", False),  # not an address: nobody listens on a name
    ],
)
def test_what_leads_to_an_own_port(listening, target, expected):
    own = OwnPort(Address(listening, PORT), TCP)
    assert refused(TCP, target) is expected
    assert not refused(TCP, target, PORT + 1)
    assert not refused(UDP, target)
    del own
    assert not refused(TCP, target)


def test_kinds():
    own = OwnPort(Address("127.0.0.1", PORT), UDP, REVERSE)
    assert [refused(kind, "127.0.0.1") for kind in (TCP, UDP, REVERSE)] == [False, True, True]
    del own


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")])
def test_connections_that_come_back(family, host):
    remember_dials()
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, 0))
        listener.listen()
        port = listener.getsockname()[1]
        target = Address("127.0.0.1", port)
        ours = connect_to((ip_address("127.0.0.1"), port))
        with ours, listener.accept()[0] as came:
            assert is_dialled(came.getpeername(), target)
            assert not is_dialled(came.getpeername(), Address("127.0.0.2", port))
            with socket.create_connection(("127.0.0.1", port)), listener.accept()[0] as other:
                assert not is_dialled(other.getpeername(), target)
        assert not is_dialled(("127.0.0.1", port), target)


def test_nothing_is_left_of_ports_that_were_closed():
    """Ports on a server come and go for months."""
    before = len(own._ports)
    ports = [OwnPort(Address("127.0.0.1", 1000 + number), TCP) for number in range(100)]
    assert len(own._ports) >= 100
    del ports
    assert len(own._ports) <= before
