"""The in-memory transport keeps the contract."""

from lane.testing import MemoryTransport, TransportContract
from lane.testing.memory import BUFFERED


class TestMemory(TransportContract):
    certificates = False
    buffered_limit = BUFFERED

    def make(self):
        return MemoryTransport()

    def abrupt(self, carrier):
        carrier.drop()
