"""Each loop that lives as long as the process goes on after a failure: its body raises once, then works."""

from contextlib import suppress

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool as Greenlets
from lane_tls.plugin import TLSTransport

from lane import supervisor
from lane.address import Address
from lane.asking import ask
from lane.carriers import network, spares
from lane.carriers import pool as pool_module
from lane.carriers.demand import Demand
from lane.carriers.dial_limiter import DialLimiter
from lane.control import Control
from lane.egress.policy import Policy
from lane.egress.udp import UdpEgress
from lane.errors import Closed, Unreachable
from lane.inbound import Inbound, udp_forward
from lane.inbound import direct as direct_module
from lane.inbound import udp as inbound_udp
from lane.inbound.direct import Direct
from lane.inbound.reverse import ReverseForwarder
from lane.inbound.udp import AppUdpPort
from lane.inbound.udp_forward import UdpForward
from lane.net.resolver import Resolver
from lane.net.udp import UdpSocket
from lane.proto.udp import pack_socks
from lane.server import resumption as resumption_module
from lane.session import registry as registry_module
from lane.session.flows import Flows
from lane.testing import MemoryTransport, client_tls, server_tls
from lane.testing.harness import until
from tests.support.beds import making_beds

HERE = Address("127.0.0.1", 0)


class Fault(Exception):
    """What a body raises that nobody foresaw."""


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(supervisor, "LEAST_PAUSE", 0.001)


@pytest.fixture
def fails_once(monkeypatch, caplog):
    """Has a function raise the next time that it is called; gives what tells whether that was logged."""

    def arrange(owner, name):
        right, raised = getattr(owner, name), []

        def faulty(*arguments, **named):
            if not raised:
                raised.append(1)
                raise Fault(name)
            return right(*arguments, **named)

        monkeypatch.setattr(owner, name, faulty)
        return lambda: [record for record in caplog.records if record.exc_info and Fault in record.exc_info]

    return arrange


@pytest.fixture
def beds():
    with making_beds(ways=("cheap", "dear")) as make:
        yield make


def exchange(app, text=b"hello"):
    app.sock.sendall(text)
    return app.sock.recv(100) == text


def test_the_clock_of_the_sessions(beds, fails_once, monkeypatch):
    bed = beds()
    bed.application()
    logged = fails_once(registry_module, "Walk")
    until(logged)
    monkeypatch.setattr(bed.registry, "_idle_timeout", 0.0)
    until(lambda: not bed.registry.sessions)


def test_a_fault_in_looking_after_a_session_ends_that_session_only(beds, monkeypatch, caplog):
    bed = beds()
    faulty, well = bed.application(), bed.application()
    monkeypatch.setattr(faulty.session, "tick", lambda now: 1 / 0)
    until(lambda: faulty.session.error)
    assert str(faulty.session.error) == "looking after the session failed"
    assert exchange(well)
    faulty.job.join()
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


@pytest.mark.parametrize("what", ["count", "waiting"])
def test_a_fault_in_looking_at_a_session_for_its_lane_ends_that_session_only(beds, monkeypatch, what):
    bed = beds()
    faulty, well = bed.application(), bed.application()
    driver = bed.paths._drivers[faulty.session]
    monkeypatch.setattr(driver, what, lambda *_: 1 / 0)
    until(lambda: faulty.session.error)
    assert exchange(well)
    assert list(bed.paths._drivers) == [well.session]


def test_the_look_at_the_lanes(beds, fails_once):
    bed = beds()
    app = bed.application()
    logged = fails_once(bed.paths, "_policy")
    until(logged)
    bed.ways["cheap"].cut()
    until(lambda: bed.lanes.choice.name == "dear")
    assert exchange(app)


def test_the_sweeper_of_sessions_that_wait(beds, fails_once, monkeypatch):
    monkeypatch.setattr(resumption_module, "SWEEP", 0.01)
    bed = beds(grace=0.1)
    app = bed.application()
    logged = fails_once(resumption_module, "monotonic")
    until(logged)
    for way in bed.ways.values():
        way.cut()
    until(lambda: not bed.server_registry.sessions)
    app.job.join()


def test_the_sweeper_of_carriers(beds, fails_once, monkeypatch):
    monkeypatch.setattr(pool_module, "SWEEP", 0.01)
    bed = beds()
    assert exchange(bed.application())
    pool = bed.lanes.lanes["cheap"].pool
    logged = fails_once(pool_module, "dead")
    idle = pool.lease()
    idle.discard()
    odd = object()  # something that can't say whether it is closed
    pool._leases[odd] = 0
    pool._unleased.add(odd)
    until(logged)
    until(lambda: all(carrier in bed.ways["cheap"].carriers for carrier in pool._leases))


