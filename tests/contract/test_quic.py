"""The QUIC transport keeps the contract, over real UDP sockets."""

from lane_quic.plugin import QuicTransport

from lane.stream import Transport
from lane.testing import TransportContract


class TestQuic(TransportContract):
    datagram_limit = 512 << 10

    def make(self) -> Transport:
        return QuicTransport()
