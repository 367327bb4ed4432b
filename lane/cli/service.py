"""What the client and the server have in common as services: signals, readiness, the way to a server."""

import os
import signal
import socket
from collections.abc import Callable

import gevent
from gevent.event import Event

from lane.address import Address
from lane.carriers.pool import Pool
from lane.certs import PinnedTLS, VerifiedTLS
from lane.cli.allocator import keep_buffers
from lane.config import ClientConfig
from lane.errors import UsageError
from lane.link import Link
from lane.proto.hello import pack_hello, token
from lane.stream import ClientTLS, OverTCP, Transport
from lane.via import Via


def run_until_signal(greet: Callable[[], None], close: Callable[[], None]) -> int:
    """Wait for SIGINT or SIGTERM, then `close`: exit status 0. A second signal ends the process at once.

    `greet` says that all is ready: whoever reads that may send a signal, so the handlers are there before.
    """
    stop = Event()
    keep_buffers()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, on_signal, number)
    greet()
    notify("READY=1")
    stop.wait()
    notify("STOPPING=1")
    close()
    return 0


def notify(state: str) -> None:
    """Tell the service manager, if there is one (sd_notify(3))."""
    where = os.environ.get("NOTIFY_SOCKET")
    if not where:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), "\0" + where[1:] if where.startswith("@") else where)
        except OSError:
            return  # a manager that is gone needs no telling


def way_to(config: ClientConfig) -> tuple[Address, ClientTLS, bytes]:
    """Where the configured server is, whom to expect there, and the key for it. Raises ConfigError."""
    if isinstance(config.server, Link):
        link = config.server
        return link.address, PinnedTLS(link.pin, config.server_name), link.key
    assert config.server is not None
    assert config.key is not None
    return config.server, VerifiedTLS(config.ca, config.server_name or config.server.host), config.key


def lead_through(via: Via | None, transport: Transport) -> None:
    """Have `transport` dial through a proxy. Raises UsageError if it can't."""
    if via is None:
        return
    if not isinstance(transport, OverTCP):
        raise UsageError(f"--via: the transport {transport.name} does not run over TCP")
    transport.connect = via.connect


def make_pool(transport: Transport, way: tuple[Address, ClientTLS, bytes], dial_timeout: float) -> Pool:
    """Carriers of `transport` along `way`."""
    endpoint, tls, key = way
    return Pool(
        lambda: transport.dial(endpoint, tls),
        lambda carrier: pack_hello(token(key, carrier.binding)),
        dial_timeout,
    )
