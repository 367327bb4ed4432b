"""The server that a client uses, and the lanes to it.

A transport can only dial. This module makes it a pool of carriers, on which HELLO proves the user's key.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from lane.address import Address
from lane.carriers.path_control import PathControl, SelectionPolicy
from lane.carriers.path_selection import select_path
from lane.carriers.pool import Pool
from lane.errors import LaneError, Unreachable, UsageError
from lane.proto.hello import pack_hello, token
from lane.session.registry import Registry
from lane.stream import Carrier, ClientTLS, OverTCP, Transport
from lane.supervisor import report
from lane.text import describe
from lane.via import Via

UNKNOWN_COST = 5.0
"""Assumed CPU per byte of a transport that declares none, as a multiple of TLS over TCP."""

BINDINGS = 8
"""Certificates of the server whose HELLO is kept. Most have one, and each connection begins with it."""


class Upstream(NamedTuple):
    """The server that a client uses."""

    address: Address
    tls: ClientTLS
    """How to verify the server's identity."""
    key: bytes
    """The user's key, 32 bytes. It is never sent: see `lane.proto.hello`."""
    device: bytes = b""
    """What this client calls itself: see `lane.device`."""


def cost(transport: Transport) -> float:
    """CPU per byte, as a multiple of TLS over TCP."""
    return float(getattr(transport, "cost", UNKNOWN_COST))


def lead_through(via: Via | None, transports: list[Transport]) -> list[Transport]:
    """Make transports dial through the proxy `via`. Returns those that can. Raises UsageError if none can."""
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


def make_paths(
    transports: Iterable[Transport],
    upstream: Upstream,
    dial_timeout: float,
    registry: Registry,
    *,
    reason: str = "",
    policy: SelectionPolicy = select_path,
) -> PathControl:
    """The lanes to `upstream`, the cheapest first. `reason`: why that one carries at the start."""
    ordered = sorted(transports, key=cost)
    pools = {one.name: (cost(one), make_pool(one, upstream, dial_timeout)) for one in ordered}
    return PathControl(pools, registry, reason, policy)


def make_pool(transport: Transport, upstream: Upstream, dial_timeout: float) -> Pool:
    """Carriers of `transport` to `upstream`. `dial_timeout`: seconds."""
    address, tls, key, device = upstream

    def dial() -> Carrier:
        try:
            return transport.dial(address, tls)
        except LaneError:
            raise
        except Exception as error:  # a fault of a plugin costs only this lane
            report(f"a dial over {transport.name}", error)
            raise Unreachable(f"{address} over {transport.name}: {describe(error)}") from None

    @lru_cache(maxsize=BINDINGS)
    def hello(binding: bytes) -> bytes:
        return pack_hello(token(key, binding), device=device)

    return Pool(dial, lambda carrier: hello(carrier.binding), dial_timeout)
