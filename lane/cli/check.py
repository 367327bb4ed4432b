"""`lane check`: it tries the server over all transports at once, and prints each result immediately.

With `--deep` it looks closer after that (`lane.cli.deep`).
"""

from contextlib import ExitStack
from time import monotonic

import gevent

from lane.carriers.connector import TunnelConnector
from lane.carriers.session_driver import SessionDeadlines
from lane.carriers.upstream import Upstream, lead_through, make_paths
from lane.certs import VerifiedTLS
from lane.cli.configured import upstream_of
from lane.cli.deep import Witness, look
from lane.cli.exits import STATUSES, exit_status
from lane.cli.progress import Progress
from lane.config import CheckConfig, ClientConfig
from lane.errors import Fatal, Refused, Unreachable, UsageError
from lane.plugins import Plugins
from lane.session.registry import Registry
from lane.stream import Transport

TRIES = 3
_SESSIONS = 4
"""Sessions at once that a closer look needs."""


class _Check:
    """The check of one transport."""

    def __init__(self, transport: Transport, upstream: Upstream, config: ClientConfig) -> None:
        self.transport = transport
        self.status = STATUSES[Unreachable]
        self._upstream = upstream
        self._config = config
        self._resources = ExitStack()
        self.connector: TunnelConnector | None = None
        """Set while the transport works."""

    def run(self, progress: Progress) -> None:
        """Try it, and print its line."""
        self.status, verdict = self._try()
        progress.say(f"{self.transport.name:8} {verdict}", 9)

    def close(self) -> None:
        """Close its connections."""
        self.connector = None
        self._resources.close()

    def _try(self) -> tuple[int, str]:
        config = self._config
        try:
            lead_through(config.via, [self.transport])
        except UsageError as error:
            return exit_status(error), f"left out: {error}"
        registry = Registry(
            config.buffer_size, config.buffer_total, config.idle_timeout, _SESSIONS, _SESSIONS
        )
        self._resources.callback(registry.close)
        paths = make_paths([self.transport], self._upstream, config.dial_timeout, registry)
        self._resources.callback(paths.close)
        deadlines = SessionDeadlines(config.request_timeout, config.resume_grace)
        connector = TunnelConnector(paths, registry, deadlines)
        try:
            start = monotonic()
            trips = [connector.ping()]
            connected = monotonic() - start - trips[0]
            trips += [connector.ping() for _ in range(TRIES - 1)]
            lacking = connector.lacks()
        except (Refused, Unreachable) as error:
            word = "refused" if isinstance(error, Refused) else "unreachable"
            return exit_status(error), f"{word}: {error}"
        except Fatal as error:
            return exit_status(error), f"failed: {error}"
        if lacking:
            text = f"too old: the server does not know {', '.join(lacking)}; update lane there"
            return STATUSES[Refused], text
        self.connector = connector
        return 0, f"works: round trip {min(trips) * 1000:.1f} ms, connected in {connected * 1000:.1f} ms"


def run(config: CheckConfig, plugins: Plugins) -> int:
    """Print one line per transport. Return 0 if one works, 77 if the server refuses or is old, else 69."""
    client = config.client
    transports = plugins.tried(client.transports)
    upstream = upstream_of(client)
    witness = Witness(upstream.tls, dates=isinstance(upstream.tls, VerifiedTLS))
    seen = upstream._replace(tls=witness)
    checks = [_Check(transport, seen, client) for transport in transports]
    try:
        with Progress() as progress:
            _race(checks, client, progress)
            if config.deep:
                works = [(one.transport, one.connector) for one in checks if one.connector is not None]
                look(works, transports, upstream.address, witness, progress)
    finally:
        for check in checks:
            check.close()
    statuses = [check.status for check in checks]
    for status in (0, STATUSES[Refused], STATUSES[Unreachable]):
        if status in statuses:
            return status
    return STATUSES[Unreachable]


def _race(checks: list[_Check], client: ClientConfig, progress: Progress) -> None:
    """Run all checks at once. A firewall that drops packets takes a while to detect, so show the time."""
    began = monotonic()
    racing = {gevent.spawn(check.run, progress): check.transport.name for check in checks}
    while left := [name for job, name in racing.items() if not job.dead]:
        passed = monotonic() - began
        progress.show(
            f"trying {', '.join(left)} for {passed:.0f} s, up to {client.dial_timeout:g} s",
            passed / client.dial_timeout,
        )
        gevent.wait(list(racing), timeout=0.2, count=len(checks) - len(left) + 1)
    gevent.joinall(list(racing), raise_error=True)  # no limit: all have ended
