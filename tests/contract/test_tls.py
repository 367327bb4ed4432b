"""The TLS transport keeps the contract."""

from lane_tls.plugin import TLSTransport

from lane.testing import TransportContract


class TestTLS(TransportContract):
    def make(self):
        return TLSTransport()
