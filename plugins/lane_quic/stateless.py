"""The server's stateless answers: Version Negotiation, Retry and stateless resets. A flood costs little.

Each answer is computed from the received packet and the server's key alone. With Retry (RFC 9000 section
8.1.2) a client proves that it receives packets at its address before a handshake costs memory and a
signature. Without it, anybody could make the server keep thousands of handshakes.
"""

import hmac
import os
import struct
from typing import Any

from aioquic.quic.packet import QuicHeader, encode_quic_retry, encode_quic_version_negotiation

from lane_quic.configuration import CID_SIZE, RESET_TOKEN_SIZE, reset_token

TOKEN_LIFETIME = 10.0
"""Seconds for which a Retry token is valid."""
LONGEST_RESET = 43
"""The most bytes of a stateless reset. It looks like a small packet."""
SHORTEST_RESET = 21
"""The least bytes of a stateless reset that a peer accepts (RFC 9000 section 10.3)."""
_MAC = 16


class Stateless:
    """The answers of one server. `path` is the source of a packet. Times are seconds of one clock."""

    def __init__(self, state_key: bytes, versions: list[int]) -> None:
        self._state_key = state_key
        self._retry_key = hmac.digest(state_key, b"lane retry", "sha256")
        self._versions = versions

    def negotiation(self, header: QuicHeader) -> bytes:
        """A Version Negotiation packet for a client that wants another version (RFC 9000 section 6)."""
        return encode_quic_version_negotiation(
            source_cid=header.destination_cid,
            destination_cid=header.source_cid,
            supported_versions=self._versions,
        )

    def retry(self, header: QuicHeader, path: Any, now: float) -> bytes:
        """A Retry packet in answer to an Initial: it has a token and a new connection ID."""
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
        """The connection ID of a client's first Initial, if it returns with a valid token; else None."""
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
        """A stateless reset in answer to a packet of an unknown connection (RFC 9000 section 10.3).

        It is shorter than that packet. Otherwise two such servers could answer each other forever.
        """
        size = min(len(datagram) - 1, LONGEST_RESET)
        if size < SHORTEST_RESET:
            return None
        noise = bytearray(os.urandom(size - RESET_TOKEN_SIZE))
        noise[0] = noise[0] & 0x3F | 0x40
        return bytes(noise) + reset_token(self._state_key, datagram[1 : 1 + CID_SIZE])
