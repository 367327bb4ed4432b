"""OpenSSL's settings at both ends, and the TLS sessions that a client can resume.

lane checks the certificates (`ClientTLS.verify`), and not OpenSSL. The core handles pins and CAs, in the same
way for every transport.
"""

from collections import OrderedDict
from time import monotonic
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL, crypto

from lane.errors import ConfigError
from lane.stream import Address, ServerTLS
from lane_tls.openssl import exchange_with, log_keys

_ALPN = b"http/1.1"
_CIPHERS = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""The cipher suites, in the order of browsers. The first is strong enough, and the fastest."""
_RESUMED_WITH = b"X25519"
_RESUMABLE = 64
"""The number of servers whose sessions a client keeps."""
FRESH = 60.0
"""Seconds for which a session is good enough, so that those of the next connections are not read."""


def client_context() -> Any:
    """The context of all connections of a client."""
    context = _context()
    context.set_alpn_protos([_ALPN])
    return context


_shared: dict[tuple[bytes, bytes], Any] = {}  # at most one


def share(tls: ServerTLS) -> None:
    """Make the context for listeners with this identity now, so that they share it. Raises ConfigError."""
    context = server_context(tls)
    _shared.clear()
    _shared[tls.chain_pem, tls.key_pem] = context


def server_context(tls: ServerTLS) -> Any:
    """The context of all connections of a listener. They share its ticket keys. Raises ConfigError."""
    if (shared := _shared.get((tls.chain_pem, tls.key_pem))) is not None:
        return shared
    context = _context()
    try:
        leaf, *others = load_pem_x509_certificates(tls.chain_pem)
        context.use_certificate(leaf)
        for certificate in others:
            context.add_extra_chain_cert(certificate)
        key: Any = load_pem_private_key(tls.key_pem, password=None)
        context.use_privatekey(key)
        context.check_privatekey()
    except (ValueError, TypeError) as error:
        raise ConfigError(f"unusable certificate or key: {error}") from None
    except SSL.Error:
        raise ConfigError("the certificate and the key do not belong together") from None

    def select(_: SSL.Connection, offered: list[bytes]) -> Any:
        return _ALPN if _ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS

    context.set_alpn_select_callback(select)
    return context


def _context() -> Any:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(_CIPHERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets need no memory on the server
    log_keys(context)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection keeps no 16 KB buffers
    return context


class Sessions:
    """A client's resumable sessions (RFC 8446 section 2.2, with a new key exchange, without early data).

    A resumed handshake saves both ends the signatures. The server sends no certificate in it. It proves
    that it knows the secret of the connection in which it sent one. So that chain is kept with the session,
    and is checked again.

    The first key exchange is post-quantum safe if OpenSSL supports that (X25519MLKEM768). Its secret is
    part of the keys of all connections that resume it. So these use X25519 alone, which is less work.
    OpenSSL also keeps the larger post-quantum keys as long as the connection.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Address, str | None], tuple[SSL.Session, list[bytes], float]]
        self._kept = OrderedDict()  # with the time that each was kept

    def __len__(self) -> int:
        return len(self._kept)

    def offer(self, connection: SSL.Connection, server: tuple[Address, str | None]) -> list[bytes]:
        """Let `connection` offer the session of `server`. Return its certificate chain.

        If the server does not resume it, the connection cannot be used: its key exchange is not
        post-quantum safe.
        """
        session, chain, _ = self._kept.get(server, (None, [], 0.0))
        if session is not None:
            connection.set_session(session)
            exchange_with(connection, _RESUMED_WITH)
        return chain

    def forget(self, server: tuple[Address, str | None]) -> None:
        """Forget the session: the server no longer knows it."""
        self._kept.pop(server, None)

    def chain(self, connection: SSL.Connection, resumed: bool, offered: list[bytes]) -> list[bytes] | None:
        """The server's certificates (DER, leaf first); None if it did not resume the offered session."""
        if offered:
            return offered if resumed else None
        certificates = connection.get_peer_cert_chain() or []
        return [crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in certificates]

    def has_fresh(self, server: tuple[Address, str | None]) -> bool:
        """Whether a session was kept lately: the next one is not worth the work of reading it."""
        kept = self._kept.get(server)
        return kept is not None and monotonic() - kept[2] < FRESH

    def keep(
        self, connection: SSL.Connection, server: tuple[Address, str | None], chain: list[bytes]
    ) -> None:
        """Keep the newest session of `connection`, whose chain was accepted."""
        session = connection.get_session()
        if session is not None:
            self._kept[server] = (session, chain, monotonic())
            self._kept.move_to_end(server)
            if len(self._kept) > _RESUMABLE:
                self._kept.popitem(last=False)
