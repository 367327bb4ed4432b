"""Which lane carries now: the policy of `--transport auto`, a pure function from measurements to a choice.

No transport is the best one everywhere: what is cheap collapses where packets get lost at random, and what
copes with loss costs many times the CPU, or is policed. No figure of an unloaded lane tells what it would
deliver. So `select_path` tries: when the choice suffers it moves, watches for some seconds and compares. It
goes back if that was no gain. Goodput counts first, then latency, then cost. The policy knows lanes by their
figures alone. It has no I/O and no clock, so that a test covers hours of a bad network in a second. All that
it must remember is a SelectionState, which the caller hands back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import exp2, inf

from lane.carriers.path_signals import SETTLE, SLOW, Figures, PathSignals, delay, observe, quickest, silent
from lane.carriers.trial_backoff import BACKOFF, BACKOFF_MOST, LOSS, TrialBackoffs

LOSS_FOR = 1.25
"""Seconds of loss from which another lane is tried, if no queue was full: its own load is not the cause."""
LOSS_WINDOW = 2.0
"""Seconds of the past in `Figures.loss`: so long a full queue may be what the loss is from."""
HEAVY_FOR = 4.0
"""Seconds of heavy loss from which one is tried whatever the queue: the overshoot of a slow start loses a
fifth for a second, and is seen for three."""
COLLAPSE_FOR = 1.0
"""Seconds that a collapse must last."""
BACKLOG, BACKLOG_TRIPS = 1.0, 10
"""Seconds, and round trips, that an answer waits behind data on a lane that takes too little of them."""
STEADY = 1.75
"""Seconds of demand until loss tells of the lane. That there is demand is heard some round trips late."""
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
DWELL = 8.0
"""Seconds without loss until a cheaper lane is gone back to; doubled each time that was a mistake."""
DWELL_MOST = 120.0
"""Seconds at most."""
DWELL_HALF_LIFE = 120.0
"""Seconds in which the dwell halves again."""
MISTAKE = 60.0
"""Seconds: a return that was followed by leaving within them was a mistake."""
SLOW_FOR = 4.0
"""Seconds that a lane must be the slower one: a delay is a median of pings, and remembers the load of before
for three."""
NOT_SLOW_BY = 0.02
"""As SLOW_BY, to go back to a lane that costs less: fewer than to leave it, or noise would do both."""
SPACING = 6.0
"""Seconds between moves, at least. Failovers and taking back a trial never wait."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A move for goodput that is being watched."""

    origin: str
    began: float
    loss: float  # of the origin
    before: float  # the goodput of the origin
    cheaper: bool  # whether the lane on trial costs less than the origin
    looks: int = 0  # since the lane settled, of those with demand
    total: float = 0.0  # the goodput of these, summed


@dataclass(frozen=True, slots=True)
class SelectionState:
    """What `select_path` remembers. `SelectionState(name)` begins on that lane; the rest is opaque."""

    choice: str
    moved: float = -inf  # when last; taking back a trial does not count
    seen: PathSignals = field(default_factory=PathSignals)
    trial: Trial | None = None
    backoffs: TrialBackoffs = field(default_factory=TrialBackoffs)
    returned: float = -inf  # when last to a cheaper lane
    dwell: float = DWELL  # as it was at
    dwell_of: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    lane: str
    reason: str
    """Words for people: why the lane changes, or how a trial ended; else empty."""
    state: SelectionState


@dataclass(frozen=True, slots=True)
class Look:
    """What each rule is given."""

    now: float
    choice: Figures
    others: tuple[Figures, ...]  # those that answer, the cheapest first
    state: SelectionState


def select_path(now: float, lanes: Sequence[Figures], state: SelectionState) -> Decision:
    """The lane that carries from `now` on. `lanes` has each lane once, and always the present choice."""
    choice = next(lane for lane in lanes if lane.name == state.choice)
    usable = [lane for lane in lanes if lane is not choice and lane.alive and not silent(lane)]
    others = tuple(sorted(usable, key=lambda lane: (lane.cost, delay(lane), lane.name)))
    look = Look(now, choice, others, replace(state, seen=observe(now, choice, others, state.seen)))
    if decision := _dead(look):
        return decision
    if state.trial:
        return _judge(look, state.trial)
    if now - state.moved >= SPACING:
        for rule in (_lossy, _collapsed, _clogged, _cheaper, _quicker):
            if decision := rule(look):
                return decision
    return Decision(choice.name, "", look.state)


