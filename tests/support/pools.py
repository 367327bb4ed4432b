"""A pool over transports of the kit, one stream a carrier (TCP, TLS) and many (memory), and its far side."""

import gevent
import pytest
from gevent.event import Event
from lane_tls.plugin import TLSTransport

from lane.address import Address
from lane.carriers.pool import Pool
from lane.errors import Closed
from lane.testing import MemoryTransport, TCPTransport, client_tls, server_tls

HELLO = b"hello"


class PoolBed:
    """A pool, and the far side of all its carriers."""

    def __init__(self, transport):
        tls = server_tls()
        self.listener = transport.listen(Address("127.0.0.1", 0), tls)
        self.accepted, self.dials, self.failure = [], 0, None
        self.gate = Event()
        self.gate.set()

        def dial():
            self.dials += 1
            self.gate.wait()
            if self.failure:
                raise self.failure
            return transport.dial(self.listener.address, client_tls(tls))

        self.pool = Pool(dial, lambda carrier: HELLO, dial_timeout=5.0)
        self.acceptor = gevent.spawn(self.accept)

    def accept(self):
        while True:
            try:
                self.accepted.append(self.listener.accept())
            except Closed:
                return

    def close(self):
        self.pool.close()
        self.listener.close()
        for carrier in self.accepted:
            carrier.close()


tls = pytest.mark.parametrize("bed", [TLSTransport], indirect=True, ids=["tls"])
tcp = pytest.mark.parametrize("bed", [TCPTransport], indirect=True, ids=["tcp"])
memory = pytest.mark.parametrize("bed", [MemoryTransport], indirect=True, ids=["memory"])
both = pytest.mark.parametrize("bed", [TCPTransport, MemoryTransport], indirect=True, ids=["tcp", "memory"])
