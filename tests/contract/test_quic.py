"""The QUIC transport keeps the contract, over real UDP sockets."""

from lane.stream import Transport
from lane.testing import TransportContract
from lane_quic.plugin import QuicTransport


class TestQuic(TransportContract):
    def make(self) -> Transport:
        return QuicTransport()
