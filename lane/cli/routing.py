"""Which way targets go from a client: what is configured, what plugins say, and reading rules again."""

from itertools import chain

from lane.address import Address
from lane.config import ClientConfig
from lane.egress.policy import Policy, Rule
from lane.egress.rules import Action, RouteTable, read_rules
from lane.errors import Status, TargetError
from lane.inbound import Connector
from lane.inbound.direct import Direct
from lane.inbound.routes import Ask, Routes
from lane.net.resolver import system_resolver
from lane.plugins import BadAnswer, Plugins

ANYWHERE = Policy([Rule.parse("0.0.0.0/0"), Rule.parse("::/0")])
"""Where connections that leave from here may go: to wherever this machine can, as without lane."""


def make_direct(config: ClientConfig) -> Direct:
    """Connections that leave from this machine."""
    return Direct(ANYWHERE, system_resolver(), config.idle_timeout)


def make_routes(config: ClientConfig, plugins: Plugins, lane: Connector, direct: Direct) -> Routes:
    """The way for each target. Raises ConfigError for a bad file of rules."""
    ask = asking(plugins) if plugins.hook.lane_route.get_hookimpls() else None
    return Routes(lane, direct, _table(config), ask, config.max_associations)


def read_again(routes: Routes, config: ClientConfig) -> str:
    """Read the rules again: a step of `lane.cli.reload`. Raises ConfigError, and changes nothing then."""
    routes.rules = _table(config)
    return str(config.rules_file) if config.rules_file else ""


def asking(plugins: Plugins) -> Ask:
    """What plugins say of a target. Where one fails to, the target is refused: it might have been blocked."""

    def ask(target: Address) -> Action | None:
        try:
            return plugins.ask("lane_route", Action, target=target)
        except BadAnswer as error:
            raise TargetError(Status.NOT_ALLOWED, str(error)) from None

    return ask


def _table(config: ClientConfig) -> RouteTable:
    more = read_rules(config.rules_file) if config.rules_file else ()
    return RouteTable(chain(config.rules, more))
