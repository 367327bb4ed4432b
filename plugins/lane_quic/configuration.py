"""The configuration of a connection: certificates, sizes, timeouts and reset tokens."""

import hmac
import ssl
from dataclasses import dataclass
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.logger import QuicLogger
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lane.stream import ServerTLS
from lane_quic.congestion import Factory
from lane_quic.congestion.bbr import Bbr
from lane_quic.trace.key_log import KeyLog

CID_SIZE = 8
IDLE_TIMEOUT = 20.0
SMALL_DATAGRAM = 1200
"""Bytes of UDP payload that every path carries (RFC 9000 section 14)."""
LARGE_DATAGRAM = 1452
"""Bytes of UDP payload that an MTU of 1500 carries over IPv6."""
DATAGRAM_FRAME = 65536
"""The largest DATAGRAM frame that we accept, bytes (RFC 9221 section 3). No packet is so large; browsers
announce the same value."""
LARGEST_RECEIVED = 1500
"""The largest UDP payload that is accepted, bytes. No peer needs more. A large packet can cause much work."""
RESET_TOKEN_SIZE = 16


@dataclass(frozen=True)
class Settings:
    """The user's settings for all connections."""

    control: Factory = Bbr
    """Creates the congestion controller of a new connection."""
    fast: bool = True
    """Whether to use the fast path (fastpath/)."""
    offloads: bool = True
    """Whether to exchange many packets with the kernel at once (udp/offload.py)."""
    qlog: QuicLogger | None = None
    """Receives the events of all connections."""
    keys: KeyLog | None = None
    """Receives the TLS secrets of all connections, in the NSS format that Wireshark reads."""

    def apply(self, configuration: QuicConfiguration) -> QuicConfiguration:
        """Set in `configuration` the settings that aioquic needs, and return it."""
        configuration.quic_logger = self.qlog
        configuration.secrets_log_file = self.keys  # type: ignore[assignment]  # it has `write` and `flush`
        return configuration


DEFAULTS = Settings()


def reset_token(state_key: bytes, cid: bytes) -> bytes:
    """The stateless reset token of `cid`: 16 bytes that only the holder of `state_key` can compute."""
    return hmac.digest(state_key, cid, "sha256")[:RESET_TOKEN_SIZE]


def client_configuration(server_name: str | None) -> QuicConfiguration:
    """For a client's connection. lane checks the certificates itself: see `Engine.chain`."""
    return QuicConfiguration(is_client=True, server_name=server_name, verify_mode=ssl.CERT_NONE, **_common())


def server_configuration(tls: ServerTLS) -> QuicConfiguration:
    """For the connections of a listener with the identity `tls`."""
    chain = x509.load_pem_x509_certificates(tls.chain_pem)
    key = load_pem_private_key(tls.key_pem, None)
    return QuicConfiguration(
        is_client=False,
        certificate=chain[0],
        certificate_chain=chain[1:],
        private_key=key,
        **_common(),
    )


def _common() -> dict[str, Any]:
    return {
        "alpn_protocols": ["h3"],
        "connection_id_length": CID_SIZE,
        "idle_timeout": IDLE_TIMEOUT,
        "max_datagram_size": SMALL_DATAGRAM,
        "max_datagram_frame_size": DATAGRAM_FRAME,
    }