def test_the_makers_of_spares(fails_once, monkeypatch):
    monkeypatch.setattr(spares, "PAUSE", 0.0)
    monkeypatch.setattr(pool_module, "SWEEP", 0.01)
    monkeypatch.setattr(Demand, "spares", lambda self, now: 2)
    tls = server_tls()
    listener = TLSTransport().listen(HERE, tls)
    accepted = []
    accepting = gevent.spawn(lambda: [accepted.append(listener.accept()) for _ in range(99)])
    pool = pool_module.Pool(
        lambda: TLSTransport().dial(listener.address, client_tls(tls)), lambda carrier: b"hello", 20.0
    )
    logged = fails_once(pool._dials, "dial")
    pool._share = 1
    pool._spares.refill()
    until(logged)
    until(lambda: len(pool._spares) == 2)
    pool.close()
    until(lambda: all(carrier.closed for carrier in accepted))
    accepting.kill()
    for carrier in accepted:
        carrier.close()
    listener.close()


def test_the_giver_of_turns(caplog):
    turns = DialLimiter(1000.0)
    with turns.turn(60.0, urgent=True, wanted=lambda: 1 / 0) as given:
        assert not given
    with turns.turn(60.0, urgent=True) as given:
        assert given
    until(lambda: caplog.records)
    turns.close()


def test_a_probe(beds, fails_once):
    bed = beds()
    logged = fails_once(bed.lanes.lanes["dear"].probe, "_reach")
    bed.application()
    until(logged)
    until(lambda: bed.lanes.lanes["dear"].probe.alive)


def test_the_watch_of_the_network(monkeypatch):
    monkeypatch.setattr(network, "POLL", 0.001)
    monkeypatch.setattr(network.socket, "AF_NETLINK", 999, raising=False)  # as on a system without it
    addresses = iter(range(10**9))
    monkeypatch.setattr(network, "_address", lambda: next(addresses))
    calls = []

    def changed():
        calls.append(1)
        if len(calls) == 1:
            raise Fault

    watcher = network.watch(changed)
    until(lambda: len(calls) > 2)
    watcher.kill()


def test_the_acceptance_of_carriers(beds, fails_once):
    bed = beds()
    logged = [fails_once(listener, "accept") for listener in bed.listeners.values()]
    assert exchange(bed.application())  # the first loops are in accept already
    assert exchange(bed.application())
    for way in bed.ways.values():
        way.drop()
    assert exchange(bed.application())
    assert any(told() for told in logged)


def test_a_carrier_that_fails_when_it_is_welcomed_costs_only_itself(beds, monkeypatch, caplog):
    bed = beds()
    welcome, failed = bed.server._welcome, []

    def faulty(carrier, transport):
        if not failed:
            failed.append(carrier)
            raise Fault
        welcome(carrier, transport)

    monkeypatch.setattr(bed.server, "_welcome", faulty)
    assert exchange(bed.application())  # it was taken for a server without room, and asked again
    assert failed[0].closed


def test_the_acceptance_of_connections(fails_once):
    inbound = Inbound(HERE, lambda sock: sock.sendall(b"served"), Greenlets(10))
    logged = fails_once(inbound._pool, "wait_available")
    inbound.start()
    with socket.create_connection(inbound.address) as sock:
        assert sock.recv(100) == b"served"
    assert logged()
    inbound.close()


class Connector:
    """Associations that only take notes."""

    def __init__(self):
        self.packets, self.over, self.closed = [], Event(), 0

    def associate(self, deliver, *, anyone=False):
        return self

    def leaves(self, goes):
        pass

    def send(self, target, payload):
        self.packets.append(bytes(payload))

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("part", ["_welcome", "monotonic"])
def test_the_port_and_the_sweeper_of_a_udp_forward(fails_once, monkeypatch, part):
    monkeypatch.setattr(udp_forward, "SWEEP", 0.01)
    connector = Connector()
    forward = UdpForward(HERE, Address("target.test", 53), connector, idle_timeout=0.05, most=10)
    logged = fails_once(forward if part == "_welcome" else udp_forward, part)
    forward.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while not connector.packets:
            sock.sendto(b"hello", forward.address)
            gevent.sleep(0.005)
    until(logged)
    until(lambda: connector.closed)  # who is silent is forgotten
    forward.close()
    forward.kill()


