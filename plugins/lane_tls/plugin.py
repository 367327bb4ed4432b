"""The transport `tls`: dialling, listening, and how both ends of a connection are set up.

A certificate is judged by lane (`ClientTLS.verify`), not by OpenSSL: pins and CAs are the core's affair,
the same for every transport. Nothing is sent through a connection before that.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import gevent
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from gevent.pool import Pool
from gevent.queue import Queue, ShutDown
from gevent.socket import socket as gevent_socket
from gevent.threadpool import ThreadPool
from OpenSSL import SSL, crypto

from lane import hookimpl
from lane.errors import Closed, ConfigError, ProtocolError, Refused, Unreachable
from lane.stream import Address, ClientTLS, ServerTLS, Transport
from lane_tls.carrier import TLSCarrier
from lane_tls.openssl import write_whole
from lane_tls.stream import TLSStream

DEADLINE = 10.0
"""Seconds for a connection to be made, handshake included, on either side."""
_ALPN = b"http/1.1"
_HANDSHAKES = 256  # at once, a listener
_READY = 256  # connections that wait to be accepted, a listener
_NO_ROOM_PAUSE = 0.1  # seconds without accepting when the process has no descriptors left
_SOCKET_OPTIONS = [
    # A dead path is noticed after 15 s, idle (30 s) or not. A peer that reads nothing for as long counts
    # as dead too, which the sessions of lane never do: they hold back by their windows.
    ("SOL_SOCKET", "SO_KEEPALIVE", 1),
    ("IPPROTO_TCP", "TCP_KEEPIDLE", 15),
    ("IPPROTO_TCP", "TCP_KEEPINTVL", 5),
    ("IPPROTO_TCP", "TCP_KEEPCNT", 3),
    ("IPPROTO_TCP", "TCP_USER_TIMEOUT", 15_000),
    ("IPPROTO_TCP", "TCP_NODELAY", 1),
]  # and no buffer sizes: they would end the kernel's own tuning

log = logging.getLogger(__name__)


@hookimpl
def lane_register_transports(register: Callable[[Transport], None]) -> None:
    """Register `tls`."""
    register(TLSTransport())


class TLSTransport:
    """TLS 1.3 over TCP (RFC 8446); a carrier has one stream."""

    name = "tls"

    def __init__(self, deadline: float = DEADLINE) -> None:
        self._deadline = deadline

    def dial(self, endpoint: Address, tls: ClientTLS) -> TLSCarrier:
        """Connect, shake hands and have the certificate judged, within the deadline."""
        late = Unreachable(f"{endpoint} did not answer in {self._deadline:g} seconds")
        with _deadline(self._deadline, late):
            stream, connection = self._connected(endpoint)
            try:
                if tls.server_name is not None:
                    connection.set_tlsext_host_name(tls.server_name.encode("idna"))
                connection.set_connect_state()
                stream.handshake()
                chain = connection.get_peer_cert_chain() or []
                binding = tls.verify([crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in chain])
                return TLSCarrier(stream, binding, _host(stream.sock.getpeername()), dialled=True)
            except BaseException as error:
                stream.reset()
                if isinstance(error, ProtocolError):
                    raise Refused(f"{endpoint} does not speak TLS 1.3 with us: {error}") from None
                if isinstance(error, Closed | OSError):
                    raise Unreachable(f"{endpoint} hung up during the TLS handshake: {error}") from None
                if isinstance(error, UnicodeError):
                    raise ConfigError(f"{tls.server_name!r} is no name of a server") from None
                raise

    def listen(self, endpoint: Address, tls: ServerTLS) -> "TLSListener":
        """Listen on TCP. A name is listened on at its first address."""
        context = _server_context(tls)
        try:
            if endpoint.host:
                family, _, _, _, address = socket.getaddrinfo(*endpoint, type=socket.SOCK_STREAM)[0]
                sock = socket.create_server(address, family=family, backlog=1024)
            elif socket.has_dualstack_ipv6():
                sock = socket.create_server(
                    endpoint, family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True
                )
            else:
                sock = socket.create_server(endpoint, backlog=1024)
        except (OSError, OverflowError, UnicodeError) as error:
            raise ConfigError(f"cannot listen on {endpoint}: {_words(error)}") from None
        return TLSListener(gevent_socket(fileno=sock.detach()), context, tls.binding, self._deadline)

    def _connected(self, endpoint: Address) -> tuple[TLSStream, SSL.Connection]:
        """A TCP connection to the first address of `endpoint` that takes one."""
        failure = "no address"
        addresses = self._resolve(endpoint)
        for family, kind, protocol, _, address in addresses:
            sock = gevent_socket(family, kind, protocol)
            try:
                sock.settimeout(self._deadline / len(addresses))  # one silent address leaves time for others
                sock.connect(address)
                return _stream(sock, self._context)
            except BaseException as error:
                sock.close()
                if not isinstance(error, OSError):
                    raise
                failure = _words(error)
        raise Unreachable(f"cannot reach {endpoint}: {failure}")

    def _resolve(self, endpoint: Address) -> list[Any]:
        """The addresses of a host. A name is looked up in a thread: the C library's resolver blocks."""
        try:
            return socket.getaddrinfo(*endpoint, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            pass
        try:
            found: list[Any] = self._resolver.apply(
                socket.getaddrinfo, endpoint, {"type": socket.SOCK_STREAM}
            )
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"cannot look up {endpoint.host}: {_words(error)}") from None
        return found

    @cached_property
    def _resolver(self) -> Any:
        """Threads of our own: a look-up that timed out keeps its thread until it ends."""
        return ThreadPool(4)

    @cached_property
    def _context(self) -> Any:
        context = _context()
        context.set_alpn_protos([_ALPN])
        return context


