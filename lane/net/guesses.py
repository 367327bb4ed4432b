"""Who guesses keys and passwords: slower with each wrong one, and named in the log.

Guesses are counted by address (IPv6 by /64). Each wrong one doubles the time that answers to that address
take; time and right ones halve it. Somebody honest behind the same address waits, a few seconds at most, and
is never refused. So who opens ever more connections at once can still guess faster: those beyond what may
wait are dropped. What ends that is a firewall, which can learn of it from the log: docs/FAIL2BAN.md.
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

FIRST, LONGEST = 0.125, 4.0
"""Seconds that the answer to the second guess takes, and to any at most."""
EASE_TIME = 20.0
"""Seconds without a wrong guess that halve the delay of an address."""
MOST_KNOWN = 4096
"""Addresses that are remembered, those that guessed last."""
MOST_WAITING, MOST_OF_ONE = 512, 128
"""Wrong guesses that wait for their answers, and those of one address."""
STEPS = 6
"""Wrong guesses in a row up to the longest delay: FIRST is doubled by each but the first."""
PERIOD = 60.0
"""Seconds from one line in the log about an address to the next."""

log = logging.getLogger("lane.guesses")


class Guesses:
    """Of `what`, for the log. No delay is longer than `longest` seconds."""

    def __init__(self, what: str, longest: float = LONGEST, clock: Callable[[], float] = monotonic) -> None:
        self._what = what
        self._longest = min(longest, LONGEST)
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()  # steps, and as of when
        self._lines = Throttle(PERIOD, MOST_KNOWN, clock)
        self._waiting: Places[Event] = Places(MOST_WAITING)
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"guessers": len(self._known), "guesses": len(self._waiting)}

    def delay(self, host: str) -> float:
        """Seconds that an answer to the address `host` takes now."""
        steps = self._steps(network(host))
        return min(self._longest, FIRST * 2 ** (steps - 1)) if steps > 0 else 0.0

    def wrong(self, host: str) -> float:
        """Count a wrong guess from `host`: the seconds to its answer, which `pause` waits."""
        name, delay = network(host), self.delay(host)
        self._set(name, min(self._steps(name) + 1, STEPS))
        missed = self._lines.allows(name)
        if missed is not None:
            more = f" ({missed} more since the last such line)" if missed else ""
            log.info("wrong %s from %s%s", self._what, _shown(host), more)
        return delay

    def right(self, host: str) -> None:
        """Wait as long as a wrong one would, and let those who come after wait less."""
        if delay := self.delay(host):
            gevent.sleep(delay)
            name = network(host)
            self._set(name, self._steps(name) - 1)

    def pause(self, host: str, delay: float) -> bool:
        """Wait before a wrong guess of `host` is answered. False: too many wait, and it gets no answer."""
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
        """Wrong guesses of a network that count still; fewer than one counts as none."""
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
    """An address as firewalls know it, without an interface; any other text as it is."""
    try:
        return str(unmapped(ipaddress.ip_address(host.partition("%")[0])))
    except ValueError:
        return host
