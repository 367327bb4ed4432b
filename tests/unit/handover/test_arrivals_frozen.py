"""Connections of a client in the format of each release, which every later release goes on with.

A file `.connection` of tests/frozen is a parcel: a connection whose application has sent `hello`, of which
the server has consumed nothing, and then `world`, which was read and not sent. The server has sent `abc`,
which the application has not got. To make the file of a new release:
`python -m tests.unit.handover.test_arrivals_frozen VERSION`.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

import gevent
import pytest
from gevent import socket

from lane.address import Address
from lane.carriers.connector import TunnelConnector
from lane.carriers.departures import Departures
from lane.carriers.path_control import PathControl
from lane.carriers.session_driver import SessionDeadlines, SessionDriver
from lane.carriers.tunnels import RELAY, TunnelConnection
from lane.handover import channel
from lane.handover.arrivals import Arrivals
from lane.handover.exchange import Others
from lane.proto.frames import Data, pack
from lane.proto.hello import RESUMABLE, Command, Request
from lane.session.parcel import Parcel
from lane.session.registry import Registry
from lane.session.relay import Relay
from lane.stream import LinkStats
from lane.testing.harness import until
from tests.support.frozen import Held, LostPool

FROZEN = Path(__file__).parents[2] / "frozen"
ID = bytes(range(16))


@pytest.mark.parametrize("file", sorted(FROZEN.glob("*.connection")), ids=lambda file: file.name)
def test_each_release(file):
    registry = Registry(1 << 20, 1 << 26, 3600.0, 10, 10)
    paths = PathControl({"lost": (1.0, LostPool())}, registry, "because")
    connector = TunnelConnector(paths, registry, SessionDeadlines(10.0, 10.0))
    ours, theirs = socket.socketpair()
    jobs = []

    def take_over(parcel, leased):
        jobs.append(gevent.spawn(connector.take_over(parcel, leased)))

    arrivals = Arrivals(paths.lanes, Others([]), {RELAY: take_over}, lambda: None)
    with theirs:
        arrivals.adopt(Parcel(channel.unpack(file.read_bytes()), [ours.detach()]))
        (session,) = registry.sessions
        session.grant(100)
        until(lambda: session.send_buffer.sent == 10)
        assert bytes(session.send_buffer.again(0, 5)) + bytes(session.send_buffer.again(5, 5)) == (
            b"helloworld"
        )
        assert theirs.recv(10) == b"abc"
        assert connector.departures.ready() == {ID: (True, False)}
        session.reset()
        gevent.joinall(jobs)
    paths.close()
    registry.close()


def freeze(version):
    """Write the file of a release."""
    registry = Registry(1 << 20, 1 << 26, 3600.0, 10, 10)
    ours, theirs = socket.socketpair()
    request = Request(Command.CONNECT, Address("192.0.2.2", 80), 5, RESUMABLE, ID, 0)
    relay, departures = Relay(), Departures(lambda driver: None)
    with registry.session(5, relay, resumable=True) as session:
        driver = SessionDriver(None, session, request, SessionDeadlines(1.0, 1.0))
        driver.requests.server_epoch, driver.requests.generation = bytes(8), 3
        connection = TunnelConnection(Address("192.0.2.1", 1234), relay, ExitStack(), driver, departures)
        theirs.sendall(b"hello")
        gevent.spawn(connection.run, ours, b"")
        gevent.spawn(session.carry, Held(b""), LinkStats)
        until(lambda: session.send_buffer.sent == 5)
        theirs.sendall(b"world")
        gevent.sleep(0.1)
        relay._offer = None
        relay.readable = lambda: None
        gevent.spawn(session.carry, Held(pack(Data(0, b"abc"))), LinkStats)
        until(lambda: session.receive_window.held == 3)
        parcel = departures.hand_over(("", ID), 4)
    (FROZEN / f"{version}.connection").write_bytes(channel.pack(parcel.state))


if __name__ == "__main__":
    freeze(sys.argv[1])
