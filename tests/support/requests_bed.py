"""A client's connector, and the far side of its carriers, which answers its requests as a test says."""

from contextlib import suppress

import gevent
from gevent import socket
from gevent.event import Event

from lane.address import Address
from lane.carriers.connector import TunnelConnector
from lane.carriers.path_control import PathControl
from lane.carriers.pool import Pool
from lane.carriers.session_driver import SessionDeadlines
from lane.errors import Closed, LaneError, Status
from lane.proto.frames import Data, FrameReader, ResetFrame
from lane.proto.hello import Command, Reply, parse_request
from lane.session.receive_window import INITIAL_WINDOW
from lane.session.registry import Registry
from lane.testing import client_tls, server_tls
from lane.testing.harness import until

HELLO = b"hello"
TARGET = Address("web.test", 443)
MB = 1 << 20


class Asked:
    """A stream as the server sees it: the request, and what came behind it so far."""

    def __init__(self, stream):
        self.stream, self.data, self.end = stream, b"", None
        self.whole = Event()
        self.reader = gevent.spawn(self.read)
        self.whole.wait()  # no `until`: time passes slowly while anybody polls

    def read(self):
        with suppress(LaneError):
            while more := self.stream.recv():
                self.data += more
                if self.request() is not None:
                    self.whole.set()
                if self.end and any(isinstance(frame, ResetFrame) for frame in self.frames()):
                    self.stream.close()  # which says that it was heard

    def request(self):
        found = parse_request(self.data[len(HELLO) :])
        if found:
            self.end = len(HELLO) + found[1]
            return found[0]
        return None

    def frames(self):
        return FrameReader().feed(self.data[self.end :])

    def early(self):
        return b"".join(bytes(frame.data) for frame in self.frames() if isinstance(frame, Data))

    def reply(self, status=Status.OK, window=INITIAL_WINDOW, more=b"", text="", epoch=bytes(8)):
        self.stream.sendall(Reply(status, epoch, window, Address("192.0.2.1", 7), text).pack() + more)


class Bed:
    """A client's connector, and the far side of its carriers."""

    def __init__(self, transport, fast_open, timeout=10.0):
        tls = server_tls()
        self.listener = transport.listen(Address("127.0.0.1", 0), tls)
        self.carriers, self.dials = [], 0

        def dial():
            self.dials += 1
            return transport.dial(self.listener.address, client_tls(tls))

        self.pool = Pool(dial, lambda carrier: HELLO, dial_timeout=5.0)
        self.registry = Registry(16 * MB, 512 * MB, 3600.0, 100, 100)
        self.paths = PathControl({"one": (1.0, self.pool)}, self.registry, "there is only one")
        self.connector = TunnelConnector(
            self.paths, self.registry, SessionDeadlines(timeout, 10.0), fast_open
        )
        self.connect = self.connector.connect
        self.asked, self.probes, self.jobs = [], [], []
        gevent.spawn(self.accept)
        self.apps = []

    def accept(self):
        with suppress(Closed):
            while True:
                self.carriers.append(self.listener.accept())
                gevent.spawn(self.serve, self.carriers[-1])

    def serve(self, carrier):
        with suppress(Closed):
            while True:
                self.jobs.append(gevent.spawn(self.ask, carrier.accept()))

    def ask(self, stream):
        """A spare waits here for a request that may never come: `close` ends that."""
        asked = Asked(stream)
        if asked.request().command == Command.PROBE:
            asked.reply()
            self.probes.append(asked)
        else:
            self.asked.append(asked)

    def next(self):
        """The next request at the server."""
        until(lambda: self.asked)
        return self.asked.pop(0)

    def application(self, connection, early=b""):
        """An application's socket whose connection is relayed."""
        here, there = socket.socketpair()
        self.apps.append(here)
        return here, gevent.spawn(connection.run, there, early)

    def reach(self, target=TARGET):
        """Reach it once, truthfully."""
        job = gevent.spawn(self.connect, target)
        self.next().reply()
        job.get().abort()

    def close(self):
        gevent.killall(self.jobs)
        for app in self.apps:
            app.close()
        self.paths.close()
        self.listener.close()
        self.registry.close()
        for carrier in self.carriers:
            carrier.close()
