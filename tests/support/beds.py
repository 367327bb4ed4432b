"""A client and a server in one process, joined by in-memory lanes that can be cut, and a target."""

import hashlib
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import SimpleNamespace

import gevent
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from lane.address import Address
from lane.carriers.connector import FastOpen, TunnelConnector
from lane.carriers.path_control import PathControl
from lane.carriers.pool import Pool
from lane.carriers.session_driver import SessionDeadlines
from lane.egress.listening import Ports
from lane.egress.policy import ListenRule, Policy
from lane.errors import Closed, Unreachable
from lane.net.resolver import Resolver
from lane.proto.hello import pack_hello, token
from lane.server import Server
from lane.server.live import LiveSessions
from lane.server.resumption import Resumption
from lane.server.services import Associations, offers
from lane.session.registry import Registry
from lane.testing import MemoryTransport, client_tls, server_tls
from lane.testing.harness import outcome
from tests.support.virtual_time import virtual_time

MB = 1 << 20
KEY = bytes(32)
COST = {"cheap": 1.0, "dear": 20.0}


class Flight:
    """What one end of a stream has sent and its way still holds: in order, and lost with the carrier."""

    def __init__(self, way, stream):
        self.way, self.queue = way, []
        self._deliver = {name: getattr(stream, name) for name in ("sendall", "finish")}
        stream.sendall = lambda data: self.send("sendall", bytes(data))
        stream.finish = lambda: self.send("finish")
        way.flights.add(self)

    def send(self, name, *data):
        while self.way.held and len(self.queue) > 20:  # a sender that outruns the network waits
            gevent.sleep(0.001)
        if self.way.held or self.queue:
            self.queue.append((name, data))
        else:
            self._deliver[name](*data)

    def land(self):
        while self.queue and not self.way.held:
            name, data = self.queue[0]
            with suppress(Closed):
                self._deliver[name](*data)
            del self.queue[:1]


class Way(MemoryTransport):
    """A transport whose network can be cut, and can hold what is on its way."""

    def __init__(self):
        super().__init__()
        self.blocked = self.held = False
        self.flights = set()
        self.carriers = []
        self.dials = 0

    def dial(self, endpoint, tls):
        self.dials += 1
        if self.blocked:
            raise Unreachable("the network is cut")
        carrier = super().dial(endpoint, tls)
        self.carriers.append(carrier)
        for end, get in ((carrier, "open"), (carrier.other, "accept")):
            setattr(end, get, partial(self._flying, getattr(end, get)))
        return carrier

    def _flying(self, get):
        stream = get()
        Flight(self, stream)
        return stream

    def release(self):
        """Let go of what was held."""
        self.held = False
        for flight in list(self.flights):
            gevent.spawn(flight.land)

    def drop(self):
        """Lose every carrier; new ones can be dialled."""
        carriers, self.carriers = self.carriers, []
        for flight in self.flights:
            flight.queue.clear()
        self.flights.clear()
        self.held = False
        for carrier in carriers:
            carrier.drop()

    def cut(self):
        self.blocked = True
        self.drop()


class Hook:
    def lane_authenticate(self, token, binding, peer):
        return "user"

    def lane_authorize(self, request, identity):
        return True

    def lane_session_started(self, **what):
        pass

    def lane_session_ended(self, **what):
        pass


class World:
    """The server's egress in these tests: says back what it gets, or what a test has it say."""

    def __init__(self):
        self.deliver = None
        self.got = []
        self.closed = Event()

    def send(self, target, payload):
        self.got.append((target, bytes(payload)))
        self.deliver(target, payload)

    def close(self):
        self.closed.set()


