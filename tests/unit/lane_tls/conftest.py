"""A TLS listener of lane's, and a foreign client that has connected to it."""

import pytest
from lane_tls.plugin import TLSTransport

from tests.support.tls_peer import IDENTITY, LOOPBACK, foreign_client


@pytest.fixture
def listener():
    listener = TLSTransport().listen(LOOPBACK, IDENTITY)
    yield listener
    listener.close()


@pytest.fixture
def pair(listener):
    """A foreign client, and the stream that it talks to."""
    foreign = foreign_client(listener)
    carrier = listener.accept()
    yield foreign, carrier.accept()
    foreign.sock.close()
    carrier.close()
