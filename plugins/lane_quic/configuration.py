"""What a connection is configured with: certificates, sizes, time-outs, reset tokens."""

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
SMALL_DATAGRAM, LARGE_DATAGRAM = 1200, 1452
"""UDP payloads that every path carries (RFC 9000 section 14), and that an MTU of 1500 carries over IPv6."""
DATAGRAM_FRAME = 65536
"""Bytes of a DATAGRAM frame that we take (RFC 9221 section 3): more than any packet has, as browsers say."""
LARGEST_RECEIVED = 1500
"""UDP payloads that are taken at all: of larger ones no peer has need, and one packet could ask for much."""
RESET_TOKEN_SIZE = 16


@dataclass(frozen=True)
class Settings:
    """What the user decides, for all connections."""

    control: Factory = Bbr
    """Makes the congestion controller of each new connection."""
    fast: bool = True
    """Whether common packets take a path of their own (fastpath/)."""
    offloads: bool = True
    """Whether the kernel takes and gives many packets at once (udp/offload.py)."""
    qlog: QuicLogger | None = None
    """Hears of all packets."""
    keys: KeyLog | None = None
    """Gets the secrets of all connections, as NSS and Wireshark know it."""

    def apply(self, configuration: QuicConfiguration) -> QuicConfiguration:
        """What aioquic has to know of them."""
        configuration.quic_logger = self.qlog
        configuration.secrets_log_file = self.keys  # type: ignore[assignment]  # it writes and flushes
        return configuration


DEFAULTS = Settings()


def reset_token(state_key: bytes, cid: bytes) -> bytes:
    """The stateless reset token of `cid`: 16 bytes that only the holder of `state_key` can tell."""
    return hmac.digest(state_key, cid, "sha256")[:RESET_TOKEN_SIZE]


def client_configuration(server_name: str | None) -> QuicConfiguration:
    """Certificates are not judged here: `chain` hands them to whoever does."""
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
