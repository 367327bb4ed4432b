"""Listeners of several transports on the same port number."""

from collections.abc import Sequence

from lane.address import Address
from lane.certs import ServerIdentity
from lane.config import DEFAULT_TRANSPORTS
from lane.errors import ConfigError, Fatal
from lane.stream import Listener, OverTCP, Transport
from lane.text import describe

_TRIES = 20
"""Number of ports that the kernel picks until all transports can listen on the same one."""


def listen_with(transport: Transport, address: Address, identity: ServerIdentity) -> Listener:
    """A listener of one transport. Raises ConfigError, also for any other exception of a plugin."""
    try:
        return transport.listen(address, identity)
    except Fatal:
        raise
    except Exception as error:
        raise ConfigError(f"{transport.name} cannot listen on {address}: {describe(error)}") from None


def listen_all(
    transports: Sequence[Transport], address: Address, identity: ServerIdentity
) -> tuple[int, list[Listener]]:
    """Listen with all transports on one port. Returns the port and the listeners. Raises ConfigError.

    For port 0 the kernel picks the port. A plugin's transport may listen on a port of its own instead.
    """
    ordered = sorted(transports, key=lambda transport: transport.name not in DEFAULT_TRANSPORTS)
    for left in reversed(range(_TRIES)):
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


def listen_where_possible(
    transports: Sequence[Transport], host: str, identity: ServerIdentity
) -> tuple[Address, list[Listener], dict[str, str]]:
    """Listen on a free port of `host` with all transports that can. Raises ConfigError.

    Transports that ship with lane must listen. Others are left out if they can't: the last result maps the
    names of these to the reasons.
    """
    base = [one for one in transports if one.name in DEFAULT_TRANSPORTS] or [*transports[:1]]
    port, listeners = listen_all(base, Address(host, 0), identity)
    address = Address(host, port)
    failed: dict[str, str] = {}
    for other in [one for one in transports if one not in base]:
        try:
            listeners.append(listen_with(other, address, identity))
        except ConfigError as error:
            failed[other.name] = str(error)
    return address, listeners, failed
