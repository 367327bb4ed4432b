"""`lane check`: tries the server over each transport and says what it found."""

from time import monotonic

from lane.carriers.connector import Connector
from lane.carriers.passage import Deadlines
from lane.cli.service import lead_through, make_lanes, way_to
from lane.config import ClientConfig
from lane.errors import Fatal, Refused, Unreachable, UsageError
from lane.plugins import Plugins
from lane.session.registry import Registry
from lane.text import printable

TRIES = 3


def run(config: ClientConfig, plugins: Plugins) -> int:
    """One line a transport. 0 if one works, 77 if the server refuses or is too old, 69 if it is not there."""
    given = () if config.transports == ("auto",) else config.transports
    names = given or sorted(plugins.transports)
    statuses = [_check(name, config, plugins) for name in names]
    for status in (0, Refused.exit_status, Unreachable.exit_status):
        if status in statuses:
            return status
    return Unreachable.exit_status


def _check(name: str, config: ClientConfig, plugins: Plugins) -> int:
    way = way_to(config)
    transport = plugins.transport(name)
    try:
        lead_through(config.via, [transport])
    except UsageError as error:
        print(f"{name:8} left out: {printable(str(error))}")
        return error.exit_status
    lanes = make_lanes([transport], way, config.dial_timeout)
    registry = Registry(config.buffer_size, config.buffer_total, config.idle_timeout, 1, 1)
    connector = Connector(lanes, registry, Deadlines(config.request_timeout, config.resume_grace))
    try:
        start = monotonic()
        trips = [connector.ping()]
        connected = monotonic() - start - trips[0]
        trips += [connector.ping() for _ in range(TRIES - 1)]
        lacking = connector.lacks()
    except (Refused, Unreachable) as error:
        verdict = "refused" if isinstance(error, Refused) else "unreachable"
        print(f"{name:8} {verdict}: {printable(str(error))}")
        return error.exit_status
    except Fatal as error:
        print(f"{name:8} failed: {printable(str(error))}")
        return error.exit_status
    finally:
        lanes.close()
        registry.close()
    if lacking:
        print(f"{name:8} too old: the server does not know {', '.join(lacking)}; update lane there")
        return Refused.exit_status
    print(f"{name:8} works: round trip {min(trips) * 1000:.1f} ms, connected in {connected * 1000:.1f} ms")
    return 0
