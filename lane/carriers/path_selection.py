"""The policy of `--transport auto`: a pure function from measurements of the lanes to the choice of one.

No transport is best everywhere. A cheap one collapses under random packet loss. One that copes with loss
costs many times the CPU, and some networks throttle it. Measurements of an unloaded lane do not tell how
much it would deliver. So `select_path` experiments: if the chosen lane suffers, it moves to another one,
watches it for some seconds, and moves back if that brought no gain. Goodput counts first, then latency, then
cost. The policy knows lanes only by their figures. It has no I/O and no clock, so a test covers hours of a
bad network in a second. All its memory is in a SelectionState, which the caller passes back in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import exp2, inf

from lane.carriers.path_signals import SETTLE, SLOW, Figures, PathSignals, delay, observe, quickest, silent
from lane.carriers.trial_backoff import BACKOFF, BACKOFF_MOST, LOSS, TrialBackoffs

LOSS_FOR = 1.25
"""Seconds of loss after which another lane is tried, if no queue was full: its own load is not the cause."""
LOSS_WINDOW = 2.0
"""Seconds that `Figures.loss` looks back: a queue that was full in this time may have caused the loss."""
HEAVY_FOR = 4.0
"""Seconds of heavy loss after which another lane is tried, even if a queue was full. The overshoot of a slow
start loses a fifth of the packets for one second, and shows in the figures for three."""
COLLAPSE_FOR = 1.0
"""Seconds that a collapse must last before another lane is tried."""
BACKLOG = 1.0
"""Seconds that an answer must wait behind data, at least, before another lane is tried."""
BACKLOG_TRIPS = 10
"""Round trips that it must wait, at least."""
STEADY = 1.75
"""Seconds of demand before loss counts. News of demand at the server arrives some round trips late."""
VERDICT = 3.75
"""Seconds of demand after which a trial is judged, by the mean goodput since it settled."""
TRIAL_MOST = 15.0
"""Seconds after which a trial ends without that much demand. Loading a web page makes little at a time."""
GAIN = 1.03
"""Factor by which a lane that costs as much or more must deliver more than the previous one. Measurements of
two seconds are off by 1 to 2 %, so this is about halfway between no gain and 1.05, the least gain that is
worth the CPU."""
NO_LESS = 0.95
"""Fraction of the previous lane's goodput that a cheaper lane must deliver."""
DISASTER = 0.3
"""Fraction of the previous lane's goodput below which a trial ends as soon as it has settled."""
DWELL = 8.0
"""Seconds without loss before a return to a cheaper lane. They double each time the return was a mistake."""
DWELL_MOST = 120.0
"""Upper limit of the dwell, in seconds."""
DWELL_HALF_LIFE = 120.0
"""Seconds in which a raised dwell halves again."""
MISTAKE = 60.0
"""A return to a cheaper lane was a mistake if the lane is left again within this many seconds."""
SLOW_FOR = 4.0
"""Seconds that a lane must be slower than another one. `Figures.delay` is a median of PINGs, so past load
affects it for three seconds."""
NOT_SLOW_BY = 0.02
"""Seconds that a cheaper lane may be slower (beyond SLOW) for a return. Less than SLOW_BY, or noise would
cause moves back and forth."""
SPACING = 6.0
"""Minimum number of seconds between two moves. Failovers, and moves back from a trial, do not wait."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A move that is meant to raise goodput, or to keep it at less cost, and is not judged yet."""

    origin: str
    began: float
    loss: float  # of the origin
    before: float  # goodput of the origin, bytes a second
    cheaper: bool  # whether the lane on trial costs less than the origin
    looks: int = 0  # measurements with demand, since the lane settled
    total: float = 0.0  # sum of their goodputs, bytes a second


