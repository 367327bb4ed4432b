"""Dialling a connection, with the sessions that earlier ones left.

No data is sent through a connection before its certificate was checked.
"""

from collections.abc import Callable
from typing import Any

from lane.address import normal_host
from lane.deadline import deadline
from lane.errors import Closed, ProtocolError, Refused, Unreachable
from lane.net.failures import error_text
from lane.stream import Address, ClientTLS
from lane_tls import tcp
from lane_tls.carrier import TLSCarrier
from lane_tls.context import Sessions, client_context
from lane_tls.stream import TLSStream

_FIRST_DATA = 0.005
"""Seconds in which most connections have their first data: see `lane.carriers.request_stream.HEAD_START`."""


class Dialer:
    """Dials connections that share a context and its sessions."""

    def __init__(self) -> None:
        self.context = client_context()
        self.sessions = Sessions()

    def dial(
        self,
        endpoint: Address,
        tls: ClientTLS,
        connect: Callable[[Address, float], Any],
        congestion: bytes | None,
        seconds: float,
    ) -> TLSCarrier:
        """Connect with `connect`, do the handshake and check the certificate, all within `seconds`.

        `congestion` is the kernel's congestion control for bulk transfers. Raises Unreachable or Refused.
        """

        def late() -> Exception:
            return Unreachable(f"{endpoint} did not answer in {seconds:g} seconds")

        with deadline(seconds, late):
            while (carrier := self._dial(endpoint, tls, connect(endpoint, seconds), congestion)) is None:
                pass
        return carrier

    def _dial(
        self, endpoint: Address, tls: ClientTLS, sock: Any, congestion: bytes | None
    ) -> TLSCarrier | None:
        """Dial once. None if the server did not resume the offered session, which is then forgotten."""
        server = endpoint, tls.server_name
        stream = TLSStream(self.context, sock, accepts=False)
        connection = stream.connection
        try:
            tcp.tune(stream.sock)
            stream.congestion = congestion
            if tls.server_name is not None:
                connection.set_tlsext_host_name(tls.server_name.encode())
            offered = self.sessions.offer(connection, server)
            try:
                stream.handshake()
                chain = self.sessions.chain(connection, stream.resumed, offered)
            except ProtocolError:
                if not offered:
                    raise
                chain = None
            if chain is None:
                self.sessions.forget(server)
                stream.reset()
                return None
            binding = tls.verify(chain)
            stream.say_last(_FIRST_DATA)
            if self.sessions.has_fresh(server):
                stream.release()
            else:
                stream.on_data = lambda: self.sessions.keep(connection, server, chain)
            return TLSCarrier(stream, binding, normal_host(stream.sock.getpeername()[0]), dialled=True)
        except BaseException as error:
            stream.reset()
            if isinstance(error, ProtocolError):
                raise Refused(f"{endpoint} does not speak TLS 1.3 with us: {error}") from None
            if isinstance(error, Closed | OSError):
                reason = error_text(error) if isinstance(error, OSError) else error
                raise Unreachable(f"{endpoint} hung up during the TLS handshake: {reason}") from None
            raise