class TLSListener:
    """Accepts TCP connections, and hands out those whose handshake is done."""

    def __init__(self, sock: Any, context: Any, binding: bytes, deadline: float) -> None:
        self._sock = sock
        self._context = context
        self._binding = binding
        self._deadline = deadline
        self._ready: Any = Queue(_READY)
        self._handshakes = Pool(_HANDSHAKES)
        self._shaking: set[TLSStream] = set()
        host, port, *_ = sock.getsockname()
        self.address = Address(host, port)
        self._accepting = gevent.spawn(self._accept_all)

    def accept(self) -> TLSCarrier:
        """The next carrier. Raises Closed with the listener."""
        try:
            carrier: TLSCarrier = self._ready.get()
        except ShutDown:
            raise Closed("the listener is closed") from None
        return carrier

    def close(self) -> None:
        """Stop; drop what was not accepted yet."""
        self._accepting.kill(block=False)
        self._sock.close()
        for stream in list(self._shaking):
            stream.reset()
        while not self._ready.empty():
            self._ready.get().close()
        self._ready.shutdown()

    def _accept_all(self) -> None:
        while True:
            self._handshakes.wait_available()
            try:
                sock, address = self._sock.accept()
            except ConnectionError:
                continue  # it went away while it was queued
            except OSError as error:
                if self._sock.closed:
                    return
                log.warning("tls: cannot accept a connection: %s", _words(error))
                gevent.sleep(_NO_ROOM_PAUSE)
                continue
            try:
                stream, connection = _stream(sock, self._context)
            except OSError:
                sock.close()  # it went away just now
                continue
            connection.set_accept_state()
            self._shaking.add(stream)
            self._handshakes.spawn(self._handshake, stream, _host(address))

    def _handshake(self, stream: TLSStream, peer: str) -> None:
        """Whatever this peer does costs only this connection."""
        try:
            with _deadline(self._deadline, Closed("too slow")):
                stream.handshake()
            self._ready.put(TLSCarrier(stream, self._binding, peer, dialled=False))
        except (Closed, ProtocolError, ShutDown) as error:
            stream.abandon()  # and no reset, which could destroy the alert that tells the peer why
            log.debug("tls: no handshake with %s: %s", peer, error)
        finally:
            self._shaking.discard(stream)


def _context() -> Any:
    """What client and server have in common."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    write_whole(context)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection keeps no 16 KB records
    return context


def _server_context(tls: ServerTLS) -> Any:
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


def _stream(sock: Any, context: Any) -> tuple[TLSStream, SSL.Connection]:
    for level, option, value in _SOCKET_OPTIONS:
        if hasattr(socket, option):
            sock.setsockopt(getattr(socket, level), getattr(socket, option), value)
    connection = SSL.Connection(context, sock)
    return TLSStream(connection, sock), connection


@contextmanager
def _deadline(seconds: float, late: Exception) -> Iterator[None]:
    """Raise `late` once `seconds` have passed; a deadline of the caller's passes through as it is."""
    timeout = gevent.Timeout(seconds)
    try:
        with timeout:
            yield
    except gevent.Timeout as expired:
        if expired is not timeout:
            raise
        raise late from None


def _host(address: Any) -> str:
    """The host of a socket address, as IPv4 where it came in through a socket for both."""
    host: str = address[0]
    return host.removeprefix("::ffff:") if "." in host else host


def _words(error: Exception) -> str:
    """One line of the system's: the standard library adds to it at places."""
    number = getattr(error, "errno", None)
    if number and number > 0:
        return os.strerror(number)
    return getattr(error, "strerror", None) or str(error)
