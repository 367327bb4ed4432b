"""The configured routes of a client's targets, and reading the rules again."""

from itertools import chain

from lane.config import ClientConfig
from lane.egress.policy import ANYWHERE
from lane.egress.rules import RouteTable, read_rules
from lane.inbound import TargetConnector
from lane.inbound.direct import Direct
from lane.inbound.routes import Routes, asking
from lane.net.resolver import system_resolver
from lane.plugins import Plugins


def make_direct(config: ClientConfig) -> Direct:
    """The maker of direct connections from this machine."""
    return Direct(ANYWHERE, system_resolver(), config.idle_timeout)


def make_routes(config: ClientConfig, plugins: Plugins, lane: TargetConnector, direct: Direct) -> Routes:
    """The routes of all targets. Raises ConfigError for a faulty file of rules."""
    ask = asking(plugins) if plugins.hook.lane_route.get_hookimpls() else None
    return Routes(lane, direct, _table(config), ask, config.max_associations)


def read_again(routes: Routes, config: ClientConfig) -> str:
    """Read the rules again: a step of `lane.cli.reload`. If it raises ConfigError, nothing changes."""
    routes.rules = _table(config)
    return str(config.rules_file) if config.rules_file else ""


def _table(config: ClientConfig) -> RouteTable:
    more = read_rules(config.rules_file) if config.rules_file else ()
    return RouteTable(chain(config.rules, more))
