"""SOCKS5 UDP ASSOCIATE at the inbound: whose port it is, what passes, and when it ends."""

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from lane.address import Address, unpack
from lane.errors import Closed, Status, TargetError
from lane.inbound import UdpTerms
from lane.inbound.udp import _watch
from lane.proto.udp import pack_socks, parse_socks
from lane.testing.harness import until
from tests.support.inbound import GREETING, dial, receive, running, to_end, to_reset

ANYWHERE = Address("0.0.0.0", 0)
TARGET = Address("192.0.2.1", 53)


class Echo:
    """An Association with a world that says everything back."""

    def __init__(self, deliver):
        self.over = Event()
        self.deliver = deliver
        self.sent = []
        self.closed = False

    def leaves(self, goes):
        pass

    def send(self, target, payload):
        self.sent.append((target, bytes(payload)))
        self.deliver(target, payload)

    def close(self):
        self.closed = True


class World:
    """Makes associations, and remembers them."""

    def __init__(self, error=None):
        self.made = []
        self.asked = []
        self.error = error

    def associate(self, deliver, *, anyone):
        if self.error:
            raise self.error
        self.asked.append(anyone)
        self.made.append(Echo(deliver))
        return self.made[-1]


def ask(inbound, source=ANYWHERE):
    """The connection, and the address for packets."""
    sock = dial(inbound)
    sock.sendall(GREETING + b"\x05\x03\x00" + source.pack())
    assert receive(sock, 2) == b"\x05\x00"
    head = receive(sock, 4)
    assert head[:3] == b"\x05\x00\x00", head
    rest = head[3:] + receive(sock, {1: 6, 4: 18}[head[3]])
    return sock, unpack(rest)[0]


@pytest.fixture
def application():
    """Makes sockets of applications."""
    made = []

    def make(host="127.0.0.1"):
        made.append(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM))
        made[-1].bind((host, 0))
        return made[-1]

    yield make
    for sock in made:
        sock.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("size", [0, 1, 1200, 60000])
def test_there_and_back(host, size, application):
    world = World()
    with running(host=host, associate=world.associate) as inbound:
        sock, port = ask(inbound)
        assert port.host == host
        app = application(host)
        app.sendto(pack_socks(TARGET, bytes(size)), port)
        target, payload = parse_socks(app.recv(65535))
        assert (target, bytes(payload)) == (TARGET, bytes(size))
        assert world.made[0].sent == [(TARGET, bytes(size))]
        assert world.asked == [False]
        sock.close()


def test_on_a_socket_for_both_families_an_ipv4_application_gets_an_ipv4_port(application):
    world = World()
    with running(host="", associate=world.associate) as inbound:
        sock = socket.create_connection(("127.0.0.1", inbound.address.port))
        sock.sendall(GREETING + b"\x05\x03\x00" + ANYWHERE.pack())
        reply = receive(sock, 12)
        port = unpack(reply[5:])[0]
        assert port.host == "127.0.0.1"
        app = application()
        app.sendto(pack_socks(TARGET, b"hello"), port)
        assert app.recv(100) == pack_socks(TARGET, b"hello")
        sock.close()


def test_the_first_packet_pins_where_the_application_is(application):
    world = World()
    with running(associate=world.associate) as inbound:
        sock, port = ask(inbound)
        app, other, stranger = application(), application(), application("127.0.0.2")
        stranger.sendto(pack_socks(TARGET, b"stranger"), port)  # another host can't be first
        app.sendto(pack_socks(TARGET, b"first"), port)
        assert app.recv(100) == pack_socks(TARGET, b"first")
        for thief in other, stranger:
            thief.sendto(pack_socks(TARGET, b"thief"), port)
        app.sendto(pack_socks(TARGET, b"second"), port)
        assert app.recv(100) == pack_socks(TARGET, b"second")
        assert [payload for _, payload in world.made[0].sent] == [b"first", b"second"]
        sock.close()


@pytest.mark.parametrize("said", [Address("127.0.0.1", 53), Address("192.0.2.1", 53), Address("", 1)])
def test_an_application_need_not_know_its_port(application, said):
    """Behind NAT it can't, and some say the target's."""
    world = World()
    with running(associate=world.associate) as inbound:
        sock, port = ask(inbound, said._replace(host=said.host or "127.0.0.1"))
        app, thief = application(), application()
        app.sendto(pack_socks(TARGET, b"mine"), port)
        assert app.recv(100) == pack_socks(TARGET, b"mine")
        thief.sendto(pack_socks(TARGET, b"thief"), port)
        app.sendto(pack_socks(TARGET, b"mine, too"), port)
        assert app.recv(100) == pack_socks(TARGET, b"mine, too")
        assert [payload for _, payload in world.made[0].sent] == [b"mine", b"mine, too"]
        sock.close()


