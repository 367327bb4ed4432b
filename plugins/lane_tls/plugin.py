"""The transport `tls`: its options, and dialling a connection.

No data is sent through a connection before its certificate was checked.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from lane import hookimpl
from lane.address import normal_host
from lane.errors import Closed, ProtocolError, Refused, Unreachable
from lane.net.connect import Connector
from lane.net.failures import error_text
from lane.stream import Address, ClientTLS, ServerTLS, Transport
from lane_tls import tcp
from lane_tls.carrier import TLSCarrier
from lane_tls.context import Sessions, client_context
from lane_tls.deadline import deadline
from lane_tls.listener import TLSListener, listen
from lane_tls.openssl import is_supported
from lane_tls.stream import TLSStream

DEADLINE = 10.0
"""Seconds in which a connection must be established on either side, handshake included."""


class TLSTransport:
    """TLS 1.3 (RFC 8446) over TCP. A carrier has one stream."""

    name = "tls"
    cost = 1.0

    def __init__(self, deadline: float = DEADLINE, congestion: str = tcp.AUTO) -> None:
        self.connect: Callable[[Address, float], Any] = Connector().connect
        """See `lane.stream.OverTCP`."""
        self.congestion = tcp.choose(congestion)
        """The kernel's congestion control for bulk transfers; None for the system's default."""
        self._deadline = deadline
        self._sessions = Sessions()

    def dial(self, endpoint: Address, tls: ClientTLS) -> TLSCarrier:
        """Connect, do the handshake and check the certificate, within the deadline."""
        late = Unreachable(f"{endpoint} did not answer in {self._deadline:g} seconds")
        with deadline(self._deadline, late):
            while (carrier := self._dial(endpoint, tls)) is None:
                pass
        return carrier

    def _dial(self, endpoint: Address, tls: ClientTLS) -> TLSCarrier | None:
        """Dial once. None if the server did not resume the offered session, which is then forgotten."""
        server = endpoint, tls.server_name
        stream = TLSStream(self._context, self.connect(endpoint, self._deadline))
        connection = stream.connection
        try:
            tcp.tune(stream.sock)
            stream.congestion = self.congestion
            if tls.server_name is not None:
                connection.set_tlsext_host_name(tls.server_name.encode())
            connection.set_connect_state()
            offered = self._sessions.offer(connection, server)
            try:
                stream.handshake()
                chain = self._sessions.chain(connection, offered)
            except ProtocolError:
                if not offered:
                    raise
                chain = None
            if chain is None:
                self._sessions.forget(server)
                stream.reset()
                return None
            binding = tls.verify(chain)
            stream.on_data = lambda: self._sessions.keep(connection, server, chain)
            return TLSCarrier(stream, binding, normal_host(stream.sock.getpeername()[0]), dialled=True)
        except BaseException as error:
            stream.reset()
            if isinstance(error, ProtocolError):
                raise Refused(f"{endpoint} does not speak TLS 1.3 with us: {error}") from None
            if isinstance(error, Closed | OSError):
                reason = error_text(error) if isinstance(error, OSError) else error
                raise Unreachable(f"{endpoint} hung up during the TLS handshake: {reason}") from None
            raise

    def listen(self, endpoint: Address, tls: ServerTLS) -> TLSListener:
        """Listen on TCP, on all addresses of a name."""
        return listen(endpoint, tls, self._deadline, self.congestion)

    @cached_property
    def _context(self) -> Any:
        return client_context()


_transport = TLSTransport()


@hookimpl
def lane_register_transports(register: Callable[[Transport], None]) -> None:
    """Register `tls`."""
    register(_transport)


@hookimpl
def lane_add_options(group: Any) -> None:
    """Add the option for TCP's congestion control."""
    group.add_argument(
        "--tcp-congestion",
        metavar="NAME",
        default=tcp.AUTO,
        help="the kernel's congestion control for what this side sends over tls: auto (bbr where it may be"
        " used), system (what the system uses), or a name",
    )


@hookimpl
def lane_configure(options: Any) -> None:
    """Apply the option. Raises UsageError."""
    is_supported()
    _transport.congestion = tcp.choose(options.tcp_congestion)
