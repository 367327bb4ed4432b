"""UDP packets with their target or source address, in the three encodings that lane uses.

The application encodes them as in SOCKS5. Between client and server, a packet that fits is sent as one
datagram of the carrier, after the ID of its flow. Larger packets, and all packets on a carrier without
datagrams, are sent over the stream of their association, each after its length. docs/PROTOCOL.md has the
layout.
"""

from lane.address import Address, unpack
from lane.errors import ProtocolError

MAX_PACKET = 65507
"""The longest payload of a UDP packet over IPv4, bytes."""
FLOW_SIZE = 8
"""Bytes of a flow's ID: the first ones of its session's ID."""

Buffer = bytes | bytearray | memoryview
Packet = tuple[Address, bytes]
"""A packet to or from the address."""
_CUT = "a packet that ends before its payload"


def parse_socks(packet: bytes) -> Packet:
    """The target and the payload of an application's packet (RFC 1928 section 7).

    Raises ProtocolError for a malformed packet and for a fragment. Fragments are rare, and an
    implementation that does not reassemble them must drop them.
    """
    if packet[:3] != b"\0\0\0":
        raise ProtocolError("a fragment" if packet[:2] == b"\0\0" else "not a packet as SOCKS5 has them")
    found = unpack(packet, 3)
    if found is None:
        raise ProtocolError(_CUT)
    address, begin = found
    return address, packet[begin:]


def pack_socks(source: Address, payload: Buffer) -> bytes:
    """A packet for an application: the header with `source`, then `payload`."""
    return b"".join((b"\0\0\0", source.pack(), payload))


def pack_datagram(flow: bytes, address: Address, payload: Buffer) -> bytes:
    """Encode a packet as one datagram."""
    return b"".join((flow, address.pack(), payload))


def parse_datagram(datagram: bytes) -> Packet:
    """The address and the payload of a datagram. Its flow's ID is skipped. Raises ProtocolError."""
    found = unpack(datagram, FLOW_SIZE)
    if found is None:
        raise ProtocolError(_CUT)
    address, begin = found
    return address, datagram[begin:]


def pack_packet(address: Address, payload: Buffer) -> bytes:
    """Encode a packet for a stream."""
    return b"".join((len(payload).to_bytes(2, "big"), address.pack(), payload))


class PacketReader:
    """Parses packets from a stream, however it is split. It copies once and holds less than one packet."""

    def __init__(self, rest: bytes = b"") -> None:
        self._rest = bytearray(rest)
        self._wanted = 0  # bytes needed before parsing can go on

    def take(self, data: Buffer, most: int) -> tuple[list[Packet], int]:
        """Up to `most` packets that `data` completes, and how many bytes of `data` are used up.

        These are all bytes, except behind `most` packets and before a malformed one. Raises ProtocolError if
        the first packet is malformed. Nothing is used up then.
        """
        before = len(self._rest)
        if before:
            if before + len(data) < self._wanted:
                self._rest += data
                return [], len(data)
            data = self._rest + data
        found: list[Packet] = []
        at = self._wanted = 0
        try:
            while len(found) < most:
                packet, end = self._parse(data, at)
                if packet is None:
                    self._wanted = end - at
                    self._rest = bytearray(memoryview(data)[at:])
                    return found, len(data) - before
                found.append(packet)
                at = end
                if at == len(data):
                    break
        except ProtocolError:
            if not found:
                raise
        if before:
            self._rest = bytearray()
        return found, at - before

    def _parse(self, data: Buffer, at: int) -> tuple[Packet | None, int]:
        """The packet at `at`, and its end; None, and the end as far as it is known, if it is incomplete."""
        if len(data) < at + 2:
            return None, at
        size = data[at] << 8 | data[at + 1]
        if size > MAX_PACKET:
            raise ProtocolError(f"a packet of {size} bytes")
        found = unpack(data, at + 2)
        if found is None:
            return None, at
        address, begin = found
        end = begin + size
        return (None if len(data) < end else (address, bytes(data[begin:end]))), end

    @property
    def rest(self) -> bytes:
        """The beginning of a packet, for another reader to go on with."""
        return bytes(self._rest)

    @property
    def at_boundary(self) -> bool:
        """Whether the bytes so far end with a whole packet."""
        return not self._rest