def test_an_application_that_sends_from_where_it_said_has_its_port_whoever_came_first(application):
    world = World()
    with running(associate=world.associate) as inbound:
        app, other, stranger = application(), application(), application("127.0.0.2")
        sock, port = ask(inbound, Address("127.0.0.1", app.getsockname()[1]))
        other.sendto(pack_socks(TARGET, b"other"), port)
        app.sendto(pack_socks(TARGET, b"mine"), port)
        assert app.recv(100) == pack_socks(TARGET, b"mine")
        for thief in other, stranger:
            thief.sendto(pack_socks(TARGET, b"thief"), port)
        app.sendto(pack_socks(TARGET, b"mine, too"), port)
        assert app.recv(100) == pack_socks(TARGET, b"mine, too")
        assert b"thief" not in [payload for _, payload in world.made[0].sent]
        sock.close()


@pytest.mark.parametrize(
    "packet", [b"", b"\0\0\0", b"\0\0\x01" + TARGET.pack() + b"x", b"\0\0\0\x09xxxxxx", b"x" * 50]
)
def test_fragments_and_garbage_are_dropped(packet, application):
    world = World()
    with running(associate=world.associate) as inbound:
        sock, port = ask(inbound)
        app = application()
        app.sendto(packet, port)
        app.sendto(pack_socks(TARGET, b"good"), port)
        assert app.recv(100) == pack_socks(TARGET, b"good")
        assert world.made[0].sent == [(TARGET, b"good")]
        sock.close()


def test_packets_before_the_application_has_sent_any_go_nowhere(application):
    world = World()
    with running(associate=world.associate) as inbound:
        sock, port = ask(inbound)
        world.made[0].deliver(TARGET, b"too early")
        app = application()
        app.sendto(pack_socks(TARGET, b"hello"), port)
        assert app.recv(100) == pack_socks(TARGET, b"hello")
        sock.close()


def gone(port):
    """Whether nobody has the port any more."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(port)
        except OSError:
            return False
        return True


def test_it_ends_with_its_connection(application):
    world = World()
    with running(associate=world.associate) as inbound:
        sock, port = ask(inbound)
        sock.sendall(b"what nobody expects")
        app = application()
        app.sendto(pack_socks(TARGET, b"x"), port)
        app.recv(100)
        assert not world.made[0].closed
        sock.close()
        until(lambda: world.made[0].closed)
        until(lambda: gone(port))
        until(lambda: not inbound.sessions)


def test_it_ends_when_the_server_ends_it():
    world = World()
    with running(associate=world.associate) as inbound:
        sock, port = ask(inbound)
        world.made[0].over.set()
        with sock:
            assert to_reset(sock) == b""
        until(lambda: gone(port))


def test_it_ends_when_nothing_moves_and_not_before(clock, application):
    world = World()
    with running(associate=world.associate, udp=UdpTerms(idle_timeout=60.0)) as inbound:
        sock, port = ask(inbound)
        app = application()
        for _ in range(10):
            gevent.sleep(45)
            app.sendto(pack_socks(TARGET, b"x"), port)
            app.recv(100)
        assert not world.made[0].closed
        with sock:
            assert to_end(sock) == b""
        assert world.made[0].closed


def test_a_refusal_is_told_as_it_is():
    for error, code in (TargetError(Status.NOT_ALLOWED, "no"), 2), (Closed("lost"), 1):
        with running(associate=World(error).associate) as inbound, dial(inbound) as sock:
            sock.sendall(GREETING + b"\x05\x03\x00" + ANYWHERE.pack())
            assert to_end(sock)[:4] == b"\x05\x00\x05" + bytes((code,))


def test_anyone_is_asked_for_where_the_user_wants_it():
    world = World()
    with running(associate=world.associate, udp=UdpTerms(anyone=True)) as inbound:
        ask(inbound)[0].close()
    assert world.asked == [True]


def test_what_an_application_floods_its_connection_with_keeps_nobody_waiting():
    class Endless:
        """There is always something to receive, so that `recv` never waits, until the test gives up."""

        reads = 0

        def recv(self, size):
            self.reads += 1
            return b"x" * size if self.reads < 1_000_000 else b""

    sock, left = Endless(), Event()
    watch = gevent.spawn(_watch, sock, left)
    until(lambda: sock.reads)
    assert sock.reads < 1_000_000
    watch.kill()
