"""`lane speedtest`: goodput in both directions, and the delay beside it, over each transport in turn."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

import gevent

from lane.carriers import measuring
from lane.carriers.connector import TunnelConnector
from lane.carriers.measuring import Delays, Flow
from lane.carriers.session_driver import SessionDeadlines
from lane.carriers.upstream import Upstream, cost, lead_through, make_paths
from lane.cli import verdict
from lane.cli.configured import upstream_of
from lane.cli.exits import ENDS, STATUSES, exit_status
from lane.cli.fold import fold
from lane.cli.progress import Progress
from lane.config import SpeedtestConfig
from lane.errors import LaneError, Unreachable, UsageError
from lane.plugins import Plugins
from lane.session.registry import Registry
from lane.stream import Transport

IDLE = 1.0
"""Seconds for which the delay is measured before any data flow."""
HEAD = f"{'':8} {'down':>13} {'up':>13} {'idle':>9} {'loaded':>9} {'jitter':>9} {'loss':>7}"


@dataclass
class Result:
    """What one transport delivers. Rates are bytes a second, times seconds; None: not known."""

    transport: str
    cost: float | None = None
    """CPU time a byte, as a multiple of that of TLS over TCP."""
    down: float | None = None
    up: float | None = None
    idle: float | None = None
    """The round trip of a small message while nothing else moves."""
    loaded: float | None = None
    """The same beside as much data as the path takes: the worse one of both directions."""
    jitter: float | None = None
    """The mean difference between one round trip and the next, while nothing else moves."""
    loss: float | None = None
    """The fraction of bytes lost, of the direction that loses more."""
    unanswered: int = 0
    """Small messages without an answer in time."""
    error: str | None = None
    """Why there is nothing else."""

    def line(self) -> str:
        """For people, as wide as a terminal of 80 columns."""
        if self.error:
            return f"{self.transport:8} {self.error}"
        times = " ".join(f"{_ms(value):>9}" for value in (self.idle, self.loaded, self.jitter))
        loss = "-" if self.loss is None else f"{self.loss * 100:.1f} %"
        return f"{self.transport:8} {_mbit(self.down):>13} {_mbit(self.up):>13} {times} {loss:>7}"


def run(config: SpeedtestConfig, plugins: Plugins) -> int:
    """Print one line per transport and a verdict. Return 0 if one was measured, else why none was.

    Raises UsageError or ConfigError.
    """
    client = config.client
    transports = plugins.tried(client.transports)
    upstream, statuses, results = upstream_of(client), [], []
    with Progress() as progress:
        if not config.json:
            progress.say(f"through {upstream.address}, {config.seconds:g} s each way")
            progress.say(HEAD)
        for transport in transports:
            status, result = _test(transport, upstream, config, progress)
            statuses.append(status)
            results.append(result)
            if not config.json:
                progress.say(result.line(), 9)
        if config.direct is not None:
            results.append(_direct(config, progress))
            if not config.json:
                progress.say(results[-1].line(), 9)
    words = verdict.words(results)
    if config.json:
        print(
            json.dumps(
                {
                    "server": str(upstream.address),
                    "results": [asdict(one) for one in results],
                    "verdict": words,
                }
            )
        )
    elif words:
        print()
        for line in words:
            print(fold(line))
    sys.stdout.flush()
    return 0 if 0 in statuses else min(statuses, default=STATUSES[Unreachable])


def _test(
    transport: Transport, upstream: Upstream, config: SpeedtestConfig, progress: Progress
) -> tuple[int, Result]:
    """Measure one transport: the exit status, and the result."""
    result = Result(transport.name, cost(transport))
    try:
        with _connected(transport, upstream, config) as connector:
            _measure(connector, config.seconds, result, progress)
    except LaneError as error:
        result.error = str(error)
        return exit_status(error) if isinstance(error, ENDS) else STATUSES[Unreachable], result
    return 0, result


@contextmanager
def _connected(
    transport: Transport, upstream: Upstream, config: SpeedtestConfig
) -> Iterator[TunnelConnector]:
    """A connector over this transport alone. Raises UsageError."""
    client = config.client
    lead_through(client.via, [transport])
    with ExitStack() as resources:
        registry = Registry(client.buffer_size, client.buffer_total, client.idle_timeout, 8, 8)
        resources.callback(registry.close)
        paths = make_paths([transport], upstream, client.dial_timeout, registry)
        resources.callback(paths.close)
        yield TunnelConnector(paths, registry, SessionDeadlines(client.request_timeout, client.resume_grace))


def _measure(connector: TunnelConnector, seconds: float, result: Result, progress: Progress) -> None:
    connector.ping()
    progress.show(f"{result.transport}: delay")
    with measuring.delays(connector) as idle:
        gevent.sleep(IDLE)
    result.idle, result.jitter = idle.median, idle.jitter
    loaded: list[Delays] = []
    flows: list[Flow] = []
    for number, (word, move) in enumerate((("down", measuring.down), ("up", measuring.up))):

        def show(part: float, rate: float, begun: int = number, word: str = word) -> None:
            text = f"{result.transport} {word} {_mbit(rate)}, delay {_ms(_latest(loaded))}"
            progress.show(text, (begun + part) / 2)

        with measuring.delays(connector) as beside:
            loaded.append(beside)
            flows.append(move(connector, seconds, show))
    result.down, result.up = (flow.rate for flow in flows)
    result.loaded = max((found.median for found in loaded if found.median is not None), default=None)
    result.loss = max((flow.loss for flow in flows if flow.loss is not None), default=None)
    result.unanswered = sum(found.unanswered for found in (idle, *loaded))


def _latest(loaded: list[Delays]) -> float | None:
    return loaded[-1].trips[-1] if loaded and loaded[-1].trips else None


def _direct(config: SpeedtestConfig, progress: Progress) -> Result:
    """The same without lane, from a target that is named: its download, and the time to connect to it."""
    from lane.cli.direct_download import download  # noqa: PLC0415 - nothing else needs an HTTP client

    assert config.direct is not None
    result = Result("direct")
    try:
        found = download(
            config.direct,
            config.seconds,
            lambda part, rate: progress.show(f"direct down {_mbit(rate)}", part),
        )
    except (OSError, UsageError) as error:
        result.error = f"{config.direct}: {error}"
        return result
    result.down, result.idle, result.jitter = found.rate, found.delays.median, found.delays.jitter
    return result


def _mbit(rate: float | None) -> str:
    if rate is None:
        return "-"
    mbit = rate * 8 / 1e6
    return f"{mbit:,.1f} Mbit/s" if mbit < 100 else f"{mbit:,.0f} Mbit/s"


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:,.0f} ms"
