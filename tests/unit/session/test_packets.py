"""Packets of a session: at once where nobody waits. After its end, nothing is joined, delivered or kept."""

import gevent
from gevent.event import Event

from lane.budget import Budget
from lane.proto.udp import FLOW_SIZE, pack_packet
from lane.session.packets import TURN, Packets
from lane.session.session import Session
from lane.stream import Address, LinkStats
from lane.testing.harness import until

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


def begun(got):
    """Packets whose session has begun, and that session."""
    packets = Packets(b"", lambda address, payload: got.append(payload))
    session = Session(1 << 20, 1 << 20, Budget(1 << 30), packets)
    packets.begin(session)
    return packets, session


def test_packets_of_the_stream_are_taken_at_once_a_turn_at_a_time_and_nothing_malformed():
    got = []
    packets, _ = begun(got)
    data = b"".join(pack_packet(HERE, b"%d" % number) for number in range(TURN + 2))
    used = packets.offer(data)
    assert len(got) == TURN
    assert packets.offer(data[used:]) == len(data) - used
    assert got == [b"%d" % number for number in range(TURN + 2)]
    one = pack_packet(HERE, b"in two pieces")
    assert packets.offer(one[:5]) == 5
    assert packets.offer(one[5:] + b"\xff\xff") == len(one) - 5
    assert got[-1] == b"in two pieces"
    assert packets.offer(b"\xff\xff") == 0


class Full:
    """A stream without room, until somebody sets `room`."""

    def __init__(self):
        self.sent, self.room, self.over = [], Event(), Event()

    def send_now(self, data):
        self.sent.append(data)
        return self.room.is_set()

    def sendall(self, data):
        self.room.wait()
        self.sent.append(bytes(data))

    def recv(self, limit=0):
        self.over.wait()
        return b""

    def reset(self, code=0):
        self.over.set()


def test_behind_a_packet_that_the_stream_has_no_room_for_others_wait_in_order():
    stream = Full()
    packets, session = begun([])
    job = gevent.spawn(session.carry, stream, LinkStats)
    until(lambda: session.carried)
    for payload in (b"first", b"second", b"third"):
        packets.send(HERE, payload)
        gevent.idle()
    assert len(stream.sent) == 1
    stream.room.set()
    until(lambda: b"third" in b"".join(stream.sent))
    packets.send(HERE, b"fourth")
    sent = b"".join(stream.sent)
    assert sorted([b"third", b"first", b"fourth", b"second"], key=sent.index) == [
        b"first", b"second", b"third", b"fourth",
    ]  # fmt: skip
    session.suspend()
    job.join()
