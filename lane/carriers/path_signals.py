"""What is seen of the lane that carries, and since when: path_selection.py decides by it.

A single look at a lane tells little: figures come late and are noisy, a slow start loses packets of its own
making, and who begins again delivers little at first. So what counts is how long something has held.
"""

from dataclasses import dataclass
from math import inf

from lane.carriers.trial_backoff import WORSE_LOSS

LIMITED, NOT_LIMITED = 0.3, 0.1
"""Part of the time in which senders must have had more than the lane took, for its goodput to tell of it,
until it is less: on a bad lane the news of it come late, and irregularly."""
SILENCE = 0.25
"""Seconds without an answer, at least, until a lane counts as silent; three round trips if that is more."""
UNKNOWN_RTT = 0.1
"""Seconds assumed until a round trip has been measured."""
LOSSY, NOT_LOSSY = 0.005, 0.003
"""Loss from which a lane is lossy, until there is less: 1 % of a thousand packets is six, or fourteen."""
SHORT_WAY = 0.05
"""Round trip, seconds, up to which this is so. On a longer way a window grows more slowly after each loss,
and less does as much harm (Mathis et al., "The Macroscopic Behavior of the TCP Congestion Avoidance
Algorithm", 1997)."""
HEAVY_LOSS = 0.02
"""Loss that is too much, even if it is the lane's own queue that overflows."""
FULL_QUEUE = 1.4
"""Round trips of so many times the least one mean a queue, and loss that may be its overflow."""
COLLAPSE = 0.5
"""Part of its usual goodput below which a lane has collapsed."""
USUAL = 5.0
"""Seconds over which the usual goodput is averaged."""
SETTLE = 2.25
"""Seconds of demand until goodput tells: 1.25 to gain speed, and one that `Figures.goodput` looks back."""
QUIET_LOSS = 0.005
"""Loss below which a costlier lane than need be is not needed."""
SLOW = 1.5
"""Times the delay of another lane that makes the choice the slower one..."""
SLOW_BY = 0.03
"""...and seconds on top of that to leave for it: less does not count."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One lane, measured over about the last two seconds. Times are seconds."""

    name: str
    cost: float  # CPU a byte, relative to other lanes
    alive: bool | None = None  # whether it answers; None: not known
    silent: float = 0.0  # how long nothing came although something was due
    backlog: float = 0.0  # how long an answer has been due while data do come: it waits behind them
    rtt: float | None = None  # the smoothed round trip
    best_rtt: float | None = None  # the least one of the last minutes
    delay: float | None = None  # what a small exchange takes, retransmissions included
    loss: float | None = None  # part of the packets, in the worse direction; None: too few packets to say
    goodput: float = 0.0  # bytes a second that its sessions delivered, of the last second
    limited: float = 0.0  # part of that second, 0 to 1, in which a sender had more than the lane took


@dataclass(frozen=True, slots=True)
class PathSignals:
    """Since when something holds of the choice, None: it does not. Begins anew with each move."""

    busy: float | None = None  # senders have more than it takes
    lossy: float | None = None  # it is LOSSY, and heavy: HEAVY_LOSS, but not more and more, or less and less:
    heavy: float | None = None  # then its goodput is about to be another, and is nothing to compare with
    level: float = inf  # the loss with which `lossy` began
    most: float = 0.0  # since then
    short: float | None = None  # its queue is
    low: float | None = None  # it delivers far less than usual
    slow: float | None = None  # another lane is far quicker
    quiet: float | None = None  # no loss is seen, and a lane that costs less answers
    usual: float | None = None  # bytes a second that it delivers while busy
    looked: float = inf


def observe(now: float, choice: Figures, others: tuple[Figures, ...], seen: PathSignals) -> PathSignals:
    """What is known of the choice with these figures."""

    def since(before: float | None, holds: bool) -> float | None:
        return (now if before is None else before) if holds else None

    loss, goodput, usual, low = choice.loss, choice.goodput, seen.usual, None
    busy = choice.limited > (LIMITED if seen.busy is None else NOT_LIMITED)
    if not busy:
        usual = None  # whoever begins again gains speed first: that is no collapse
    elif usual is None:
        if seen.busy is not None and now - seen.busy >= SETTLE:
            usual = goodput
    elif goodput < COLLAPSE * usual:  # a collapse must not lower what it is measured by
        low = since(seen.low, True)
    else:
        usual += (goodput - usual) * min(1.0, max(0.0, now - seen.looked) / USUAL)
    rtt, best = choice.rtt, choice.best_rtt
    cheaper = any(lane.cost < choice.cost for lane in others)
    lossy, heavy, level, most = seen.lossy, seen.heavy, seen.level, seen.most
    if loss is None:  # no news: a lane that has collapsed has too few packets to say
        lossy, heavy = since(lossy, busy and lossy is not None), since(heavy, busy and heavy is not None)
    else:
        if lossy is None or not most / WORSE_LOSS <= loss <= level * WORSE_LOSS:
            lossy, heavy, level, most = None, None, loss, 0.0
        most = max(most, loss)
        harmful = (LOSSY if lossy is None else NOT_LOSSY) * min(1.0, SHORT_WAY / (best or SHORT_WAY))
        lossy = since(lossy, busy and loss >= harmful)
        heavy = since(heavy, busy and loss >= HEAVY_LOSS)
    return PathSignals(
        busy=since(seen.busy, busy),
        lossy=lossy,
        level=level,
        most=most,
        heavy=heavy,
        short=since(seen.short, rtt is not None and best is not None and rtt < FULL_QUEUE * best),
        low=low,
        slow=since(seen.slow, not busy and quickest(choice, others) is not None),
        quiet=since(seen.quiet, (loss is None or loss < QUIET_LOSS) and cheaper),
        usual=usual,
        looked=now,
    )


def silent(lane: Figures) -> bool:
    """Whether an answer is overdue."""
    return lane.silent > max(SILENCE, 3 * (UNKNOWN_RTT if lane.rtt is None else lane.rtt))


def delay(lane: Figures) -> float:
    """Seconds that a small exchange takes; infinity where that is not known."""
    return inf if lane.delay is None else lane.delay


def quickest(choice: Figures, others: tuple[Figures, ...]) -> Figures | None:
    """The quickest lane, if it is clearly quicker than the choice."""
    lane = min(others, key=delay, default=None)
    if lane is None or choice.delay is None or choice.delay <= SLOW * delay(lane) + SLOW_BY:
        return None
    return lane
