"""Which way targets go from a client: what is configured, what plugins say, and reading rules again."""

import logging
from collections.abc import Callable
from itertools import chain

import gevent

from lane.address import Address
from lane.config import ClientConfig
from lane.egress.policy import Policy, Rule
from lane.egress.rules import Action, RouteTable, read_rules
from lane.errors import ConfigError, Status, TargetError
from lane.inbound import Connector
from lane.inbound.direct import Direct
from lane.inbound.routes import Ask, Routes
from lane.net.resolver import system_resolver
from lane.plugins import BadAnswer, Plugins

log = logging.getLogger("lane.client")

ANYWHERE = Policy([Rule.parse("0.0.0.0/0"), Rule.parse("::/0")])
"""Where connections that leave from here may go: to wherever this machine can, as without lane."""


def make_direct(config: ClientConfig) -> Direct:
    """Connections that leave from this machine."""
    return Direct(ANYWHERE, system_resolver(), config.idle_timeout)


def make_routes(config: ClientConfig, plugins: Plugins, lane: Connector, direct: Direct) -> Routes:
    """The way for each target. Raises ConfigError for a bad file of rules."""
    ask = asking(plugins) if plugins.hook.lane_route.get_hookimpls() else None
    return Routes(lane, direct, _table(config), ask, config.max_associations)


def reloading(config: ClientConfig, routes: Routes) -> Callable[[], None]:
    """What reads the file of rules again. The newest call counts; a bad file changes nothing."""
    reading: gevent.Greenlet[..., None] | None = None

    def read() -> None:
        try:
            routes.rules = _table(config)
        except ConfigError as error:
            log.warning("the rules stay as they were: %s", error)
        else:
            log.info("read %s again", config.rules_file)

    def reload() -> None:
        nonlocal reading
        if config.rules_file is None:
            log.info("there is no file of rules to read again")
            return
        if reading:
            reading.kill(block=False)
        reading = gevent.spawn(read)

    return reload


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