class Bed:
    """`ways`: names of the lanes. `serve(sock)` handles a connection at the target."""

    def __init__(self, ways, serve, *, grace=20.0, fast_open=FastOpen.OFF, policy=None, max_associations=100):
        self.stack = ExitStack()
        self.tls = server_tls()
        self.ways = {name: Way() for name in ways}
        self.target = StreamServer(("127.0.0.1", 0), lambda sock, _: outcome(serve, sock))
        self.target.start()
        self.listeners = {n: way.listen(Address("127.0.0.1", 0), self.tls) for n, way in self.ways.items()}
        self.grace = grace
        self.max_associations = max_associations
        self.start_server()
        self.registry = Registry(16 * MB, 512 * MB, 3600.0, 1000, 1000)
        pools = {name: (COST[name], self.pool(name)) for name in ways}
        how = {"policy": policy} if policy else {}
        self.paths = PathControl(pools, self.registry, "because", **how)
        self.lanes = self.paths.lanes
        deadlines = SessionDeadlines(10.0, grace)
        self.connector = TunnelConnector(self.paths, self.registry, deadlines, fast_open, max_associations)
        self.connect = self.connector.connect
        self.jobs, self.socks = [], []

    def start_server(self, *, epoch=None, **limits):
        self.worlds = []
        self.associations = Associations(self._world, self.max_associations)
        self.server_registry = Registry(16 * MB, 512 * MB, 3600.0, 1000, 1000)
        limits = {"most": 1000, "most_bytes": 256 * MB, **limits}
        self.resumption = Resumption(self.grace, limits["most"], limits["most_bytes"])
        self.doors = Ports(Policy(local=True), Resolver(), (ListenRule.parse("*"),), bind=True)
        self.live = LiveSessions()
        self.server = Server(
            [*self.listeners.values()],
            Hook(),
            offers(self._connect, self.associations, self.doors),
            self.server_registry,
            self.resumption,
            per_peer=1000,
            epoch=epoch,
            live=self.live,
            transports=[*self.ways],
        )

    def dial(self, _):
        """The server's way to its target, for tests to replace."""
        return socket.create_connection(self.target.address)

    def _world(self, authorize, *, user, anyone, frozen=None):
        """An egress for packets, where a test has none of its own."""
        self.worlds.append(World())
        return self.worlds[-1]

    def _connect(self, address, user):
        return self.dial(address)

    def restart_server(self, **how):
        """As after a kill: nothing is said, and nothing known of what was."""
        for name, listener in self.listeners.items():
            listener.close()
            self.ways[name].drop()
        self._end_server()
        self.listeners = {
            name: self.ways[name].listen(Address("127.0.0.1", listener.address.port), self.tls)
            for name, listener in self.listeners.items()
        }
        self.ports = {name: listener.address for name, listener in self.listeners.items()}
        self.start_server(**how)

    def _end_server(self):
        self.server.close(0)
        self.doors.close()
        self.server_registry.close()

    def pool(self, name):
        way = self.ways[name]
        tls = client_tls(self.tls)
        return Pool(
            lambda: way.dial(self.listeners[name].address, tls),
            lambda carrier: pack_hello(token(KEY, carrier.binding)),
            dial_timeout=5.0,
        )

    def application(self):
        """An application's socket, connected through lane; its job ends with the session."""
        connection = self.connect(Address("target.test", 80))
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
        listener.close()
        job = gevent.spawn(connection.run, there, b"")
        self.jobs.append(job)
        self.socks += [here, there]  # a job that is killed before it begins closes nothing
        return SimpleNamespace(sock=here, job=job, session=connection._session)

    def session(self):
        """The only session at the server."""
        (session,) = self.server_registry.sessions
        return session

    def close(self):
        gevent.killall(self.jobs)
        for sock in self.socks:
            sock.close()
        self.paths.close()
        self.registry.close()
        self._end_server()
        self.target.stop()


def digest(data):
    return hashlib.sha256(data).hexdigest()


def read_to_end(sock):
    data = bytearray()
    while more := sock.recv(65536):
        data += more
    return bytes(data)


def echo(sock):
    with sock:
        while data := sock.recv(65536):
            sock.sendall(data)


@contextmanager
def making_beds(**defaults):
    """A function that makes beds, which are closed afterwards; what is not given is `defaults`.

    They live on a VirtualTime, `clock` of the function: what the machine has other work for costs none.
    """
    made = []

    def make(serve=echo, **options):
        options = {**defaults, **options}
        made.append(Bed(options.pop("ways"), serve, **options))
        return made[-1]

    with virtual_time() as make.clock:
        try:
            yield make
        finally:
            for bed in made:
                bed.close()
