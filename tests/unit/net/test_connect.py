"""lane's own connections to hosts by name: past dead addresses, and in time."""

import fcntl
import gc
import resource
import socket

import gevent
import pytest
from lane_tls.plugin import TLSTransport

from lane.address import Address
from lane.errors import Unreachable
from lane.net import connect, race
from lane.net.connect import Connector
from lane.testing import client_tls, server_tls
from lane.testing.tcp import TCPTransport
from lane.via import Via
from tests.support.loopback import deaf, full, listen
from tests.support.names import Names


@pytest.fixture(autouse=True)
def _watchdog():
    with gevent.Timeout(30, AssertionError("the test hangs")):
        yield


@pytest.fixture
def tried(monkeypatch):
    """The addresses that were dialled."""
    tried = []
    known = connect.connect_to
    monkeypatch.setattr(
        connect, "connect_to", lambda where, *how: tried.append(str(where[0])) or known(where, *how)
    )
    return tried


def past_a_dead_address(dial, tried):
    """`dial` twice a name whose first address is dead: only once is that waited for."""
    for _ in range(2):
        dial().close()
    assert tried == ["127.0.0.2", "127.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize("make", [TLSTransport, TCPTransport])
def test_a_server_whose_first_address_is_dead(tried, monkeypatch, make):
    transport = make()
    connector = Connector(Names("127.0.0.2", "127.0.0.1"))
    monkeypatch.setattr(
        transport,
        "connect" if make is TLSTransport else "_connector",
        connector.connect if make is TLSTransport else connector,
    )
    identity = server_tls()
    with deaf("127.0.0.2") as port:
        listener = transport.listen(Address("127.0.0.1", port), identity)
        past_a_dead_address(lambda: transport.dial(Address("server.test", port), client_tls(identity)), tried)
        listener.close()


def test_a_proxy_whose_first_address_is_dead(tried):
    accepted = []
    with listen("127.0.0.1") as proxy, deaf("127.0.0.2", proxy.getsockname()[1]) as port:

        def serve():
            while True:
                accepted.append(proxy.accept()[0])
                accepted[-1].sendall(b"\5\0\5\0\0\1\0\0\0\0\0\0")

        serving = gevent.spawn(serve)
        via = Via("socks5", Address("proxy.test", port), connector=Connector(Names("127.0.0.2", "127.0.0.1")))
        past_a_dead_address(lambda: via.connect(Address("server.test", 1), 30), tried)
        serving.kill()
    for sock in accepted:
        sock.close()


def test_what_a_name_that_is_not_answered_costs():
    names = Names("127.0.0.1")
    names.go.clear()
    with pytest.raises(Unreachable, match=r"cannot look up server.test: name look-up timed out"):
        Connector(names).connect(Address("server.test", 1), 0.05)
    with pytest.raises(Unreachable, match=r"cannot look up a..b: not a host name"):
        Connector().connect(Address("a..b", 1), 10)


def test_what_went_wrong_is_said():
    with listen("127.0.0.1") as one:
        port = one.getsockname()[1]
    with pytest.raises(Unreachable, match=rf"cannot reach server.test:{port}: Connection refused"):
        Connector(Names("127.0.0.1")).connect(Address("server.test", port), 10)


def test_the_time_is_for_everything(monkeypatch):
    monkeypatch.setattr(race, "STAGGER", 0.001)
    with deaf("127.0.0.2") as port, pytest.raises(Unreachable, match="Connection timed out"):
        Connector(Names("127.0.0.2", "127.0.0.2")).connect(Address("server.test", port), 0.1)


@pytest.fixture
def many_descriptors():
    """The process may have more than `select` takes, and its garbage stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1100), hard))
    gc.disable()
    yield
    gc.enable()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("port_is_free", [True, False])
@pytest.mark.usefixtures("many_descriptors")
def test_a_lost_syn_is_made_up_for_before_the_kernel_repeats_it(monkeypatch, port_is_free):
    begun = []

    def begin(where, tune):
        if begun:
            begun.append(None)
            listener.accept()[0].close()  # from now on there is room
            if not port_is_free:
                raise OSError("no port is free")
        sock, under_way = connect_begin(where, tune)
        with sock:
            high = socket.socket(fileno=fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, 1024))
        begun.append((high, under_way))
        return begun[-1]

    connect_begin = connect._begin
    monkeypatch.setattr(connect, "_begin", begin)
    monkeypatch.setattr(connect, "STAGGER", 0.0123)
    with listen("127.0.0.1", backlog=0) as listener, full(listener):
        port = listener.getsockname()[1]
        with Connector().connect_plain(Address("127.0.0.1", port), 20) as found:
            assert found.getpeername()[1] == port
    (first, _), _, *second = begun
    assert found is (second[0][0] if port_is_free else first)
    assert found is first or first.fileno() == -1
    late = [one for one in gc.get_objects() if type(one) is gevent.Timeout and one.seconds == connect.STAGGER]
    assert not late, "its traceback has all that was there"


@pytest.mark.parametrize("host", ["fe80::1%nowhere9", "::1%nowhere9"])
def test_an_interface_that_is_not_there(host):
    with pytest.raises(Unreachable, match="no interface"):
        Connector().connect(Address(host, 1), 10)


def test_an_address_with_its_interface():
    with listen("::1") as one:
        Connector().connect(Address("::1%lo", one.getsockname()[1]), 10).close()
