"""Packets of a session that has ended: nothing is joined, delivered or kept any more."""

import gevent

from lane.budget import Budget
from lane.proto.udp import FLOW_SIZE
from lane.session.packets import Packets
from lane.session.session import Session
from lane.stream import Address

HERE = Address("192.0.2.1", 53)


class Joined:
    """Flows that note who joins them."""

    datagrams = None

    def __init__(self):
        self.members = []

    def join(self, flow, deliver):
        self.members.append(flow)
        return True

    def leave(self, flow):
        self.members.remove(flow)


def test_after_the_end_no_datagrams_are_joined_and_nobody_is_told():
    got, first, second = [], Joined(), Joined()
    packets = Packets(b"f" * FLOW_SIZE, lambda *packet: got.append(packet))
    session = Session(1 << 20, 1 << 20, Budget(1 << 30), packets)
    packets.begin(session)
    packets.carrier_changed(lambda: first)
    assert first.members == [b"f" * FLOW_SIZE]
    job = gevent.spawn(packets.run)
    gevent.idle()
    session.reset()
    assert job.get() is not None
    assert first.members == []
    packets.carrier_changed(lambda: second)
    assert second.members == []
    packets._deliver(HERE, b"late")
    assert got == []
