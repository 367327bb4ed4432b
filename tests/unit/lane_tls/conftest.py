"""A TLS listener of lane's, a foreign client that has connected to it, and the ways to seal records."""

from collections.abc import Iterator

import pytest
from lane_tls.plugin import TLSTransport

from tests.support import compiled
from tests.support.tls_peer import IDENTITY, LOOPBACK, foreign_client


@pytest.fixture(scope="module", params=compiled.WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """How records are sealed and opened in a module's tests."""
    with pytest.MonkeyPatch.context() as patch:
        compiled.use(patch, request.param)
        yield request.param


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