@dataclass(frozen=True, slots=True)
class SelectionState:
    """The memory of `select_path`. `SelectionState(name)` starts on that lane; the rest is opaque."""

    choice: str
    moved: float = -inf  # time of the last move; a move back from a trial does not count
    seen: PathSignals = field(default_factory=PathSignals)
    trial: Trial | None = None
    backoffs: TrialBackoffs = field(default_factory=TrialBackoffs)
    returned: float = -inf  # time of the last move to a cheaper lane
    dwell: float = DWELL  # seconds, as of the time `dwell_of`; decays from then on
    dwell_of: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    lane: str
    reason: str
    """Why the lane changes, or how a trial ended, in words for people. Otherwise empty."""
    state: SelectionState


@dataclass(frozen=True, slots=True)
class Look:
    """The input of each rule."""

    now: float
    choice: Figures
    others: tuple[Figures, ...]  # the other lanes that answer, the cheapest first
    state: SelectionState


def select_path(now: float, lanes: Sequence[Figures], state: SelectionState) -> Decision:
    """Choose the lane that carries from `now` on. `lanes` has each lane once, and always the last choice."""
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


# The rules, the highest rank first. Each returns None if it does not apply.
def _dead(look: Look) -> Decision | None:
    """The choice does not answer and another lane does: move there at once."""
    choice, state = look.choice, look.state
    if not look.others or (choice.alive is not False and not silent(choice)):
        return None
    trial = state.trial
    if trial:
        backoffs = state.backoffs.failed(choice.name, look.now, trial.loss, trial.before)
        state = replace(state, backoffs=backoffs)
    to = next((lane for lane in look.others if trial and lane.name == trial.origin), look.others[0])
    if not trial and choice.cost < to.cost:
        # When it answers again, loss on the next lane alone is no reason to try it: it may lose as many. Any
        # collapse of the next lane is a reason. Its usual goodput is not known yet.
        backoffs = state.backoffs.add(choice.name, look.now, BACKOFF, loss=1.0, goodput=inf)
        state = replace(state, backoffs=backoffs)
    why = f"no answer for {choice.silent:.1f} s" if silent(choice) else f"{choice.name} does not answer"
    how = "" if to.delay is None else f" in {to.delay * 1000:.0f} ms"
    return _move(replace(look, state=state), to, f"{why}; {to.name} answers{how}")


def _judge(look: Look, trial: Trial) -> Decision:
    """Decide whether to keep the lane on trial, if it is time to."""
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
    back = replace(kept, choice=origin, seen=PathSignals(), returned=-inf)  # does not count as a return
    if not judged and answers and not cheaper:
        return Decision(origin, f"too little traffic to compare: back to {origin}", back)
    if not judged:
        return Decision(choice.name, f"too little traffic to compare: staying on {choice.name}", kept)
    own, mean = choice.loss or 0.0, choice.goodput if disaster else trial.total / trial.looks
    words = f"delivered {_mbit(mean)} Mbit/s, {origin} {_mbit(trial.before)} Mbit/s"
    bad = disaster or mean <= (NO_LESS if cheaper else GAIN) * trial.before
    if bad and not answers:
        return Decision(choice.name, f"{words}, but {origin} does not answer: staying on {choice.name}", kept)
    if bad:
        loss = max(trial.loss, own) if cheaper else trial.loss
        back = _mistaken(back, now) if cheaper else back
        back = replace(back, backoffs=back.backoffs.failed(choice.name, now, loss, trial.before))
        return Decision(origin, f"{words}: back to {origin}", back)
    loss = own if cheaper else max(trial.loss, own)
    # The origin was left because of loss. As much loss on this lane is no reason to try the origin again.
    wait = BACKOFF_MOST if loss >= LOSS and not cheaper else BACKOFF
    backoffs = kept.backoffs.without(choice.name).add(origin, now, wait, loss, mean)
    return Decision(choice.name, f"{words}: staying on {choice.name}", replace(kept, backoffs=backoffs))


