"""How OpenSSL is set up at both ends, and the sessions of TLS that a client may resume.

A certificate is judged by lane (`ClientTLS.verify`), not by OpenSSL: pins and CAs are the core's affair,
the same for every transport.
"""

from collections import OrderedDict
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL, crypto

from lane.errors import ConfigError
from lane.stream import Address, ServerTLS
from lane_tls.openssl import exchange_with, resumed, write_whole

_ALPN = b"http/1.1"
_CIPHERS = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""In the order that browsers ask for: the first is strong enough, and the cheapest."""
_RESUMED_WITH = b"X25519"
_RESUMABLE = 64
"""Servers whose sessions a client keeps."""


def client_context() -> Any:
    """For all connections of a client."""
    context = _context()
    context.set_alpn_protos([_ALPN])
    return context


def server_context(tls: ServerTLS) -> Any:
    """For all connections of a listener, which share the keys of its tickets. Raises ConfigError."""
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
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets need no memory at the server
    write_whole(context)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection keeps no 16 KB records
    return context


class Sessions:
    """What a client resumes (RFC 8446 section 2.2, with a new key exchange and without early data).

    A resumed handshake saves both ends their public-key signatures. It shows no certificate: the server
    proves that it knows the secret of the connection in which it showed one, so that chain is kept with
    the session, to be judged again.

    The first key exchange is also safe from quantum computers where OpenSSL knows one (X25519MLKEM768). Its
    secret goes into the keys of all connections that resume it, so those exchange with X25519 alone: that
    is less work, and OpenSSL keeps the keys of the exchange, which are larger, as long as the connection.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Address, str | None], tuple[SSL.Session, list[bytes]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def offer(self, connection: SSL.Connection, server: tuple[Address, str | None]) -> list[bytes]:
        """Have `connection` offer what is kept of `server`: the chain that goes with it.

        If it is not resumed then, it is of no use: its key exchange was only for a resumed one.
        """
        session, chain = self._kept.get(server, (None, []))
        if session is not None:
            connection.set_session(session)
            exchange_with(connection, _RESUMED_WITH)
        return chain

    def forget(self, server: tuple[Address, str | None]) -> None:
        """The server does not know that session any more."""
        self._kept.pop(server, None)

    def chain(self, connection: SSL.Connection, offered: list[bytes]) -> list[bytes] | None:
        """The server's certificates (DER, leaf first); None if it did not resume what was offered."""
        if offered:
            return offered if resumed(connection) else None
        certificates = connection.get_peer_cert_chain() or []
        return [crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in certificates]

    def keep(
        self, connection: SSL.Connection, server: tuple[Address, str | None], chain: list[bytes]
    ) -> None:
        """Keep the newest session of `connection`, whose chain was accepted."""
        session = connection.get_session()
        if session is not None:
            self._kept[server] = (session, chain)
            self._kept.move_to_end(server)
            if len(self._kept) > _RESUMABLE:
                self._kept.popitem(last=False)
