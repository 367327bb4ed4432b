"""The contract of `lane.stream` as a pytest class, for each transport's tests to subclass."""

from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest

from lane.stream import Address, Carrier, Transport
from lane.testing.carriers import CarrierContract
from lane.testing.datagrams import DatagramContract
from lane.testing.harness import PATIENCE, Kit
from lane.testing.strangers import StrangerContract
from lane.testing.streams import StreamContract


class TransportContract(StreamContract, CarrierContract, DatagramContract, StrangerContract):
    """What every transport must do. Subclass it in a test module, and say how one is made:

        from lane.testing import TransportContract

        class TestMine(TransportContract):
            certificates = True

            def make(self):
                return MyTransport()

    Each test makes a transport, listens on `endpoint`, and dials it with a self-signed certificate that
    the client pins (see `lane.testing.server_tls` and `client_tls`). Nothing leaves the machine.
    """

    endpoint: Address = Address("127.0.0.1", 0)
    """Where to listen; port 0 lets the system choose."""
    certificates: bool = True
    """Whether the transport proves who the server is. A shipped one must."""
    measures: bool = True
    """Whether carriers know the round trip of their link, and the bytes sent and lost; `auto` needs them."""
    buffered_limit: int = 64 << 20
    """Bytes that may be on the way, unread, before a sender must block: the kernel's buffers included."""
    datagram_limit: int = 4 << 20
    """Bytes of datagrams that may wait to be read, where carriers have any."""

    greeting_limit: float = 30.0
    """Seconds in which a listener gives up a client that does not complete its handshake; a dial likewise."""

    def make(self) -> Transport:
        """The transport under test, fresh for each test."""
        raise NotImplementedError("say in `make` how your transport is made")

    def abrupt(self, carrier: Carrier) -> None:
        """End `carrier` without a word to its streams, as like to a broken network as the transport can."""
        carrier.close()

    @pytest.fixture
    def kit(self) -> Iterator[Kit]:
        """The transport with a listener."""
        with self.opened() as kit:
            yield kit

    @contextmanager
    def opened(self) -> Iterator[Kit]:
        """A kit, under a watchdog: no test hangs."""
        with gevent.Timeout(PATIENCE, AssertionError(f"the test took longer than {PATIENCE:g} seconds")):
            kit = Kit(self.make(), self.endpoint)
            try:
                yield kit
            finally:
                kit.close()
