"""Registers the transport `quic`, and its congestion controllers."""

from collections.abc import Callable
from typing import Any

from lane import hookimpl
from lane.errors import UsageError
from lane.stream import Address, ClientTLS, ServerTLS, Transport
from lane_quic.carrier import QuicCarrier
from lane_quic.configuration import SMALL_DATAGRAM
from lane_quic.congestion import Factory
from lane_quic.controllers import CONTROLLERS
from lane_quic.driver import QuicListener, dial

DEFAULT = "bbr"


class QuicTransport:
    """QUIC (RFC 9000) with ALPN h3: many streams a connection, no head-of-line blocking between them."""

    name = "quic"
    cost = 20.0

    def __init__(self) -> None:
        self.control: Factory = CONTROLLERS[DEFAULT]
        """Makes the congestion controller of each new connection."""

    def dial(self, endpoint: Address, tls: ClientTLS) -> QuicCarrier:
        """See `lane.stream.Transport`."""
        return dial(endpoint, tls, self.control)

    def listen(self, endpoint: Address, tls: ServerTLS) -> QuicListener:
        """See `lane.stream.Transport`."""
        return QuicListener(endpoint, tls, self.control)


_transport = QuicTransport()


@hookimpl
def lane_register_transports(register: Callable[[Transport], None]) -> None:
    """Hand the transport to lane."""
    register(_transport)


@hookimpl
def lane_add_options(group: Any) -> None:
    """Declare which controller to use."""
    names = ", ".join(CONTROLLERS)
    group.add_argument(
        "--congestion",
        metavar="NAME",
        default=DEFAULT,
        help=f"what sets the rate of what this side sends over quic: {names}, or a plugin's",
    )


@hookimpl
def lane_configure(options: Any, call_each: Callable[..., None]) -> None:
    """Choose the controller, once all plugins have named theirs. Raises UsageError."""
    known = dict(CONTROLLERS)

    def register(name: str, factory: Factory) -> None:
        if name in known:
            raise ValueError(f"the congestion controller {name} is taken")
        known[name] = factory

    call_each("lane_register_congestion", register=register)
    if options.congestion not in known:
        names = ", ".join(sorted(known))
        raise UsageError(f"--congestion: unknown controller {options.congestion!r} (there are: {names})")
    control = known[options.congestion]
    try:
        control(SMALL_DATAGRAM)
    except Exception as error:
        raise UsageError(f"--congestion: the controller {options.congestion} fails: {error!r}") from None
    _transport.control = control
