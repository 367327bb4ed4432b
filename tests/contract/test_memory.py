"""The in-memory transport keeps the contract."""

from lane.stream import Address
from lane.testing import MemoryTransport, TransportContract
from lane.testing.memory import BUFFERED, WAITING


class TestMemory(TransportContract):
    certificates = False
    measures = False
    buffered_limit = BUFFERED
    datagram_limit = WAITING * 1200

    def make(self):
        return MemoryTransport(datagram_size=1200)

    def abrupt(self, carrier):
        carrier.drop()


def test_carriers_have_no_datagrams_unless_that_is_wanted():
    transport = MemoryTransport()
    listener = transport.listen(Address("", 1), None)
    assert (transport.dial(Address("", 1), None).datagrams, listener.accept().datagrams) == (None, None)
