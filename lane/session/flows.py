"""The datagrams of one carrier, sorted by the flow that each belongs to.

Many associations share a carrier, and a datagram has nothing but its own bytes to say whose it is: the first
of them name its flow. A datagram of a flow that nobody has joined here is dropped, so that a peer can only
reach what its own carrier carries.
"""

from collections.abc import Callable
from typing import Any

from lane.errors import Closed
from lane.fair import be_fair
from lane.proto.udp import FLOW_SIZE
from lane.stream import Carrier, Datagrams
from lane.supervisor import report, supervise

Deliver = Callable[[bytes], None]


class Flows:
    """The flows of `carrier`, which may turn out to have no datagrams."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._members: dict[bytes, Deliver] = {}
        self._pump: Any = None
        self.strays = 0
        """Datagrams that were nobody's."""

    def __len__(self) -> int:
        return len(self._members)

    @property
    def datagrams(self) -> Datagrams | None:
        """What carries them; None where all packets have to take the stream."""
        return self._carrier.datagrams

    def join(self, flow: bytes, deliver: Deliver) -> bool:
        """Have `deliver` called with each datagram of `flow`; it must not block. False: the name is taken."""
        if flow in self._members:
            return False
        self._members[flow] = deliver
        datagrams = self.datagrams
        if self._pump is None and datagrams is not None:
            self._pump = supervise("the sorting of datagrams", self._receive, datagrams)
        return True

    def leave(self, flow: bytes) -> None:
        """Take no more datagrams of `flow`."""
        self._members.pop(flow, None)

    def _receive(self, datagrams: Datagrams) -> None:
        """Until the carrier is gone."""
        try:
            while True:
                datagram = datagrams.recv()
                if deliver := self._members.get(datagram[:FLOW_SIZE]):
                    self._deliver(deliver, datagram)
                else:
                    self.strays += 1
                be_fair()
        except Closed:
            self._members.clear()

    def _deliver(self, deliver: Deliver, datagram: bytes) -> None:
        """What goes wrong costs this datagram: the next one may be for somebody else."""
        try:
            deliver(datagram)
        except Exception as error:
            report("the delivery of a datagram", error)
