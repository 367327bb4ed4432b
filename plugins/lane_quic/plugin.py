"""Registers the transport `quic`, its options and its congestion controllers.

Almost every command loads this module. So aioquic and what uses it are imported by `lane_configure`, or else
by the first dial or listener.
"""

import logging
import os
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lane import hookimpl
from lane.errors import UsageError
from lane.stream import Address, ClientTLS, ServerTLS, Transport
from lane_quic.congestion import Factory
from lane_quic.congestion.controllers import CONTROLLERS
from lane_quic.internals.deferred import defer
from lane_quic.trace.key_log import KeyLog

if TYPE_CHECKING:
    from lane.stream import Finding
    from lane_quic.carrier import QuicCarrier
    from lane_quic.configuration import Settings
    from lane_quic.listener import QuicListener

log = logging.getLogger("lane.quic")

DEFAULT = "bbr"


class QuicTransport:
    """QUIC (RFC 9000) with ALPN h3: many streams per connection, without head-of-line blocking."""

    name = "quic"
    cost = 9.0

    @cached_property
    def settings(self) -> "Settings":
        """The user's settings. The defaults, unless they were set."""
        from lane_quic.configuration import DEFAULTS  # noqa: PLC0415

        return DEFAULTS

    def dial(self, endpoint: Address, tls: ClientTLS) -> "QuicCarrier":
        """See `lane.stream.Transport`."""
        from lane_quic.endpoint import dial  # noqa: PLC0415

        return dial(endpoint, tls, self.settings)

    def examine(self, endpoint: Address, seconds: float) -> "Iterable[Finding]":
        """See `lane.stream.Examines`."""
        from lane_quic.examination import examine  # noqa: PLC0415

        return examine(endpoint, seconds)

    def listen(self, endpoint: Address, tls: ServerTLS) -> "QuicListener":
        """See `lane.stream.Transport`."""
        from lane_quic.listener import QuicListener  # noqa: PLC0415

        return QuicListener(endpoint, tls, self.settings)


_transport = QuicTransport()


@hookimpl
def lane_register_transports(register: Callable[[Transport], None]) -> None:
    """Register the transport `quic`."""
    register(_transport)


@hookimpl
def lane_add_options(group: Any) -> None:
    """Add the options for the congestion controller and for turning off features that fail somewhere."""
    names = ", ".join(CONTROLLERS)
    group.add_argument(
        "--congestion",
        metavar="NAME",
        default=DEFAULT,
        help=f"what sets the rate of what this side sends over quic: {names}, or a plugin's",
    )
    group.add_argument(
        "--quic-fast-path",
        choices=("on", "off"),
        default="on",
        help="write and read common packets directly; off: all as aioquic does, at over twice the CPU",
    )
    group.add_argument(
        "--qlog-dir",
        metavar="DIR",
        help="write what each QUIC connection does to a file in DIR, for qvis (costs CPU and disk)",
    )
    group.add_argument(
        "--quic-offload",
        choices=("on", "off"),
        default="on",
        help="hand many packets to the kernel at once, where it can (UDP_SEGMENT, UDP_GRO); off: one by one",
    )


@hookimpl
def lane_configure(options: Any, call_each: Callable[..., None]) -> None:
    """Import what dials and listens, and apply the options, with the controllers of all plugins.

    Raises UsageError or ConfigError.
    """
    defer("service_identity")  # aioquic verifies names with it, which lane does itself
    from lane_quic import endpoint, listener  # noqa: F401, PLC0415
    from lane_quic.configuration import SMALL_DATAGRAM, Settings  # noqa: PLC0415
    from lane_quic.internals.support import is_supported  # noqa: PLC0415
    from lane_quic.trace.qlog import Qlog  # noqa: PLC0415

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
    fast = is_supported() and options.quic_fast_path == "on"
    offloads = options.quic_offload == "on"
    qlog = Qlog(Path(options.qlog_dir).expanduser()) if options.qlog_dir else None
    _transport.settings = Settings(control, fast=fast, offloads=offloads, qlog=qlog, keys=_key_log())


def _key_log() -> KeyLog | None:
    """The file that SSLKEYLOGFILE names, as in browsers and curl. Raises ConfigError."""
    if not (name := os.environ.get("SSLKEYLOGFILE")):
        return None
    found = KeyLog(name)
    log.warning("SSLKEYLOGFILE: anyone who can read %s can decrypt all traffic over quic", name)
    return found
