"""Registers the transport `quic`."""

from collections.abc import Callable

from lane import hookimpl
from lane.stream import Address, ClientTLS, ServerTLS, Transport
from lane_quic.carrier import QuicCarrier
from lane_quic.driver import QuicListener, dial


class QuicTransport:
    """QUIC (RFC 9000) with ALPN h3: many streams a connection, no head-of-line blocking between them."""

    name = "quic"

    def dial(self, endpoint: Address, tls: ClientTLS) -> QuicCarrier:
        """See `lane.stream.Transport`."""
        return dial(endpoint, tls)

    def listen(self, endpoint: Address, tls: ServerTLS) -> QuicListener:
        """See `lane.stream.Transport`."""
        return QuicListener(endpoint, tls)


@hookimpl
def lane_register_transports(register: Callable[[Transport], None]) -> None:
    """Hand the transport to lane."""
    register(QuicTransport())
