"""Packets through a session: as datagrams of its carrier if they fit, else over its stream.

Datagrams may be lost, and none waits for another. The stream carries the packets that are too large, those
that are sent before the server has answered, and all packets on carriers without datagrams. It delivers them
in order and completely. So an association outlives its carrier, as any session does. A move loses only the
datagrams in flight.

An old packet is worth less than a new one. So the queue for the stream is short, and drops its oldest packet
when it is full.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent

from lane.address import Address
from lane.errors import LaneError, ProtocolError, Suspended
from lane.fair import maybe_yield
from lane.proto.udp import FLOW_SIZE, MAX_PACKET, PacketReader, pack_datagram, pack_packet, parse_datagram
from lane.session.byte_queue import Buffer
from lane.session.flows import Flows
from lane.session.owner import Owner
from lane.session.session import Session
from lane.stream import Datagrams
from lane.users.gate import Gate
from lane.users.packet_line import PacketLine, Pass

WINDOW = 1048576
"""Bytes of an association that may be in flight on its stream. Behind more bytes a packet comes too late."""
QUEUE = 262144
"""Bytes in the queue for the stream."""
BATCH = 65536
"""Bytes of one write to the stream."""
TURN = 16
"""Packets of the stream that are delivered before others have their turn."""
GOODBYE = 5.0
"""Seconds at the end of an association, for the queue to empty and for the peer to end its direction."""


def _drop(address: Address, payload: Buffer) -> None:
    """The receiver of packets after the end."""


class Packets(Owner):
    """The owner of a session. It receives the session's packets in `run`.

    `deliver(address, payload)` gets the peer's packets, and must not block. `flow`: the name of the
    datagrams, FLOW_SIZE bytes that are the same at both ends. With fewer bytes no datagrams are used.
    `frozen`: they go on from there.
    """

    def __init__(
        self,
        flow: bytes,
        deliver: Callable[[Address, Buffer], None],
        frozen: dict[str, Any] | None = None,
    ) -> None:
        self.dropped = 0
        """Packets that were dropped here."""
        self.sent = self.received = 0
        """Packets that were given to `send`, those that were dropped later included, and to `deliver`."""
        self.peer_ready = False
        """Whether the peer knows the session, so that datagrams may go beside its stream."""
        self._session: Session | None = None  # without it, packets are dropped
        self._over = False  # `run` has ended
        self._flow = flow
        self._deliver = deliver
        self._flows: Flows | None = None  # those that our flow has joined
        self._datagrams: Datagrams | None = None  # which they sort
        frozen = frozen or {"reader": b"", "head": b"", "queue": ()}
        self._reader = PacketReader(frozen["reader"])
        self._head: bytes = frozen["head"]  # what is left of packets that were written in part
        self._queue: deque[bytes] = deque(frozen["queue"])
        self._queued = sum(map(len, self._queue))
        self._writer: gevent.Greenlet[..., None] | None = None
        self._slowed: dict[Gate, PacketLine] = {}  # while the user has a rate

    @property
    def queued(self) -> int:
        """Bytes in the queue for the stream."""
        return self._queued

    def begin(self, session: Session) -> None:
        """Use `session`, which was made with this owner."""
        self._session = session
        if self._head or self._queue:
            self._write_soon()

    def freeze(self) -> dict[str, Any]:
        """What another one needs to go on, as a plain value, once `run` has raised Suspended."""
        return {"reader": self._reader.rest, "head": self._head, "queue": [*self._queue]}

    def send(self, address: Address, payload: Buffer) -> None:
        """Send one packet to or from `address`. Never blocks. The packet may be lost."""
        if len(payload) > MAX_PACKET or self._session is None or self._session.over:
            self.dropped += 1
            return
        self.sent += 1
        if (gate := self.gates.down).limited:
            self.dropped += self._line(gate, self._send).add(address, bytes(payload))
        else:
            self._send(address, payload)

    def _send(self, address: Address, payload: Buffer) -> None:
        session = self._session
        assert session is not None
        datagrams = self._datagrams
        if (
            datagrams is not None
            and self.peer_ready
            and session.carried
            and datagrams.send(pack_datagram(self._flow, address, payload))
        ):
            session.note_datagram(len(payload), received=False)
            return
        packet = pack_packet(address, payload)
        if self._queued or self._writer is not None or not session.send_at_once(packet):
            self._enqueue(packet)

    def run(self) -> LaneError | None:
        """Deliver the packets of the stream until its end. Returns None, or the error at the end.

        Raises Suspended if the session is suspended.
        """
        session, reader = self._begun(), self._reader
        try:
            while data := session.recv():
                while len(data):
                    packets, used = reader.take(data, TURN)
                    for packet in packets:
                        self._receive(*packet)
                    data = memoryview(data)[used:]
                    maybe_yield()
                del data
            if not reader.at_boundary:
                raise ProtocolError("the end in the middle of a packet")
        except Suspended:
            if self._writer is not None:
                self._writer.join()  # no limit: it is suspended, too
            raise
        except LaneError as error:
            session.reset()
            return error
        finally:
            self._over = True
            self._leave()
            self._flow = b""  # the datagrams of a further carrier are not joined
            self._deliver = _drop  # the receiver may refer to the session, and would keep it
            for gate in self._slowed:
                gate.leave(session)
            self._slowed.clear()
        return None

    def offer(self, data: Buffer) -> int:
        """See `Owner`. `run` takes what is too much for one turn, and learns of what is malformed."""
        if self._session is None or self._over:
            return 0
        try:
            packets, used = self._reader.take(data, TURN)
        except ProtocolError:
            return 0
        for address, payload in packets:
            self._receive(address, payload)
        return used

    def _receive(self, address: Address, payload: bytes) -> None:
        """Deliver a packet of the peer."""
        self.received += 1
        if self.gates.up.limited:
            self.dropped += self._line(self.gates.up, self._hand_over).add(address, payload)
        else:
            self._deliver(address, payload)

    def _hand_over(self, address: Address, payload: Buffer) -> None:
        self._deliver(address, payload)

    def _line(self, gate: Gate, onward: Pass) -> PacketLine:
        if gate not in self._slowed:
            self._slowed[gate] = PacketLine(gate, self._begun(), onward)
        return self._slowed[gate]

    def finish(self) -> None:
        """End our direction, behind the queue. Blocks until then."""
        session = self._begun()
        if self._writer is not None:
            self._writer.join()  # no limit: a session that is idle for too long is reset
        with suppress(LaneError):  # it was lost, which is an end as well
            session.finish()

    def _enqueue(self, packet: bytes) -> None:
        self._queue.append(packet)
        self._queued += len(packet)
        while self._queued > QUEUE:
            self._queued -= len(self._queue.popleft())
            self.dropped += 1
        self._write_soon()

    def _write_soon(self) -> None:
        if self._writer is None:
            self._writer = gevent.spawn(self._write, self._begun())

    def _begun(self) -> Session:
        assert self._session is not None
        return self._session

    def _write(self, session: Session) -> None:
        """Write the queue to the stream."""
        try:
            while self._queue or self._head:
                batch, size = [self._head], 0
                self._head = b""
                while self._queue and size < BATCH:
                    batch.append(self._queue.popleft())
                    size += len(batch[-1])
                self._queued -= size
                session.sendall(b"".join(batch))
        except Suspended as suspended:
            self._head = bytes(suspended.rest)
        except LaneError:
            self._queue.clear()  # the reader learns why
            self._queued = 0
        finally:
            self._writer = None

    def carrier_changed(self, flows: Callable[[], Flows | None]) -> None:
        """See `Owner`. The flow joins the datagrams of the new carrier."""
        self._leave()
        found = flows() if len(self._flow) == FLOW_SIZE else None
        if found is not None and found.join(self._flow, self._came):
            self._flows, self._datagrams = found, found.datagrams

    def _leave(self) -> None:
        if self._flows is not None:
            self._flows.leave(self._flow)
            self._flows = self._datagrams = None

    def _came(self, datagram: bytes) -> None:
        """Deliver a datagram of our flow."""
        try:
            address, payload = parse_datagram(datagram)
        except ProtocolError:
            self.dropped += 1  # its sender may be anybody: the session goes on
            return
        if self._session is not None:
            self._session.note_datagram(len(payload), received=True)
            self._receive(address, payload)
