"""Chooses between lane, a direct connection and a refusal, behind every inbound.

An inbound asks for a connection to a target. It does not learn which way the connection goes.
"""

import logging
from collections.abc import Callable
from functools import lru_cache, partial

from lane.address import Address
from lane.carriers.departures import Goes
from lane.carriers.lanes import Leased
from lane.egress.rules import Action, RouteTable
from lane.egress.udp import UdpEgress
from lane.errors import LaneError, Status, TargetError
from lane.inbound.connector import Association, Buffer, Listening, TargetConnection, TargetConnector
from lane.inbound.direct import Direct
from lane.inbound.later import Later
from lane.log import Throttle
from lane.plugins import BadAnswer, Plugins
from lane.proto.hello import ANYONE
from lane.session.parcel import Parcel

REMEMBERED = 1024
"""Targets of one association whose route is remembered."""

log = logging.getLogger("lane.inbound")
_throttle = Throttle()

Ask = Callable[[Address], Action | None]
"""The decision of the plugins for a target; None if they leave it to the rules."""


def asking(plugins: Plugins) -> Ask:
    """Return a function that asks the plugins about a target.

    If a plugin fails, the target is refused, because the plugin might have blocked it.
    """

    def ask(target: Address) -> Action | None:
        try:
            return plugins.ask("lane_route", Action, target=target)
        except BadAnswer as error:
            raise TargetError(Status.NOT_ALLOWED, str(error)) from None

    return ask


class Routes:
    """A TargetConnector that asks `ask`, then the rules. Without a decision it goes through `lane`.

    `ask` is None if no plugin takes part. `most_associations` limits the UDP associations at once.
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
        """May be replaced at any time. Existing connections are not affected."""
        self._ask = ask
        self._most = most_associations
        self._associations = 0

    def action(self, target: Address) -> Action:
        """The action for connections and packets to `target`. Raises TargetError if `ask` does."""
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
        """Connect to `target`.

        Raises as `TargetConnector.connect` does, and NOT_ALLOWED for a blocked target.
        """
        action = self.action(target)
        if action is Action.BLOCK:
            raise TargetError(Status.NOT_ALLOWED, "blocked by a rule")
        return (self._direct if action is Action.DIRECT else self._lane).connect(target)

    def bind(self, peer: Address) -> Listening:
        """Open a port on the server for `peer`.

        Raises as `TargetConnector.bind` does, and TargetError for a peer that is blocked or reached directly.
        """
        action = self.action(peer)
        if action is Action.BLOCK:
            raise TargetError(Status.NOT_ALLOWED, "blocked by a rule")
        if action is Action.DIRECT:
            raise TargetError(Status.COMMAND_NOT_SUPPORTED, "not supported for what goes past lane")
        return self._lane.bind(peer)

    def associate(self, deliver: Callable[[Address, Buffer], None], *, anyone: bool = False) -> Association:
        """Open a UDP association whose packets take the routes of their targets, or are dropped if blocked.

        A route, once decided, holds for the whole association. If no plugin and no rule can route packets
        past lane, the server is asked at once, and this raises as `TargetConnector.associate` does.
        Otherwise the first packet through lane asks the server, and only the limit on associations raises
        TargetError.
        """
        if self._associations >= self._most:
            raise TargetError(Status.FAILURE, "too many UDP associations at once")
        routed = self._routed(deliver, anyone)
        if self._ask is None and not self.rules:
            try:
                routed.open()
            except BaseException:
                routed.close()
                raise
        return routed

    def associate_again(
        self, parcel: Parcel, leased: Leased | None, deliver: Callable[[Address, Buffer], None]
    ) -> Association:
        """See `TargetConnector.associate_again`."""
        lane = self._lane.associate_again(parcel, leased, deliver)
        return self._routed(deliver, bool(parcel.state["driver"]["request"][3] & ANYONE), lane)

    def _routed(
        self, deliver: Callable[[Address, Buffer], None], anyone: bool, lane: Association | None = None
    ) -> "_Routed":
        self._associations += 1
        return _Routed(
            self.action,
            Later(partial(self._lane.associate, deliver, anyone=anyone), _refused, lane),
            partial(self._direct.associate, deliver, anyone=anyone),
            self._dissociated,
        )

    def _dissociated(self) -> None:
        self._associations -= 1


def _refused(error: LaneError) -> None:
    """Log a refused association. No application waits for a reply; its packets are dropped."""
    if _throttle.allows("refused") is not None:
        log.info("UDP: no packets through lane: %s", error)


class _Routed:
    """The UDP association of one application, over `lane` and directly."""

    def __init__(
        self,
        action: Callable[[Address], Action],
        lane: Later,
        make_direct: Callable[[], UdpEgress],
        ended: Callable[[], None],
    ) -> None:
        self.over = lane.over
        self.open = lane.open
        self._action = action
        self._way: Callable[[Address], Later | UdpEgress | None] = lru_cache(REMEMBERED)(self._choose)
        self._lane = lane
        self._make_direct = make_direct
        self._direct: UdpEgress | None = None
        self._ended: Callable[[], None] | None = ended

    def send(self, target: Address, payload: Buffer) -> None:
        """See `Association`."""
        try:
            way = self._way(target)
        except TargetError as error:
            log.debug("dropped a packet to %s: %s", target, error)
            return
        if way is not None:
            way.send(target, payload)

    def _choose(self, target: Address) -> Later | UdpEgress | None:
        """What sends packets to `target`; None if they are blocked. Raises TargetError."""
        action = self._action(target)
        if action is Action.LANE:
            return self._lane
        if action is Action.BLOCK or self._ended is None:
            return None
        if self._direct is None:
            self._direct = self._make_direct()
            self._lane.leaves(None)
        return self._direct

    def leaves(self, goes: Goes | None) -> None:
        """See `Association`. One that sends directly, too, stays."""
        if self._direct is None:
            self._lane.leaves(goes)

    def close(self) -> None:
        """See `Association`."""
        ended, self._ended = self._ended, None
        if ended is None:
            return
        ended()
        self._way = lambda _: None  # without what was remembered, which refers to this object
        del self._make_direct  # nor that
        self._lane.close()
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.close()
        log.debug("an association ended: %d packets were dropped before it was open", self._lane.dropped)
