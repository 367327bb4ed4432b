"""UDP packets with their target or source address, in the three encodings that lane uses.

The application encodes them as in SOCKS5. Between client and server, a packet that fits is sent as one
datagram of the carrier, after the ID of its flow. Larger packets, and all packets on a carrier without
datagrams, are sent over the stream of their association, each after its length. docs/PROTOCOL.md has the
layout.
"""

from collections.abc import Iterator

from lane.address import Address, unpack
from lane.errors import ProtocolError

MAX_PACKET = 65507
"""The longest payload of a UDP packet over IPv4, bytes."""
FLOW_SIZE = 8
"""Bytes of a flow's ID: the first ones of its session's ID."""

Buffer = bytes | bytearray | memoryview


def parse_socks(packet: Buffer) -> tuple[Address, Buffer]:
    """The target and the payload of an application's packet (RFC 1928 section 7).

    Raises ProtocolError for a malformed packet and for a fragment. Fragments are rare, and an
    implementation that does not reassemble them must drop them.
    """
    if len(packet) < 3 or packet[0] or packet[1]:
        raise ProtocolError("not a packet as SOCKS5 has them")
    if packet[2]:
        raise ProtocolError("a fragment")
    return _split(packet, 3)


def pack_socks(source: Address, payload: Buffer) -> bytes:
    """A packet for an application: the header with `source`, then `payload`."""
    return b"".join((b"\0\0\0", source.pack(), payload))


def pack_datagram(flow: bytes, address: Address, payload: Buffer) -> bytes:
    """Encode a packet as one datagram."""
    return b"".join((flow, address.pack(), payload))


def parse_datagram(datagram: Buffer) -> tuple[Address, Buffer]:
    """The address and the payload of a datagram. Its flow's ID is skipped. Raises ProtocolError."""
    return _split(datagram, FLOW_SIZE)


def pack_packet(address: Address, payload: Buffer) -> bytes:
    """Encode a packet for a stream."""
    return b"".join((len(payload).to_bytes(2, "big"), address.pack(), payload))


class PacketReader:
    """Parses packets from a stream, however it is split. It copies once and holds less than one packet."""

    def __init__(self, rest: bytes = b"") -> None:
        self._rest = bytearray(rest)
        self._wanted = 0  # bytes needed before parsing can go on

    def feed(self, data: Buffer) -> Iterator[tuple[Address, Buffer]]:
        """The packets that `data` completes. Raises ProtocolError at the first malformed one."""
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
    def rest(self) -> bytes:
        """The beginning of a packet, for another reader to go on with."""
        return bytes(self._rest)

    @property
    def at_boundary(self) -> bool:
        """Whether the bytes so far end with a whole packet."""
        return not self._rest


def _split(packet: Buffer, at: int) -> tuple[Address, Buffer]:
    found = unpack(packet, at)
    if found is None:
        raise ProtocolError("a packet that ends before its payload")
    address, begin = found
    return address, memoryview(packet)[begin:]
