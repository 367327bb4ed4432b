"""The choice between lane, a direct connection and none, behind every inbound.

An inbound asks for a way to a target and gets one; which one that is stays unknown to it.
"""

import logging
from collections.abc import Callable
from functools import lru_cache, partial

from lane.address import Address
from lane.egress.rules import Action, RouteTable
from lane.egress.udp import UdpEgress
from lane.errors import LaneError, Status, TargetError
from lane.inbound.connector import Association, Buffer, Listening, TargetConnection, TargetConnector
from lane.inbound.direct import Direct
from lane.inbound.later import Later
from lane.log import Throttle
from lane.plugins import BadAnswer, Plugins

REMEMBERED = 1024
"""Targets of one association whose way is known."""

log = logging.getLogger("lane.inbound")
_throttle = Throttle()

Ask = Callable[[Address], Action | None]
"""What plugins say of a target; None where they leave it to the rules."""


def asking(plugins: Plugins) -> Ask:
    """What plugins say of a target. Where one fails to, the target is refused: it might have been blocked."""

    def ask(target: Address) -> Action | None:
        try:
            return plugins.ask("lane_route", Action, target=target)
        except BadAnswer as error:
            raise TargetError(Status.NOT_ALLOWED, str(error)) from None

    return ask


class Routes:
    """A TargetConnector that asks `ask`, then the rules, and goes through `lane` where neither says anything.

    `ask` is None where no plugin has a say. There are `most_associations` at once.
    """

    def __init__(
        self,
        lane: TargetConnector,
        direct: Direct,
        rules: RouteTable,
        ask: Ask | None,
        most_associations: int = 1024,
    ) -> None:
        self._lane = lane
        self._direct = direct
        self.rules = rules
        """May be replaced at any time; what is connected stays as it is."""
        self._ask = ask
        self._most = most_associations
        self._associations = 0

    def action(self, target: Address) -> Action:
        """What becomes of a connection to `target`, or of packets to it. Raises TargetError if `ask` does."""
        asked = self._ask(target) if self._ask else None
        if asked is not None:
            log.debug("%s: %s, says a plugin", target, asked.value)
            return asked
        rule = self.rules.find(target)
        if rule is None:
            return Action.LANE
        log.debug("%s: %s, by the rule %r", target, rule.action.value, rule.text)
        return rule.action

    def connect(self, target: Address) -> TargetConnection:
        """A connection to `target`. Raises as `TargetConnector.connect`, and NOT_ALLOWED if it is blocked."""
        action = self.action(target)
        if action is Action.BLOCK:
            raise TargetError(Status.NOT_ALLOWED, "blocked by a rule")
        return (self._direct if action is Action.DIRECT else self._lane).connect(target)

    def bind(self, peer: Address) -> Listening:
        """A port on the server for `peer`. Raises as `TargetConnector.bind`, and for targets past lane."""
        action = self.action(peer)
        if action is Action.BLOCK:
            raise TargetError(Status.NOT_ALLOWED, "blocked by a rule")
        if action is Action.DIRECT:
            raise TargetError(Status.COMMAND_NOT_SUPPORTED, "not supported for what goes past lane")
        return self._lane.bind(peer)

    def associate(self, deliver: Callable[[Address, Buffer], None], *, anyone: bool = False) -> Association:
        """A UDP association whose packets go the way of their targets. Those that are blocked are dropped.

        What was decided for a target holds for the association. Raises as `TargetConnector.associate` does
        where nothing can say that packets go past lane. Otherwise the first packet through lane asks
        the server, and TargetError is raised for one association too many only.
        """
        if self._associations >= self._most:
            raise TargetError(Status.FAILURE, "too many UDP associations at once")
        routed = _Routed(
            self.action,
            Later(partial(self._lane.associate, deliver, anyone=anyone), _refused),
            partial(self._direct.associate, deliver, anyone=anyone),
            self._dissociated,
        )
        self._associations += 1
        if self._ask is None and not self.rules:
            try:
                routed.open()
            except BaseException:
                routed.close()
                raise
        return routed

    def _dissociated(self) -> None:
        self._associations -= 1


def _refused(error: LaneError) -> None:
    """No application is there to be told: its packets are dropped."""
    if _throttle.allows("refused") is not None:
        log.info("UDP: no packets through lane: %s", error)


class _Routed:
    """Packets of one application, some of which go through `lane`, and some from here."""

    def __init__(
        self,
        action: Callable[[Address], Action],
        lane: Later,
        make_direct: Callable[[], UdpEgress],
        ended: Callable[[], None],
    ) -> None:
        self.over = lane.over
        self.open = lane.open
        self._action = lru_cache(REMEMBERED)(action)
        self._lane = lane
        self._make_direct = make_direct
        self._direct: UdpEgress | None = None
        self._ended: Callable[[], None] | None = ended

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
            case Action.DIRECT if self._ended is not None:
                self._direct = self._direct or self._make_direct()
                self._direct.send(target, payload)

    def close(self) -> None:
        """See `Association`."""
        ended, self._ended = self._ended, None
        if ended is None:
            return
        ended()
        self._lane.close()
        if self._direct is not None:
            self._direct.close()
        log.debug("an association ended: %d packets dropped that came too early", self._lane.dropped)