# The rules, in the order of their rank. Each gives None where it has nothing to say.
def _dead(look: Look) -> Decision | None:
    """The choice does not answer and another lane does: there at once."""
    choice, state = look.choice, look.state
    if not look.others or (choice.alive is not False and not silent(choice)):
        return None
    trial = state.trial
    if trial:
        backoffs = state.backoffs.failed(choice.name, look.now, trial.loss, trial.before)
        state = replace(state, backoffs=backoffs)
    to = next((lane for lane in look.others if trial and lane.name == trial.origin), look.others[0])
    if not trial and choice.cost < to.cost:
        # It will answer again, and lose as many packets as the next one: that is no reason to try it soon.
        backoffs = state.backoffs.add(choice.name, look.now, BACKOFF, loss=1.0, goodput=0.0)
        state = replace(state, backoffs=backoffs)
    why = f"no answer for {choice.silent:.1f} s" if silent(choice) else f"{choice.name} does not answer"
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
    origin, cheaper = trial.origin, trial.cheaper
    answers = any(lane.name == origin for lane in look.others)
    back = replace(kept, choice=origin, seen=PathSignals(), returned=-inf)  # it was no return
    if not judged and answers and not cheaper:
        return Decision(origin, f"nothing to compare: back to {origin}", back)
    if not judged:
        return Decision(choice.name, f"nothing to compare: staying on {choice.name}", kept)
    own, mean = choice.loss or 0.0, choice.goodput if disaster else trial.total / trial.looks
    words = f"delivered {_mbit(mean)}, before {_mbit(trial.before)} Mbit/s"
    bad = disaster or mean <= (NO_LESS if cheaper else GAIN) * trial.before
    if bad and not answers:
        return Decision(choice.name, f"{words}, but {origin} does not answer: staying on {choice.name}", kept)
    if bad:
        loss = max(trial.loss, own) if cheaper else trial.loss
        back = _mistaken(back, now) if cheaper else back
        back = replace(back, backoffs=back.backoffs.failed(choice.name, now, loss, trial.before))
        return Decision(origin, f"{words}: back to {origin}", back)
    loss = own if cheaper else max(trial.loss, own)
    # The origin is not tried because of as much loss as it was left for.
    wait = BACKOFF_MOST if loss >= LOSS and not cheaper else BACKOFF
    backoffs = kept.backoffs.without(choice.name).add(origin, now, wait, loss, mean)
    return Decision(choice.name, f"{words}: staying on {choice.name}", replace(kept, backoffs=backoffs))


def _lossy(look: Look) -> Decision | None:
    """The choice loses packets that its own queue did not drop."""
    seen, choice = look.state.seen, look.choice
    random = _lasts(look, seen.lossy, LOSS_FOR) and _lasts(look, seen.short, LOSS_WINDOW)
    steady = _lasts(look, seen.busy, STEADY)  # or a trial would be compared with a lane that gains speed
    if not (steady and (random or _lasts(look, seen.heavy, HEAVY_FOR))):
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
        if lane.delay is None or lane.delay < SLOW * delay(choice) + NOT_SLOW_BY:
            return _move(look, lane, f"{quiet}, and {lane.name} costs less")
    return None


def _quicker(look: Look) -> Decision | None:
    """Little traffic, and another lane answers much sooner."""
    lane = quickest(look.choice, look.others)
    if lane is None or not _lasts(look, look.state.seen.slow, SLOW_FOR):
        return None
    own, other = delay(look.choice) * 1000, delay(lane) * 1000
    return _move(look, lane, f"answers in {own:.0f} ms, {lane.name} in {other:.0f} ms")


# What the rules share.
def _try(look: Look, lanes: Sequence[Figures], words: str, *, quiet: bool = False) -> Decision | None:
    """On trial to the first of `lanes` that may be tried."""
    choice, state = look.choice, look.state
    # What is about to end, or has just begun, delivers little too.
    goodput = choice.goodput if _lasts(look, state.seen.low, COLLAPSE_FOR) else None
    for lane in lanes:
        old = state.backoffs.of(lane.name)
        if old and look.now < old.until:
            if not old.changed(choice.loss or 0.0, goodput, quiet=quiet):
                continue
            state = replace(state, backoffs=state.backoffs.without(lane.name))  # the doubling begins anew
        # One good second on a lossy lane is no measure, and what it did before it fell is none either.
        before = min(choice.goodput, state.seen.usual or choice.goodput)
        trial = Trial(choice.name, look.now, choice.loss or 0.0, before, lane.cost < choice.cost)
        return _move(replace(look, state=state), lane, f"{words} {lane.name}", trial)
    return None


def _move(look: Look, to: Figures, reason: str, trial: Trial | None = None) -> Decision:
    now, state, cost = look.now, look.state, look.choice.cost
    state = replace(state, choice=to.name, moved=now, seen=PathSignals(), trial=trial)
    if to.cost < cost:
        state = replace(state, returned=now)
    elif to.cost > cost and now - state.returned < MISTAKE:
        state = _mistaken(state, now)
    return Decision(to.name, reason, state)


def _mistaken(state: SelectionState, now: float) -> SelectionState:
    """The return to a cheaper lane was a mistake: be slower the next time."""
    return replace(state, dwell=min(DWELL_MOST, 2 * _dwell(state, now)), dwell_of=now)


def _dwell(state: SelectionState, now: float) -> float:
    return max(DWELL, state.dwell * exp2((state.dwell_of - now) / DWELL_HALF_LIFE))


def _lasts(look: Look, since: float | None, seconds: float) -> bool:
    return since is not None and look.now - since >= seconds


def _mbit(goodput: float) -> str:
    return f"{goodput * 8 / 1e6:.1f}"
