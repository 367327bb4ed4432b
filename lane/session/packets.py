"""Packets through a session: as datagrams of its carrier where they fit, over its stream where not.

A datagram may be lost, and none waits for another. What does not fit, all that is sent while the server
has not answered, and all on carriers without datagrams goes over the stream of the session, in order and
complete. So an association outlives its carrier as any session does: only what was under way as datagrams
is lost.

A packet that must wait is worth less than the next one: the queue for the stream is short, and when it is
full the oldest packet makes room.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress

import gevent

from lane.address import Address
from lane.errors import LaneError, ProtocolError
from lane.fair import be_fair
from lane.proto.udp import FLOW_SIZE, MAX_PACKET, PacketReader, pack_datagram, pack_packet, parse_datagram
from lane.session.byte_queue import Buffer
from lane.session.flows import Flows
from lane.session.owner import Owner
from lane.session.session import Session

WINDOW = 1048576
"""Bytes that the stream of an association may have under way: what waits behind more comes too late."""
QUEUE = 262144
"""Bytes that may wait for the stream."""
BATCH = 65536
"""Bytes that are handed to the stream at once."""
GOODBYE = 5.0
"""Seconds for what waits to leave, and for the peer to end its direction, once ours is to end."""


class Packets(Owner):
    """Owns a session, and moves its packets once it `run`s.

    `deliver(address, payload)` gets what the peer sends, and must not block. `flow` names the datagrams,
    FLOW_SIZE bytes that are the same at both ends; shorter: there are none.
    """

    def __init__(self, flow: bytes, deliver: Callable[[Address, Buffer], None]) -> None:
        self.dropped = 0
        """Packets that had to make room for others."""
        self.beside = False
        """Whether the peer knows the session, so that datagrams may go beside its stream."""
        self._session: Session | None = None  # none of its packets is sent or delivered before `begin`
        self._flow = flow
        self._deliver = deliver
        self._flows: Flows | None = None  # where our flow is joined
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._writer: gevent.Greenlet[..., None] | None = None

    @property
    def queued(self) -> int:
        """Bytes that wait for the stream."""
        return self._queued

    def begin(self, session: Session) -> None:
        """The session is there."""
        self._session = session

    def send(self, address: Address, payload: Buffer) -> None:
        """Send one packet to or from `address`. Never blocks; it may be lost, as packets are."""
        session = self._session
        if len(payload) > MAX_PACKET or session is None or session.over:
            self.dropped += 1
            return
        if self.beside and self._flows is not None and session.carried:
            datagrams = self._flows.datagrams
            if datagrams is not None:
                datagram = pack_datagram(self._flow, address, payload)
                if len(datagram) <= datagrams.max_size:
                    session.note_datagram(len(payload), received=False)
                    self.dropped += not datagrams.send(datagram)
                    return
        self._enqueue(pack_packet(address, payload))

    def run(self) -> LaneError | None:
        """Deliver what comes over the stream up to its end: None, or the error that it ended with."""
        session, reader = self._begun(), PacketReader()
        try:
            while data := session.recv():
                for address, payload in reader.feed(data):
                    self._deliver(address, payload)
                    be_fair()
                del data
            if not reader.at_boundary:
                raise ProtocolError("the end in the middle of a packet")
        except LaneError as error:
            session.reset()
            return error
        finally:
            self._leave()
        return None

    def finish(self) -> None:
        """End our direction, behind what waits. Blocks meanwhile."""
        session = self._begun()
        if self._writer is not None:
            self._writer.join()  # no limit: a session that is idle for too long is reset
        with suppress(LaneError):  # lost, which is an end as well
            session.finish()

    def _enqueue(self, packet: bytes) -> None:
        self._queue.append(packet)
        self._queued += len(packet)
        while self._queued > QUEUE:
            self._queued -= len(self._queue.popleft())
            self.dropped += 1
        if self._writer is None:
            self._writer = gevent.spawn(self._write, self._begun())

    def _begun(self) -> Session:
        assert self._session is not None
        return self._session

    def _write(self, session: Session) -> None:
        """Hand what waits to the stream, as it takes it."""
        try:
            while self._queue:
                batch, size = [], 0
                while self._queue and size < BATCH:
                    batch.append(self._queue.popleft())
                    size += len(batch[-1])
                self._queued -= size
                session.sendall(b"".join(batch))
        except LaneError:
            self._queue.clear()  # who receives learns why
            self._queued = 0
        finally:
            self._writer = None

    def carrier_changed(self, flows: Callable[[], Flows | None]) -> None:
        """See `Owner`: the datagrams of the other carrier are joined instead."""
        self._leave()
        found = flows() if len(self._flow) == FLOW_SIZE else None
        if found is not None and found.join(self._flow, self._came):
            self._flows = found

    def _leave(self) -> None:
        if self._flows is not None:
            self._flows.leave(self._flow)
            self._flows = None

    def _came(self, datagram: bytes) -> None:
        """A datagram of our flow."""
        try:
            address, payload = parse_datagram(datagram)
        except ProtocolError:
            self.dropped += 1  # it proves nothing about who sent it: the stream is not touched
            return
        if self._session is not None:
            self._session.note_datagram(len(payload), received=True)
            self._deliver(address, payload)
