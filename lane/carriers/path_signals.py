"""The conditions of the chosen lane, and since when each holds: the input of path_selection.py.

A single measurement tells little. Figures arrive late and are noisy. A slow start causes packet loss by
itself, and a transfer delivers little at its start. So what counts is how long a condition has held.
"""

from dataclasses import dataclass
from math import inf

from lane.carriers.trial_backoff import WORSE_LOSS

LIMITED = 0.3
"""Busy starts above this fraction of the time send-limited, with more data to send than the lane takes.
Only the goodput of a busy lane tells how much it can deliver."""
NOT_LIMITED = 0.1
"""Busy ends below this fraction. It is much lower because a bad lane reports late and irregularly."""
SILENCE = 0.25
"""Seconds without an answer until a lane counts as silent, or three round trips if that is longer."""
UNKNOWN_RTT = 0.1
"""The round trip in seconds that is assumed before the first measurement."""
LOSSY = 0.005
"""Lossy starts at this fraction of lost packets. Of a thousand packets on a path with 1 % loss, some samples
lose six and others fourteen, so the threshold is below 1 %."""
NOT_LOSSY = 0.003
"""Lossy ends below this fraction."""
SHORT_WAY = 0.05
"""The round trip in seconds up to which LOSSY and NOT_LOSSY apply. On a longer path the congestion window
grows more slowly after each loss, so less loss does as much harm (Mathis et al., "The Macroscopic Behavior
of the TCP Congestion Avoidance Algorithm", 1997)."""
HEAVY_LOSS = 0.02
"""Fraction of lost packets that is too much, even if the cause is the overflow of the lane's own queue."""
FULL_QUEUE = 1.4
"""From this multiple of the shortest round trip on there is a queue, and loss may be its overflow."""
COLLAPSE = 0.5
"""Fraction of its usual goodput below which a lane has collapsed."""
USUAL = 5.0
"""Seconds over which the usual goodput is averaged."""
SETTLE = 2.25
"""Seconds of demand before goodput counts: 1.25 to gain speed, and the one that `Figures.goodput` covers."""
QUIET_LOSS = 0.005
"""Below this fraction of lost packets, a cheaper lane may do as well."""
SLOW = 1.5
"""The choice is slow if its delay exceeds SLOW times another lane's delay plus SLOW_BY."""
SLOW_BY = 0.03
"""Seconds; see SLOW. Differences below this do not matter."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Measurements of one lane over about the last two seconds. Times are in seconds."""

    name: str
    cost: float  # CPU per byte, relative to other lanes
    alive: bool | None = None  # whether it answers; None: not known
    silent: float = 0.0  # how long nothing has arrived although an answer is due
    backlog: float = 0.0  # how long an answer has been due while data arrive: it waits behind the data
    rtt: float | None = None  # smoothed round trip
    best_rtt: float | None = None  # shortest round trip of the last minutes
    delay: float | None = None  # duration of a small exchange, including retransmissions
    loss: float | None = (
        None  # fraction of the packets lost, of both directions; None: too few packets to say
    )
    goodput: float = 0.0  # bytes per second that its sessions delivered in the last second
    limited: float = 0.0  # fraction of that second in which a sender had more data than the lane took


@dataclass(frozen=True, slots=True)
class PathSignals:
    """The time since which each condition of the choice holds; None if it does not. A move resets all.

    `lossy` and `heavy` start again while the loss clearly rises or falls. Then the goodput is about to change
    too, so it can't be compared with another lane's.
    """

    busy: float | None = None  # senders have more data than the lane takes
    lossy: float | None = None  # busy, and LOSSY
    heavy: float | None = None  # busy, and HEAVY_LOSS
    level: float = inf  # the loss when `lossy` started
    most: float = 0.0  # the highest loss since then
    short: float | None = None  # its queue is short
    low: float | None = None  # it delivers far less than usual
    slow: float | None = None  # another lane is far quicker
    quiet: float | None = None  # there is no loss, and a cheaper lane answers
    usual: float | None = None  # bytes per second that it usually delivers while busy; not a time
    looked: float = inf  # time of the last measurement


def observe(now: float, choice: Figures, others: tuple[Figures, ...], seen: PathSignals) -> PathSignals:
    """Update the conditions with new figures of the choice and the other lanes."""

    def since(before: float | None, holds: bool) -> float | None:
        return (now if before is None else before) if holds else None

    loss, goodput, usual, low = choice.loss, choice.goodput, seen.usual, None
    busy = choice.limited > (LIMITED if seen.busy is None else NOT_LIMITED)
    if not busy:
        usual = None  # a transfer that starts again is slow at first: that is no collapse
    elif usual is None:
        if seen.busy is not None and now - seen.busy >= SETTLE:
            usual = goodput
    elif goodput < COLLAPSE * usual:  # a collapse must not lower the average that it is compared with
        low = since(seen.low, True)
    else:
        usual += (goodput - usual) * min(1.0, max(0.0, now - seen.looked) / USUAL)
    rtt, best = choice.rtt, choice.best_rtt
    cheaper = any(lane.cost < choice.cost for lane in others)
    lossy, heavy, level, most = seen.lossy, seen.heavy, seen.level, seen.most
    if loss is None:  # unknown: a collapsed lane sends too few packets to tell
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
    """The duration of a small exchange in seconds; infinite if it is not known."""
    return inf if lane.delay is None else lane.delay


def quickest(choice: Figures, others: tuple[Figures, ...]) -> Figures | None:
    """The quickest lane, if it is clearly quicker than the choice."""
    lane = min(others, key=delay, default=None)
    if lane is None or choice.delay is None or choice.delay <= SLOW * delay(lane) + SLOW_BY:
        return None
    return lane
