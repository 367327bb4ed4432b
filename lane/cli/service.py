"""What the client and the server have in common as services: signals, readiness, the way to a server."""

import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable

import gevent
from gevent.event import Event

from lane import census
from lane.address import Address
from lane.carriers.lanes import Lanes, Steering
from lane.carriers.pool import Pool
from lane.carriers.steer import steer
from lane.certs import PinnedTLS, ServerIdentity, VerifiedTLS
from lane.config import DEFAULT_TRANSPORTS, ClientConfig
from lane.errors import ConfigError, Fatal, LaneError, Unreachable, UsageError
from lane.heap import keep_buffers
from lane.link import Link
from lane.plugins import describe
from lane.proto.hello import pack_hello, token
from lane.stream import Carrier, ClientTLS, Listener, OverTCP, Transport
from lane.supervisor import report
from lane.via import Via

_LATE = (
    "pickle",  # by gevent, for a greenlet that dies
    "encodings.idna",  # by Python, for a name that is given to a socket
    "encodings.punycode",  # for a name of another alphabet
    "idna.uts46data",
)
"""What others import when they first need it, by whom. There may be no descriptor then to read it with: so it
is imported at the start."""
_PORT_TRIES = 20
log = logging.getLogger("lane")
UNKNOWN_COST = 5.0
"""CPU a byte of a transport that does not tell, as a multiple of TLS over TCP."""


def run_until_signal(greet: Callable[[], None], close: Callable[[], None], reload: Callable[[], None]) -> int:
    """Wait for SIGINT or SIGTERM, then `close`: exit status 0. A second signal ends the process at once.

    `reload` is called on SIGHUP. SIGUSR1 has it log what it holds.
    `greet` says that all is ready: whoever reads that may send a signal, so the handlers are there before.
    """
    stop = Event()
    keep_buffers()
    for name in _LATE:
        importlib.import_module(name)

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, on_signal, number)
    gevent.signal_handler(signal.SIGUSR1, census.tell)
    gevent.signal_handler(signal.SIGHUP, reload)
    greet()
    notify("READY=1")
    stop.wait()  # no limit: that is what the process is for
    notify("STOPPING=1")
    close()
    return 0


def tell_wait(sessions: int, grace: float) -> None:
    """Say what a process that is to end waits for: who sits there is shown it, log file or not."""
    if not sessions or not grace:
        return
    plural = "s" if sessions > 1 else ""
    text = f"stopping: {sessions} connection{plural} may finish within {grace:g} s; Ctrl-C again ends at once"
    if sys.stderr.isatty():
        print(f"lane: {text}", file=sys.stderr, flush=True)
    else:
        log.info("%s", text)


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


def lead_through(via: Via | None, transports: list[Transport]) -> list[Transport]:
    """Have those of `transports` that can dial through a proxy. Raises UsageError if none can."""
    if via is None:
        return transports
    able: list[Transport] = []
    for transport in transports:
        if isinstance(transport, OverTCP):
            transport.connect = via.connect
            able.append(transport)
    if not able:
        raise UsageError(f"--via: the transport {transports[0].name} does not run over TCP")
    return able


def listen_with(transport: Transport, address: Address, identity: ServerIdentity) -> Listener:
    """A listener of one transport. Raises ConfigError, whatever a plugin raises."""
    try:
        return transport.listen(address, identity)
    except Fatal:
        raise
    except Exception as error:
        raise ConfigError(f"{transport.name} cannot listen on {address}: {describe(error)}") from None


def listen_all(
    transports: list[Transport], address: Address, identity: ServerIdentity
) -> tuple[int, list[Listener]]:
    """All transports on one port number, and that; the kernel picks it for port 0. Raises ConfigError.

    A transport of a plugin may listen on another port, of its own.
    """
    ordered = sorted(transports, key=lambda transport: transport.name not in DEFAULT_TRANSPORTS)
    for left in reversed(range(_PORT_TRIES)):
        found: dict[str, Listener] = {}
        port = address.port
        try:
            for transport in ordered:
                found[transport.name] = listen_with(transport, Address(address.host, port), identity)
                port = port or found[transport.name].address.port
        except ConfigError as error:
            for listener in found.values():
                listener.close()
            rivals = [one.name for one in ordered[: len(found)] if isinstance(one, OverTCP)]
            if rivals and isinstance(transport, OverTCP) and f":{port}: " in str(error):
                raise ConfigError(
                    f"{error}: {rivals[0]} and {transport.name} both use TCP; give {transport.name} a port of"
                    " its own if it has an option for that, or leave one of them out (--transport)"
                ) from None
            if address.port or not found or not left:
                raise
        else:
            return port, [found[transport.name] for transport in transports]
    raise AssertionError("the last try returns or raises")


def for_auto(transports: Iterable[Transport]) -> list[Transport]:
    """Those that a client with `--transport auto` tries."""
    return [one for one in transports if hasattr(one, "cost")]


def beyond_default(transports: Iterable[Transport]) -> str:
    """The names of those that a server does not offer unless it is told to; empty if there are none."""
    return ", ".join(one.name for one in transports if one.name not in DEFAULT_TRANSPORTS)


def make_lanes(
    transports: list[Transport],
    way: tuple[Address, ClientTLS, bytes],
    dial_timeout: float,
    reason: str = "",
    policy: Steering = steer,
) -> Lanes:
    """The lanes along `way`, the one that costs least first. `reason`: why that one carries at first."""
    ordered = sorted(transports, key=cost)
    pools = {one.name: (cost(one), make_pool(one, way, dial_timeout)) for one in ordered}
    return Lanes(pools, reason, policy)


def cost(transport: Transport) -> float:
    """CPU a byte, as a multiple of TLS over TCP."""
    return float(getattr(transport, "cost", UNKNOWN_COST))


def make_pool(transport: Transport, way: tuple[Address, ClientTLS, bytes], dial_timeout: float) -> Pool:
    """Carriers of `transport` along `way`."""
    endpoint, tls, key = way

    def dial() -> Carrier:
        try:
            return transport.dial(endpoint, tls)
        except LaneError:
            raise
        except Exception as error:  # a mistake of a plugin's costs this lane
            report(f"a dial over {transport.name}", error)
            raise Unreachable(f"{endpoint} over {transport.name}: {describe(error)}") from None

    return Pool(
        dial,
        lambda carrier: pack_hello(token(key, carrier.binding)),
        dial_timeout,
    )
