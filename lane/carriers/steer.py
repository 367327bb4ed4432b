"""Which lane carries now: the policy of `--transport auto`, a pure function from measurements to a choice.

No transport is the best one everywhere: what is cheap collapses where packets get lost at random, and what
copes with loss costs many times the CPU, or is policed. No figure of an unloaded lane tells what it would
deliver. So steer tries: when the choice suffers it moves, watches for some seconds, compares, and goes back
if that was no gain. What counts is what a lane delivers, then its latency, then its cost. It knows lanes by
their figures alone. There is no I/O and no clock in here, so that hours of a bad network are tested in a
blink; all that it must remember is a State, which the caller hands back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import exp2, inf

from lane.carriers.cooling import COOL, COOL_MOST, LOSS, WORSE_LOSS, Coolings

LIMITED = 0.3
"""Part of the time in which senders must have had more than the lane took, for its goodput to tell of it."""
SILENCE = 0.25
"""Seconds without an answer, at least, until a lane counts as silent; three round trips if that is more."""
UNKNOWN_RTT = 0.1
"""Seconds assumed until a round trip has been measured."""
LOSS_FOR = 1.25
"""Seconds of LOSS from which another lane is tried, if no queue was full: its own load is not the cause."""
FULL_QUEUE = 1.4
"""Round trips of so many times the least one mean a queue, and loss that may be its overflow."""
LOSS_WINDOW = 2.0
"""Seconds of the past in `Figures.loss`: as long a full queue may be what the loss is from."""
HEAVY_LOSS = 0.02
"""Loss from which another lane is tried whatever the queue."""
HEAVY_FOR = 4.0
"""Seconds which that must last: the overshoot of a slow start loses a fifth for a second, seen for three."""
COLLAPSE = 0.5
"""Part of its usual goodput below which a lane has collapsed."""
COLLAPSE_FOR = 1.0
"""Seconds which that must last."""
BACKLOG, BACKLOG_TRIPS = 1.0, 10
"""Seconds, and round trips, that an answer waits behind data on a lane that takes too little of them."""
USUAL = 5.0
"""Seconds over which the usual goodput is averaged."""
SETTLE = 2.25
"""Seconds of demand until goodput tells: 1.25 to gain speed, and one that `Figures.goodput` looks back."""
VERDICT = 3.75
"""Seconds of demand after which a trial is judged, by the goodput since it settled."""
TRIAL_MOST = 15.0
"""Seconds to wait for so much demand: a page now and then makes little at a time."""
GAIN = 1.03
"""A lane that costs as much or more must deliver so many times what the one before did. What two seconds tell
is off by one or two percent, so this is halfway between no gain and the least one worth its CPU, 1.05."""
NO_LESS = 0.95
"""A lane that costs less must deliver so many times what the one before did."""
DISASTER = 0.3
"""Part of the goodput before at which a trial ends as soon as it has settled."""
QUIET_LOSS = 0.005
"""Loss below which a costlier lane than need be is not needed."""
DWELL = 8.0
"""Seconds without loss until a cheaper lane is gone back to; doubled each time that was a mistake."""
DWELL_MOST = 120.0
"""Seconds at most."""
DWELL_HALF_LIFE = 120.0
"""Seconds in which the dwell halves again."""
MISTAKE = 60.0
"""Seconds: a return that was followed by leaving within them was a mistake."""
SLOW = 1.5
"""Times the delay of another lane that makes the choice the slower one..."""
SLOW_BY = 0.03
"""...and seconds on top of that to leave for it: less does not count."""
SLOW_FOR = 4.0
"""Seconds which that must last: a delay is a median of pings, and remembers the load of before for three."""
NOT_SLOW_BY = 0.02
"""Seconds on top, to go back to a lane that costs less: fewer than to leave it, or noise would do both."""
SPACING = 6.0
"""Seconds between moves, at least. Failovers and taking back a trial never wait."""


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
class Trial:
    """A move for goodput that is being watched."""

    origin: str
    began: float
    loss: float  # of the origin
    before: float  # the goodput of the origin
    looks: int = 0  # since the lane settled, of those with demand
    total: float = 0.0  # the goodput of these, summed


@dataclass(frozen=True, slots=True)
class Evidence:
    """Since when something holds of the choice, None: it does not. Begins anew with each move."""

    busy: float | None = None  # senders have more than it takes
    lossy: float | None = None  # it loses at least LOSS, and heavy: HEAVY_LOSS, but not more and more: then
    heavy: float | None = None  # its goodput is about to fall, and a trial would be compared with too much
    level: float = inf  # the loss with which `lossy` began
    short: float | None = None  # its queue is
    low: float | None = None  # it delivers far less than usual
    slow: float | None = None  # another lane is far quicker
    quiet: float | None = None  # no loss is seen, and a lane that costs less answers
    usual: float | None = None  # bytes a second that it delivers while busy
    looked: float = inf


@dataclass(frozen=True, slots=True)
class State:
    """What steer remembers from call to call: `State(name)` for who begins on that lane, then opaque."""

    choice: str
    moved: float = -inf  # when last; taking back a trial does not count
    seen: Evidence = Evidence()
    trial: Trial | None = None
    cooling: Coolings = field(default_factory=Coolings)
    returned: float = -inf  # when last to a cheaper lane
    dwell: float = DWELL  # as it was at
    dwell_of: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    lane: str
    reason: str
    """Words for people: why the lane changes, or how a trial ended; else empty."""
    state: State


@dataclass(frozen=True, slots=True)
class Look:
    """What each rule is given."""

    now: float
    choice: Figures
    others: tuple[Figures, ...]  # those that answer, the cheapest first
    state: State


def steer(now: float, lanes: Sequence[Figures], state: State) -> Decision:
    """The lane that carries from `now` on. `lanes` has each lane once, and always the present choice."""
    choice = next(lane for lane in lanes if lane.name == state.choice)
    usable = [lane for lane in lanes if lane is not choice and lane.alive and not _silent(lane)]
    others = tuple(sorted(usable, key=lambda lane: (lane.cost, _delay(lane), lane.name)))
    look = Look(now, choice, others, replace(state, seen=_observe(now, choice, others, state.seen)))
    if decision := _dead(look):
        return decision
    if state.trial:
        return _judge(look, state.trial)
    if now - state.moved >= SPACING:
        for rule in (_lossy, _collapsed, _clogged, _cheaper, _quicker):
            if decision := rule(look):
                return decision
    return Decision(choice.name, "", look.state)


def _observe(now: float, choice: Figures, others: tuple[Figures, ...], seen: Evidence) -> Evidence:
    """What is known of the choice with these figures."""

    def since(before: float | None, holds: bool) -> float | None:
        return (now if before is None else before) if holds else None

    loss, goodput, usual, low = choice.loss, choice.goodput, seen.usual, None
    busy = choice.limited > LIMITED
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
    lossy, heavy, level = seen.lossy, seen.heavy, seen.level
    if loss is None:  # no news: a lane that has collapsed has too few packets to say
        lossy, heavy = since(lossy, busy and lossy is not None), since(heavy, busy and heavy is not None)
    else:
        if lossy is None or loss > WORSE_LOSS * level:
            lossy, heavy, level = None, None, loss
        lossy, heavy = since(lossy, busy and loss >= LOSS), since(heavy, busy and loss >= HEAVY_LOSS)
    return Evidence(
        busy=since(seen.busy, busy),
        lossy=lossy,
        level=level,
        heavy=heavy,
        short=since(seen.short, rtt is not None and best is not None and rtt < FULL_QUEUE * best),
        low=low,
        slow=since(seen.slow, not busy and _quickest(choice, others) is not None),
        quiet=since(seen.quiet, (loss is None or loss < QUIET_LOSS) and cheaper),
        usual=usual,
        looked=now,
    )


# The rules, in the order of their rank. Each gives None where it has nothing to say.
def _dead(look: Look) -> Decision | None:
    """The choice does not answer and another lane does: there at once."""
    choice, state = look.choice, look.state
    if not look.others or (choice.alive is not False and not _silent(choice)):
        return None
    trial = state.trial
    if trial:
        cooling = state.cooling.failed(choice.name, look.now, trial.loss, trial.before)
        state = replace(state, cooling=cooling)
    to = next((lane for lane in look.others if trial and lane.name == trial.origin), look.others[0])
    why = f"no answer for {choice.silent:.1f} s" if _silent(choice) else f"{choice.name} does not answer"
    how = "" if to.delay is None else f" in {to.delay * 1000:.0f} ms"
    return _move(replace(look, state=state), to, f"{why}; {to.name} answers{how}")


def _judge(look: Look, trial: Trial) -> Decision:
    """Whether the lane on trial is kept."""
    now, choice, state, disaster = look.now, look.choice, look.state, False
    if _lasts(look, state.seen.busy, SETTLE):
        trial = replace(trial, looks=trial.looks + 1, total=trial.total + choice.goodput)
        disaster = choice.goodput < DISASTER * trial.before
    judged = disaster or _lasts(look, state.seen.busy, VERDICT)
    if not judged and now - trial.began < TRIAL_MOST:
        return Decision(choice.name, "", replace(state, trial=trial))
    kept = replace(state, trial=None)
    origin = next((lane for lane in look.others if lane.name == trial.origin), None)
    if origin is None:
        return Decision(choice.name, f"{trial.origin} does not answer: staying on {choice.name}", kept)
    back = replace(kept, choice=origin.name, seen=Evidence(), returned=-inf)  # it was no return
    cheaper = choice.cost < origin.cost
    if not judged and cheaper:
        return Decision(choice.name, f"nothing to compare: staying on {choice.name}", kept)
    if not judged:
        return Decision(origin.name, f"nothing to compare: back to {origin.name}", back)
    own, mean = choice.loss or 0.0, choice.goodput if disaster else trial.total / trial.looks
    words = f"delivered {_mbit(mean)}, before {_mbit(trial.before)} Mbit/s"
    if disaster or mean <= (NO_LESS if cheaper else GAIN) * trial.before:
        loss = max(trial.loss, own) if cheaper else trial.loss
        back = _mistaken(back, now) if cheaper else back
        back = replace(back, cooling=back.cooling.failed(choice.name, now, loss, trial.before))
        return Decision(origin.name, f"{words}: back to {origin.name}", back)
    loss = own if cheaper else max(trial.loss, own)
    # The origin is not tried because of as much loss as it was left for.
    wait = COOL_MOST if loss >= LOSS and not cheaper else COOL
    cooling = kept.cooling.without(choice.name).cool(origin.name, now, wait, loss, mean)
    return Decision(choice.name, f"{words}: staying on {choice.name}", replace(kept, cooling=cooling))


def _lossy(look: Look) -> Decision | None:
    """The choice loses packets that its own queue did not drop."""
    seen, choice = look.state.seen, look.choice
    random = _lasts(look, seen.lossy, LOSS_FOR) and _lasts(look, seen.short, LOSS_WINDOW)
    settled = _lasts(look, seen.busy, SETTLE)  # or a trial would be compared with a lane that gains speed
    if not (settled and (random or _lasts(look, seen.heavy, HEAVY_FOR))):
        return None
    loss = "packets" if choice.loss is None else f"{choice.loss * 100:.1f} %"
    return _try(look, look.others, f"loses {loss} and delivers {_mbit(choice.goodput)} Mbit/s: trying")


def _collapsed(look: Look) -> Decision | None:
    """The choice delivers far less than it did."""
    seen = look.state.seen
    if not _lasts(look, seen.low, COLLAPSE_FOR):
        return None
    words = f"delivers {_mbit(look.choice.goodput)}, before {_mbit(seen.usual or 0.0)} Mbit/s: trying"
    return _try(look, look.others, words)


def _clogged(look: Look) -> Decision | None:
    """Answers wait behind data for seconds: before STATS can tell of loss, since these wait there as well."""
    choice = look.choice
    if choice.backlog <= max(BACKLOG, BACKLOG_TRIPS * (choice.best_rtt or 0.0)):
        return None
    words = f"answers wait {choice.backlog:.1f} s behind data at {_mbit(choice.goodput)} Mbit/s: trying"
    return _try(look, look.others, words)


def _cheaper(look: Look) -> Decision | None:
    """A lane that costs less would do, as it seems: a trial under load, else just there."""
    choice, seen = look.choice, look.state.seen
    lanes = [lane for lane in look.others if lane.cost < choice.cost]
    if seen.quiet is None or not _lasts(look, seen.quiet, _dwell(look.state, look.now)):
        return None
    quiet = f"no loss for {look.now - seen.quiet:.0f} s"
    if seen.busy is not None:
        return _try(look, lanes, f"{quiet}, and at less cost: trying", quiet=True)
    for lane in lanes:
        if lane.delay is None or lane.delay < SLOW * _delay(choice) + NOT_SLOW_BY:
            return _move(look, lane, f"{quiet}, and {lane.name} costs less")
    return None


def _quicker(look: Look) -> Decision | None:
    """Little traffic, and another lane answers much sooner."""
    lane = _quickest(look.choice, look.others)
    if lane is None or not _lasts(look, look.state.seen.slow, SLOW_FOR):
        return None
    own, other = _delay(look.choice) * 1000, _delay(lane) * 1000
    return _move(look, lane, f"answers in {own:.0f} ms, {lane.name} in {other:.0f} ms")


# What the rules share.
def _try(look: Look, lanes: Sequence[Figures], words: str, *, quiet: bool = False) -> Decision | None:
    """On trial to the first of `lanes` that may be tried."""
    choice, state = look.choice, look.state
    # What is about to end, or has just begun, delivers little too.
    goodput = choice.goodput if _lasts(look, state.seen.low, COLLAPSE_FOR) else None
    for lane in lanes:
        old = state.cooling.of(lane.name)
        if old and look.now < old.until:
            if not old.changed(choice.loss or 0.0, goodput, quiet=quiet):
                continue
            state = replace(state, cooling=state.cooling.without(lane.name))  # the doubling begins anew
        # One good second on a lossy lane is no measure, and what it did before it fell is none either.
        before = min(choice.goodput, state.seen.usual or choice.goodput)
        trial = Trial(choice.name, look.now, choice.loss or 0.0, before)
        return _move(replace(look, state=state), lane, f"{words} {lane.name}", trial)
    return None


def _move(look: Look, to: Figures, reason: str, trial: Trial | None = None) -> Decision:
    now, state, cost = look.now, look.state, look.choice.cost
    state = replace(state, choice=to.name, moved=now, seen=Evidence(), trial=trial)
    if to.cost < cost:
        state = replace(state, returned=now)
    elif to.cost > cost and now - state.returned < MISTAKE:
        state = _mistaken(state, now)
    return Decision(to.name, reason, state)


def _mistaken(state: State, now: float) -> State:
    """The return to a cheaper lane was a mistake: be slower the next time."""
    return replace(state, dwell=min(DWELL_MOST, 2 * _dwell(state, now)), dwell_of=now)


def _dwell(state: State, now: float) -> float:
    return max(DWELL, state.dwell * exp2((state.dwell_of - now) / DWELL_HALF_LIFE))


def _lasts(look: Look, since: float | None, seconds: float) -> bool:
    return since is not None and look.now - since >= seconds


def _silent(lane: Figures) -> bool:
    return lane.silent > max(SILENCE, 3 * (UNKNOWN_RTT if lane.rtt is None else lane.rtt))


def _delay(lane: Figures) -> float:
    return inf if lane.delay is None else lane.delay


def _quickest(choice: Figures, others: tuple[Figures, ...]) -> Figures | None:
    """The quickest lane, if it is clearly quicker than the choice."""
    lane = min(others, key=_delay, default=None)
    if lane is None or choice.delay is None or choice.delay <= SLOW * _delay(lane) + SLOW_BY:
        return None
    return lane


def _mbit(goodput: float) -> str:
    return f"{goodput * 8 / 1e6:.1f}"
