"""The contract of `lane.stream` as a pytest class, for each transport's tests to subclass."""

from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest

from lane.stream import Address, Carrier, Transport
from lane.testing.carriers import CarrierContract
from lane.testing.datagrams import DatagramContract
from lane.testing.endings import EndingContract
from lane.testing.harness import PATIENCE, Kit
from lane.testing.strangers import StrangerContract
from lane.testing.streams import StreamContract


class TransportContract(StreamContract, EndingContract, CarrierContract, DatagramContract, StrangerContract):
    """The contract of every transport. Subclass it in a test module, and define `make`:

        from lane.testing import TransportContract

        class TestMine(TransportContract):
            certificates = True

            def make(self):
                return MyTransport()

    Each test creates a transport, listens on `endpoint`, and dials it. The server has a self-signed
    certificate that the client pins (see `lane.testing.server_tls` and `client_tls`). No traffic leaves the
    machine.
    """

    endpoint: Address = Address("127.0.0.1", 0)
    """The listening address. Port 0 lets the system choose."""
    certificates: bool = True
    """Whether the transport authenticates the server. lane's own transports must."""
    measures: bool = True
    """Whether carriers measure the round-trip time, and the bytes sent and lost. `auto` needs these."""
    buffered_limit: int = 64 << 20
    """The most unread bytes in flight before a sender must block, including the kernel's buffers."""
    datagram_limit: int = 4 << 20
    """The most bytes of datagrams that may wait to be read, if carriers have datagrams."""

    greeting_limit: float = 30.0
    """Seconds after which a listener, and a dial, must give up an incomplete handshake."""

    def make(self) -> Transport:
        """Create the transport under test. Called for each test."""
        raise NotImplementedError("say in `make` how your transport is made")

    def abrupt(self, carrier: Carrier) -> None:
        """End `carrier` without ending its streams, as similar to a broken network as possible."""
        carrier.close()

    @pytest.fixture
    def kit(self) -> Iterator[Kit]:
        """The transport with a listener."""
        with self.opened() as kit:
            yield kit

    @contextmanager
    def opened(self) -> Iterator[Kit]:
        """A kit, with a time limit: no test hangs."""
        with gevent.Timeout(PATIENCE, AssertionError(f"the test took longer than {PATIENCE:g} seconds")):
            kit = Kit(self.make(), self.endpoint)
            try:
                yield kit
            finally:
                kit.close()
