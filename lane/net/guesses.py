"""Slows down clients that guess keys and passwords, and logs their addresses.

Guesses are counted by address (IPv6 by /64). Each wrong guess doubles the delay of replies to that address.
Time and right guesses halve it. An honest user behind the same address waits a few seconds at most, and is
never refused. So a client that opens ever more connections can still guess faster, up to the limit of waiting
guesses; the ones beyond it are dropped. A firewall can stop such a client, and the log tells the firewall its
address: docs/FAIL2BAN.md.
"""

import ipaddress
import logging
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

import gevent
from gevent.event import Event

from lane import census
from lane.address import unmapped
from lane.log import Throttle
from lane.net.places import Places, network

FIRST = 0.125
"""Seconds that the reply to the second guess is delayed."""
LONGEST = 4.0
"""The longest delay of a reply, in seconds."""
EASE_TIME = 20.0
"""Seconds without a wrong guess after which the delay of an address is halved."""
MOST_KNOWN = 4096
"""Addresses that are remembered. The one whose last guess is oldest is forgotten first."""
MOST_WAITING = 512
"""Wrong guesses that wait for their replies."""
MOST_OF_ONE = 128
"""Wrong guesses of one address that wait for their replies."""
STEPS = 6
"""Wrong guesses in a row that count. The second is delayed by FIRST, and each further one twice as long."""
PERIOD = 60.0
"""The shortest interval between two log lines about one address, in seconds."""

log = logging.getLogger("lane.guesses")


class Guesses:
    """Counts guesses. `what`: what is guessed, for the log. No delay is longer than `longest` seconds."""

    def __init__(self, what: str, longest: float = LONGEST, clock: Callable[[], float] = monotonic) -> None:
        self._what = what
        self._longest = min(longest, LONGEST)
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()  # steps, and when they changed
        self._lines = Throttle(PERIOD, MOST_KNOWN, clock)
        self._waiting: Places[Event] = Places(MOST_WAITING)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"guessers": len(self._known), "guesses": len(self._waiting)}

    def delay(self, host: str) -> float:
        """The delay of a reply to the address `host` now, in seconds."""
        steps = self._steps(network(host))
        return min(self._longest, FIRST * 2 ** (steps - 1)) if steps > 0 else 0.0

    def wrong(self, host: str) -> float:
        """Count a wrong guess from `host`. Return the seconds that `pause` must wait before the reply."""
        name, delay = network(host), self.delay(host)
        self._set(name, min(self._steps(name) + 1, STEPS))
        missed = self._lines.allows(name)
        if missed is not None:
            more = f" ({missed} more since the last such line)" if missed else ""
            log.info("wrong %s from %s%s", self._what, _shown(host), more)
        return delay

    def right(self, host: str) -> None:
        """Count a right guess: wait as long as a wrong one would, then shorten the next delays."""
        if delay := self.delay(host):
            gevent.sleep(delay)
            name = network(host)
            self._set(name, self._steps(name) - 1)

    def pause(self, host: str, delay: float) -> bool:
        """Wait before the reply to a wrong guess. False: too many wait, so this one gets no reply."""
        if not delay:
            return True
        turn = Event()
        if self._waiting.count_of(host) >= MOST_OF_ONE:
            self._drop(self._waiting.oldest_of(host))
        self._drop(self._waiting.enter(turn, host))
        try:
            return not turn.wait(delay)
        finally:
            self._waiting.leave(turn)

    def _drop(self, turn: Event | None) -> None:
        if turn is not None:
            self._waiting.leave(turn)
            turn.set()

    def _steps(self, name: str) -> float:
        """The wrong guesses of a network that still count. Less than one counts as none."""
        steps, since = self._known.get(name, (0.0, 0.0))
        left = steps - (self._clock() - since) / EASE_TIME
        return left if left > 0 else 0.0

    def _set(self, name: str, steps: float) -> None:
        self._known.pop(name, None)
        if steps > 0:
            self._known[name] = steps, self._clock()
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)


def _shown(host: str) -> str:
    """The address in the form that firewalls use, without an interface. Any other text stays as it is."""
    try:
        return str(unmapped(ipaddress.ip_address(host.partition("%")[0])))
    except ValueError:
        return host