def _lossy(look: Look) -> Decision | None:
    """The choice loses packets, and the overflow of its own queue is not the cause, or the loss is heavy."""
    seen, choice = look.state.seen, look.choice
    random = _lasts(look, seen.lossy, LOSS_FOR) and _lasts(look, seen.short, LOSS_WINDOW)
    steady = _lasts(look, seen.busy, STEADY)  # a lane that still gains speed is no base for a comparison
    if not (steady and (random or _lasts(look, seen.heavy, HEAVY_FOR))):
        return None
    loss = "packets" if choice.loss is None else f"{choice.loss * 100:.1f} % of the packets"
    return _try(look, look.others, f"loses {loss} and delivers {_mbit(choice.goodput)} Mbit/s: trying")


def _collapsed(look: Look) -> Decision | None:
    """The choice delivers far less than before."""
    seen = look.state.seen
    if not _lasts(look, seen.low, COLLAPSE_FOR):
        return None
    words = f"delivers {_mbit(look.choice.goodput)} Mbit/s, down from {_mbit(seen.usual or 0.0)}: trying"
    return _try(look, look.others, words)


def _clogged(look: Look) -> Decision | None:
    """Answers wait behind data for long. STATS wait there too, so this shows before a loss does."""
    choice = look.choice
    if choice.backlog <= max(BACKLOG, BACKLOG_TRIPS * (choice.best_rtt or 0.0)):
        return None
    words = f"answers wait {choice.backlog:.1f} s behind data at {_mbit(choice.goodput)} Mbit/s: trying"
    return _try(look, look.others, words)


def _cheaper(look: Look) -> Decision | None:
    """A cheaper lane seems good enough: put it on trial under load, otherwise just move there."""
    choice, seen = look.choice, look.state.seen
    lanes = [lane for lane in look.others if lane.cost < choice.cost]
    if seen.quiet is None or not _lasts(look, seen.quiet, _dwell(look.state, look.now)):
        return None
    quiet = f"no loss for {look.now - seen.quiet:.0f} s"
    if seen.busy is not None:
        return _try(look, lanes, f"{quiet}: trying the cheaper", quiet=True)
    for lane in lanes:
        if lane.delay is None or lane.delay < SLOW * delay(choice) + NOT_SLOW_BY:
            return _move(look, lane, f"{quiet}, and {lane.name} costs less")
    return None


def _quicker(look: Look) -> Decision | None:
    """There is little traffic, and another lane answers much sooner."""
    lane = quickest(look.choice, look.others)
    if lane is None or not _lasts(look, look.state.seen.slow, SLOW_FOR):
        return None
    own, other = delay(look.choice) * 1000, delay(lane) * 1000
    return _move(look, lane, f"{look.choice.name} answers in {own:.0f} ms, {lane.name} in {other:.0f} ms")


# Shared by the rules.
def _try(look: Look, lanes: Sequence[Figures], words: str, *, quiet: bool = False) -> Decision | None:
    """Put the first of `lanes` on trial that has no backoff, or whose backoff no longer applies.

    `words` says why, and comes before the lane's name. `quiet`: no loss was seen for long.
    """
    choice, state = look.choice, look.state
    # Only a lasting collapse counts: a transfer that starts or is about to end has little goodput too.
    goodput = choice.goodput if _lasts(look, state.seen.low, COLLAPSE_FOR) else None
    for lane in lanes:
        old = state.backoffs.of(lane.name)
        if old and look.now < old.until:
            if not old.changed(choice.loss or 0.0, goodput, quiet=quiet):
                continue
            state = replace(state, backoffs=state.backoffs.without(lane.name))  # the doubling starts again
        # The lower of the present and the usual goodput. The present one may be one lucky second on a lossy
        # lane, and the usual one may date from before a collapse.
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
    """The return to a cheaper lane was a mistake: wait longer before the next one."""
    return replace(state, dwell=min(DWELL_MOST, 2 * _dwell(state, now)), dwell_of=now)


def _dwell(state: SelectionState, now: float) -> float:
    return max(DWELL, state.dwell * exp2((state.dwell_of - now) / DWELL_HALF_LIFE))


def _lasts(look: Look, since: float | None, seconds: float) -> bool:
    return since is not None and look.now - since >= seconds


def _mbit(goodput: float) -> str:
    return f"{goodput * 8 / 1e6:.1f}"
