"""The QUIC transport keeps the contract, over real UDP sockets."""

from lane_quic.plugin import QuicTransport

from lane.stream import Transport
from lane.testing import TransportContract


class TestQuic(TransportContract):
    def make(self) -> Transport:
        return QuicTransport()
