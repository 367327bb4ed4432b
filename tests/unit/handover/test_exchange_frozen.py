"""Sessions in the format of each release, which every later release goes on with.

A file `.session` of tests/frozen is a parcel: a session that has sent `hello`, of which nothing was consumed,
has read `world` from its target, which was not sent, and has received `abc`, which the target has not got. To
make the file of a new release: `python -m tests.unit.handover.test_exchange_frozen VERSION`.
"""

import socket
import sys
from pathlib import Path

import gevent
import pytest

from lane.address import Address
from lane.handover import channel
from lane.proto.frames import Data, pack
from lane.proto.hello import RESUMABLE, Command, Request
from lane.server.hosted import Asked, HostedSession
from lane.server.requests import Requests
from lane.server.resumption import Resumption
from lane.server.services import ConnectService, offers
from lane.session.parcel import Parcel
from lane.session.registry import Registry
from lane.session.sockets import SocketStream
from lane.stream import LinkStats
from lane.testing.harness import until
from lane.users.traffic import Traffic
from lane.users.users import Users
from tests.support.frozen import Held

FROZEN = Path(__file__).parents[2] / "frozen"
ID = bytes(range(16))


class Hook:
    def __getattr__(self, name):
        return lambda **_: None


def world():
    registry = Registry(1 << 20, 1 << 26, 3600.0, 10, 10)
    resumption = Resumption(60.0, 10, 1 << 24)
    requests = Requests(Hook(), offers(None), registry, resumption, traffic=Traffic(), users=Users())
    return requests, registry, resumption


@pytest.mark.parametrize("file", sorted(FROZEN.glob("*.session")), ids=lambda file: file.name)
def test_each_release(file):
    requests, registry, resumption = world()
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.settimeout(10.0)
        requests.adopt(Parcel(channel.unpack(file.read_bytes()), [ours.detach()]))
        live = resumption.find(("user", ID), 4).join(4)
        live.session.grant(100)
        until(lambda: live.session.send_buffer.sent == 10)
        assert bytes(live.session.send_buffer.again(0, 5)) + bytes(live.session.send_buffer.again(5, 5)) == (
            b"helloworld"
        )
        gevent.sleep(0)
        assert theirs.recv(10) == b"abc"
        assert live.bound == Address("192.0.2.1", 1234)
        live.session.reset()
        until(lambda: not len(registry))
    resumption.close()
    registry.close()


def freeze(version):
    """Write the file of a release."""
    _, registry, _ = world()
    ours, theirs = socket.socketpair()
    service = ConnectService(SocketStream(ours), Address("192.0.2.1", 1234))
    asked = Asked(
        Request(Command.CONNECT, Address("192.0.2.2", 80), 5, RESUMABLE, ID, 0), "user", "192.0.2.3"
    )
    with registry.session(5, service.owner, resumable=True) as session:
        live = HostedSession(service, session, asked, Hook(), "1")
        theirs.sendall(b"hello")
        gevent.spawn(live.run, lambda error: None)
        gevent.spawn(session.carry, Held(b""), LinkStats)
        until(lambda: session.send_buffer.sent == 5)
        theirs.sendall(b"world")
        gevent.sleep(0.1)
        service.owner.offer = lambda data: 0
        service.owner.readable = lambda: None
        gevent.spawn(session.carry, Held(pack(Data(0, b"abc"))), LinkStats)
        until(lambda: session.receive_window.held == 3)
        state = live.stop().state | {"key": ["user", ID], "generation": 3}
    FROZEN.mkdir(exist_ok=True)
    (FROZEN / f"{version}.session").write_bytes(channel.pack(state))


if __name__ == "__main__":
    freeze(sys.argv[1])
