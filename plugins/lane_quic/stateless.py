"""What a server answers to packets without keeping anything of them, so that a flood costs little.

Version negotiation, Retry and resets are made from the packet and the server's key alone. Retry (RFC 9000
section 8.1.2) has a client show that it gets what is sent to its address, before a handshake costs memory and
a signature: without it, anybody could have the server keep thousands of them.
"""

import hmac
import os
import struct
from typing import Any

from aioquic.quic.packet import QuicHeader, encode_quic_retry, encode_quic_version_negotiation

from lane_quic.configuration import CID_SIZE, RESET_TOKEN_SIZE, reset_token

TOKEN_LIFETIME = 10.0
"""Seconds in which a client may come back with its token."""
LONGEST_RESET, SHORTEST_RESET = 43, 21
"""Bytes of a stateless reset: as a short packet, and long enough to be taken for one."""
_MAC = 16


class Stateless:
    """The answers of one server. `path` is where a packet came from; times are seconds of one clock."""

    def __init__(self, state_key: bytes, versions: list[int]) -> None:
        self._state_key = state_key
        self._retry_key = hmac.digest(state_key, b"lane retry", "sha256")
        self._versions = versions

    def negotiation(self, header: QuicHeader) -> bytes:
        """To a client that wants another version (RFC 9000 section 6)."""
        return encode_quic_version_negotiation(
            source_cid=header.destination_cid,
            destination_cid=header.source_cid,
            supported_versions=self._versions,
        )

    def retry(self, header: QuicHeader, path: Any, now: float) -> bytes:
        """To an Initial: come back with this token, and to another connection ID."""
        cid = os.urandom(CID_SIZE)
        claim = struct.pack("=d", now) + cid + header.destination_cid
        return encode_quic_retry(
            version=header.version or 0,
            source_cid=cid,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=self._mac(claim, path) + claim,
        )

    def came_back(self, header: QuicHeader, path: Any, now: float) -> bytes | None:
        """The connection ID of the first Initial of a client that has come back with its token; else None."""
        mac, claim = header.token[:_MAC], header.token[_MAC:]
        if len(claim) <= 8 + CID_SIZE or not hmac.compare_digest(mac, self._mac(claim, path)):
            return None
        (then,) = struct.unpack("=d", claim[:8])
        if not 0 <= now - then <= TOKEN_LIFETIME or header.destination_cid != claim[8 : 8 + CID_SIZE]:
            return None
        return claim[8 + CID_SIZE :]

    def _mac(self, claim: bytes, path: Any) -> bytes:
        address = repr(path[0]).encode()
        return hmac.digest(self._retry_key, claim + address, "sha256")[:_MAC]

    def reset(self, datagram: bytes) -> bytes | None:
        """To a packet of a connection that this process does not know (RFC 9000 section 10.3).

        The answer is shorter than what it answers, so that two such servers can't go on for ever.
        """
        size = min(len(datagram) - 1, LONGEST_RESET)
        if size < SHORTEST_RESET:
            return None
        noise = bytearray(os.urandom(size - RESET_TOKEN_SIZE))
        noise[0] = noise[0] & 0x3F | 0x40
        return bytes(noise) + reset_token(self._state_key, datagram[1 : 1 + CID_SIZE])