def test_the_packets_of_an_application(fails_once):
    connector = Connector()
    logged = fails_once(connector, "send")
    near, far = socket.socketpair()
    port = AppUdpPort(UdpSocket.open(socket.AF_INET, "127.0.0.1"), "127.0.0.1", 0)
    job = gevent.spawn(inbound_udp.relay, near, port, connector, 60.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as app:
        for payload in (b"one", b"two"):
            app.sendto(pack_socks(HERE, payload), port.address)
    until(lambda: connector.packets == [b"two"])
    assert logged()
    far.close()
    assert job.get(timeout=60) == "the application left"
    near.close()
    port.close()


def test_a_reverse_forward(fails_once):
    class Server:
        def __init__(self):
            self.asked = 0

        def reverse(self, where):
            self.asked += 1
            raise Closed("not now")

    server = Server()
    logged = fails_once(server, "reverse")
    reverse = ReverseForwarder(server, HERE, HERE, lambda target: None, shown="server", parked=1)
    reverse.start()
    until(logged)
    until(lambda: server.asked)
    assert reverse._places.counter == reverse._places._initial_value - 1  # the place came back, and was taken
    reverse.close()


def test_the_sweeper_of_direct_connections(fails_once, monkeypatch):
    monkeypatch.setattr(direct_module, "SWEEP", 0.01)
    logged = fails_once(direct_module, "monotonic")
    direct = Direct(Policy(local=True), Resolver(), 0.01)
    until(logged)
    connection = type("Connection", (), {"last": 0.0, "reset": lambda self: resets.append(1)})()
    resets = []
    direct.began(connection)
    until(lambda: resets)
    direct.ended(connection)
    direct.drain(0)


def test_the_control_socket(tmp_path, fails_once):
    control = Control(tmp_path / "sock", dict)
    logged = fails_once(control._pool, "full")
    control.start()
    for _ in range(2):
        asking = gevent.get_hub().threadpool.spawn(lambda: list(ask(tmp_path / "sock")))
        gevent.wait([asking], timeout=60)
        if not logged() or asking.successful():
            break
    assert logged()
    asking = gevent.get_hub().threadpool.spawn(lambda: list(ask(tmp_path / "sock")))
    assert asking.get(timeout=60) == [{}]
    control.close()


def test_a_port_on_the_server(beds, fails_once):
    bed = beds()
    listening = bed.connector.reverse(HERE)
    (shared,) = bed.doors._shared.values()
    until(shared._able)
    logged = fails_once(shared, "_able")
    accepting = gevent.spawn(listening.accept)
    with socket.create_connection(shared.bound):
        assert accepting.get(timeout=60).host == "127.0.0.1"
        assert logged()
    listening.abort()


def test_the_packets_of_targets(fails_once):
    got = []
    egress = UdpEgress(Policy(local=True), Resolver(), lambda target: None, anyone=False)
    egress.deliver = lambda source, payload: got.append(bytes(payload))
    logged = fails_once(egress, "deliver")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        egress.send(Address(*target.getsockname()), b"hello")
        _, where = target.recvfrom(100)
        while not got:
            target.sendto(b"answer", where)
            gevent.sleep(0.005)
    assert logged()
    egress.close()


def test_the_sorting_of_datagrams_costs_that_datagram(caplog):
    tls = server_tls()
    transport = MemoryTransport(datagram_size=1200)
    listener = transport.listen(HERE, tls)
    carrier = transport.dial(listener.address, client_tls(tls))
    far = listener.accept()
    flows, got = Flows(far), []

    def faulty(datagram):
        raise Fault

    assert flows.join(b"faultyyy", faulty)
    assert flows.join(b"well----", got.append)
    for flow in (b"faultyyy", b"well----", b"faultyyy", b"well----"):
        carrier.datagrams.send(flow + b"x")
    until(lambda: len(got) == 2)
    assert [record.exc_info[0] for record in caplog.records] == [Fault]
    carrier.close()
    listener.close()


@pytest.mark.parametrize("part", ["accept_plain", "_greet"])
def test_the_acceptance_of_tls_connections(fails_once, part):
    tls = server_tls()
    listener = TLSTransport().listen(HERE, tls)
    logged = fails_once(listener._acceptors[0] if part == "accept_plain" else listener, part)
    accepting = gevent.spawn(listener.accept)
    dialled = []
    while not dialled or not logged():
        with suppress(Unreachable):  # the one that it cost
            dialled.append(TLSTransport().dial(listener.address, client_tls(tls)))
            break
    assert logged()
    for carrier in (*dialled, accepting.get(timeout=60)):
        carrier.close()
    listener.close()
