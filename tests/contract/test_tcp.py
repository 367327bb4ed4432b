"""The plain-TCP transport keeps the contract."""

from lane.testing import TCPTransport, TransportContract


class TestTCP(TransportContract):
    certificates = False

    def make(self):
        return TCPTransport()
