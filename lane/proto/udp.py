"""Packets of UDP with the address they go to or come from, in the three forms that they travel in.

The application wraps them as SOCKS5 says. Between client and server a packet that fits goes as one datagram
of the carrier, behind the name of its flow; others, and all where a carrier has no datagrams, go over the
stream of their association, each behind its length. docs/PROTOCOL.md has the bytes.
"""

from collections.abc import Iterator

from lane.address import Address, unpack
from lane.errors import ProtocolError

MAX_PACKET = 65507
"""The longest payload of a UDP packet over IPv4, bytes."""
FLOW_SIZE = 8
"""Bytes that name a flow: the first ones of its session's id."""

Buffer = bytes | bytearray | memoryview


def parse_socks(packet: Buffer) -> tuple[Address, Buffer]:
    """Target and payload of what an application sent (RFC 1928 section 7).

    Raises ProtocolError for what is malformed, and for fragments: hardly anybody sends them, and who does not
    put them together must drop them.
    """
    if len(packet) < 3 or packet[0] or packet[1]:
        raise ProtocolError("not a packet as SOCKS5 has them")
    if packet[2]:
        raise ProtocolError("a fragment")
    return _split(packet, 3)


def pack_socks(source: Address, payload: Buffer) -> bytes:
    """What an application gets: `payload` behind the header that has its source."""
    return b"".join((b"\0\0\0", source.pack(), payload))


def pack_datagram(flow: bytes, address: Address, payload: Buffer) -> bytes:
    """A packet as one datagram."""
    return b"".join((flow, address.pack(), payload))


def parse_datagram(datagram: Buffer) -> tuple[Address, Buffer]:
    """Address and payload of a datagram, whose flow is known. Raises ProtocolError."""
    return _split(datagram, FLOW_SIZE)


def pack_packet(address: Address, payload: Buffer) -> bytes:
    """A packet on a stream."""
    return b"".join((len(payload).to_bytes(2, "big"), address.pack(), payload))


class PacketReader:
    """Packets from a stream, in whatever pieces they come: copied once. It holds less than one packet."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = 0  # bytes without which there is nothing to be done with the rest

    def feed(self, data: Buffer) -> Iterator[tuple[Address, Buffer]]:
        """The packets that are complete with `data`. Raises ProtocolError, after those that are right."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data, self._rest = self._rest, bytearray()
        view = memoryview(data)
        at = self._wanted = 0
        while len(view) - at >= 2:
            size = int.from_bytes(view[at : at + 2], "big")
            if size > MAX_PACKET:
                raise ProtocolError(f"a packet of {size} bytes")
            found = unpack(view, at + 2)
            if found is None:
                break
            address, begin = found
            if len(view) - begin < size:
                self._wanted = begin + size - at
                break
            at = begin + size
            yield address, view[begin:at]
        self._rest += view[at:]

    @property
    def at_boundary(self) -> bool:
        """Whether nothing is left of a packet."""
        return not self._rest


def _split(packet: Buffer, at: int) -> tuple[Address, Buffer]:
    found = unpack(packet, at)
    if found is None:
        raise ProtocolError("a packet that ends before its payload")
    address, begin = found
    return address, memoryview(packet)[begin:]
