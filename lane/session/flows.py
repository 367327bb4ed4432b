"""The datagrams of one carrier, sorted by the flow that each belongs to.

Many associations share a carrier. The first bytes of a datagram name its flow, and so its association. A
datagram of a flow without a member here is dropped. So a peer reaches only associations of its own carrier.
"""

from collections.abc import Callable

from lane.errors import Closed
from lane.fair import maybe_yield, this_round
from lane.proto.udp import FLOW_SIZE
from lane.stream import Carrier, Datagrams
from lane.supervisor import FAULTS, report, supervise

Deliver = Callable[[bytes], None]


class Flows:
    """The flows of `carrier`, which may have no datagrams."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._members: dict[bytes, Deliver] = {}
        self._received = False  # the datagrams of the carrier come here

    def __len__(self) -> int:
        return len(self._members)

    @property
    def datagrams(self) -> Datagrams | None:
        """The carrier's datagrams; None if all packets have to take the stream."""
        return self._carrier.datagrams

    def join(self, flow: bytes, deliver: Deliver) -> bool:
        """Call `deliver`, which must not block, with each datagram of `flow`. False: the name is in use."""
        if flow in self._members:
            return False
        self._members[flow] = deliver
        datagrams = self.datagrams
        if not self._received and datagrams is not None:
            self._received = True
            if (hand_to := getattr(datagrams, "hand_to", None)) is not None:
                hand_to(self._sort)
            else:
                supervise("the sorting of datagrams", self._receive, datagrams)
        return True

    def leave(self, flow: bytes) -> None:
        """Deliver no more datagrams of `flow`."""
        self._members.pop(flow, None)

    def _receive(self, datagrams: Datagrams) -> None:
        """Deliver until the carrier is closed."""
        loop = this_round()
        try:
            while True:
                waited_in = loop.began
                datagram = datagrams.recv()
                maybe_yield(waited_in)
                self._sort(datagram)
        except Closed:
            self._members.clear()

    def _sort(self, datagram: bytes) -> None:
        """Deliver a datagram. A failure costs only this one: the next may belong to another association."""
        if (deliver := self._members.get(datagram[:FLOW_SIZE])) is None:
            return  # its flow has ended, or is unknown
        try:
            deliver(datagram)
        except FAULTS as error:
            report("the delivery of a datagram", error)
