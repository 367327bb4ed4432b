"""The transport `tls`: its name and its options.

Almost every command loads this module. So OpenSSL and what uses it are imported by `lane_configure`, or else
by the first dial or listener.
"""

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from lane import hookimpl
from lane.stream import Address, ClientTLS, ServerTLS, Transport
from lane_tls import tcp

if TYPE_CHECKING:
    from lane_tls.carrier import TLSCarrier
    from lane_tls.dialer import Dialer
    from lane_tls.listener import TLSListener

DEADLINE = 10.0
"""Seconds in which a connection must be established on either side, handshake included."""


class TLSTransport:
    """TLS 1.3 (RFC 8446) over TCP. A carrier has one stream."""

    name = "tls"
    cost = 1.0

    def __init__(self, deadline: float = DEADLINE, congestion: str = tcp.AUTO) -> None:
        self.congestion = tcp.choose(congestion)
        """The kernel's congestion control for bulk transfers; None for the system's default."""
        self._deadline = deadline

    def dial(self, endpoint: Address, tls: ClientTLS) -> "TLSCarrier":
        """Connect, do the handshake and check the certificate, within the deadline."""
        return self._dialer.dial(endpoint, tls, self.connect, self.congestion, self._deadline)

    def prepare(self, tls: ServerTLS) -> None:
        """See `lane.stream.Prepares`: a session can be resumed at any worker."""
        from lane_tls.context import share  # noqa: PLC0415

        share(tls)

    def listen(self, endpoint: Address, tls: ServerTLS) -> "TLSListener":
        """Listen on TCP, on all addresses of a name."""
        from lane_tls.listener import listen  # noqa: PLC0415

        return listen(endpoint, tls, self._deadline, self.congestion)

    @cached_property
    def connect(self) -> Callable[[Address, float], Any]:
        """See `lane.stream.OverTCP`. This one returns a plain socket."""
        from lane.net.connect import Connector  # noqa: PLC0415

        return partial(Connector().connect_plain, tune=_untouched)

    @cached_property
    def _dialer(self) -> "Dialer":
        from lane_tls.dialer import Dialer  # noqa: PLC0415

        return Dialer()


def _untouched(sock: Any) -> None:
    """Set no options: the dialer does, whoever has connected."""


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
    """Import what dials and listens, and apply the option. Raises UsageError."""
    from lane_tls import dialer, listener, openssl  # noqa: F401, PLC0415

    openssl.is_supported()
    _transport.congestion = tcp.choose(options.tcp_congestion)
