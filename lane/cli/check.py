"""`lane check`: it tries the server over all transports at once, and prints each result immediately."""

import sys
from time import monotonic

import gevent

from lane.carriers.connector import TunnelConnector
from lane.carriers.session_driver import SessionDeadlines
from lane.carriers.upstream import Upstream, lead_through, make_paths
from lane.cli.configured import upstream_of
from lane.cli.exits import STATUSES, exit_status
from lane.config import CheckConfig, ClientConfig
from lane.errors import Fatal, Refused, Unreachable, UsageError
from lane.plugins import Plugins
from lane.session.registry import Registry
from lane.stream import Transport
from lane.text import complain, printable

TRIES = 3


def run(checked: CheckConfig, plugins: Plugins) -> int:
    """Print one line per transport. Return 0 if one works, 77 if the server refuses or is old, else 69."""
    config = checked.client
    transports = plugins.tried(config.transports)
    upstream = upstream_of(config)
    if sys.stderr.isatty():  # a firewall that drops packets takes a while to detect
        names = ", ".join(transport.name for transport in transports)
        complain(f"trying {names} at {upstream.address}: up to {config.dial_timeout:g} s")
    checks = [gevent.spawn(_check, transport, upstream, config) for transport in transports]
    gevent.joinall(checks, raise_error=True)  # no limit: each check has one
    statuses = [check.value for check in checks]
    for status in (0, STATUSES[Refused], STATUSES[Unreachable]):
        if status in statuses:
            return status
    return STATUSES[Unreachable]


def _check(transport: Transport, upstream: Upstream, config: ClientConfig) -> int:
    """Check one transport, print its line, and return its exit status."""
    status, verdict = _try(transport, upstream, config)
    print(f"{transport.name:8} {printable(verdict)}", flush=True)
    return status


def _try(transport: Transport, upstream: Upstream, config: ClientConfig) -> tuple[int, str]:
    try:
        lead_through(config.via, [transport])
    except UsageError as error:
        return exit_status(error), f"left out: {error}"
    registry = Registry(config.buffer_size, config.buffer_total, config.idle_timeout, 1, 1)
    paths = make_paths([transport], upstream, config.dial_timeout, registry)
    connector = TunnelConnector(
        paths, registry, SessionDeadlines(config.request_timeout, config.resume_grace)
    )
    try:
        start = monotonic()
        trips = [connector.ping()]
        connected = monotonic() - start - trips[0]
        trips += [connector.ping() for _ in range(TRIES - 1)]
        lacking = connector.lacks()
    except (Refused, Unreachable) as error:
        return exit_status(error), f"{'refused' if isinstance(error, Refused) else 'unreachable'}: {error}"
    except Fatal as error:
        return exit_status(error), f"failed: {error}"
    finally:
        paths.close()
        registry.close()
    if lacking:
        text = f"too old: the server does not know {', '.join(lacking)}; update lane there"
        return STATUSES[Refused], text
    return 0, f"works: round trip {min(trips) * 1000:.1f} ms, connected in {connected * 1000:.1f} ms"
