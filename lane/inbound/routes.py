"""The choice between lane, a direct connection and none, behind every inbound.

An inbound asks for a way to a target and gets one; which one that is stays unknown to it.
"""

import logging
from collections.abc import Callable
from functools import lru_cache

from lane.address import Address
from lane.egress.rules import Action, RouteTable
from lane.egress.udp import UdpEgress
from lane.errors import Status, TargetError
from lane.inbound.connector import Association, Buffer, Connection, Connector, Listening
from lane.inbound.direct import Direct

REMEMBERED = 1024
"""Targets of one association whose way is known."""

log = logging.getLogger("lane.inbound")

Ask = Callable[[Address], Action | None]
"""What plugins say of a target; None where they leave it to the rules."""


class Routes:
    """A Connector that asks `ask`, then the rules, and goes through `lane` where neither says anything."""

    def __init__(self, lane: Connector, direct: Direct, rules: RouteTable, ask: Ask) -> None:
        self._lane = lane
        self._direct = direct
        self.rules = rules
        """May be replaced at any time; what is connected stays as it is."""
        self._ask = ask

    def action(self, target: Address) -> Action:
        """What becomes of a connection to `target`, or of packets to it. Raises TargetError if `ask` does."""
        asked = self._ask(target)
        if asked is not None:
            log.debug("%s: %s, says a plugin", target, asked.value)
            return asked
        rule = self.rules.find(target)
        if rule is None:
            return Action.LANE
        log.debug("%s: %s, by the rule %r", target, rule.action.value, rule.text)
        return rule.action

    def connect(self, target: Address) -> Connection:
        """A connection to `target`. Raises as `Connector.connect` does; NOT_ALLOWED for what is blocked."""
        action = self.action(target)
        if action is Action.BLOCK:
            raise TargetError(Status.NOT_ALLOWED, "blocked by a rule")
        return (self._direct if action is Action.DIRECT else self._lane).connect(target)

    def bind(self, peer: Address) -> Listening:
        """A port on the server for `peer`. Raises as `Connector.bind` does, and for what goes past lane."""
        action = self.action(peer)
        if action is Action.BLOCK:
            raise TargetError(Status.NOT_ALLOWED, "blocked by a rule")
        if action is Action.DIRECT:
            raise TargetError(Status.COMMAND_NOT_SUPPORTED, "not supported for what goes past lane")
        return self._lane.bind(peer)

    def associate(self, deliver: Callable[[Address, Buffer], None], *, anyone: bool = False) -> Association:
        """A UDP association whose packets go the way of their targets. Raises as `Connector.associate` does.

        Those that are blocked are dropped. What was decided for a target holds for the association.
        """
        lane = self._lane.associate(deliver, anyone=anyone)
        return _Routed(self.action, lane, self._direct.associate(deliver, anyone=anyone))


class _Routed:
    """Packets of one application, some of which go through lane."""

    def __init__(self, action: Callable[[Address], Action], lane: Association, direct: UdpEgress) -> None:
        self.over = lane.over
        self._action = lru_cache(REMEMBERED)(action)
        self._lane = lane
        self._direct = direct

    def send(self, target: Address, payload: Buffer) -> None:
        """See `Association`."""
        try:
            action = self._action(target)
        except TargetError as error:
            log.debug("dropped a packet to %s: %s", target, error)
            return
        match action:
            case Action.LANE:
                self._lane.send(target, payload)
            case Action.DIRECT:
                self._direct.send(target, payload)

    def close(self) -> None:
        """See `Association`."""
        self._lane.close()
        self._direct.close()
