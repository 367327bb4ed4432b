"""Which lane should carry: measurements in, decision and reason out, and nothing else.

What counts is what a lane delivers, then how long an answer takes, then what a byte costs. The lane that
carries is known by its own figures. What another one would deliver nobody knows before it carries, so a move
for goodput is a trial: it is watched for some seconds, and taken back if it made things worse. A lane that is
silent is left at once.

Loss alone says little. A full queue loses packets too, so loss counts where the round trip shows that the
queue is short; and what collapses under loss, and what does not, only a trial can tell.

docs/STEERING.md explains each rule with an example.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

LIMITED = 0.3
"""Part of the time with more to send than the lane took, from which on goodput says what a lane can do."""
LOSS = 0.007
"""Fraction lost on the way, from which on another lane is worth a trial."""
LOSS_FOR = 1.0
"""Seconds for which that must be so."""
HEAVY, HEAVY_FOR = 0.02, 4.0
"""The same where the queue is long: an overshoot when a transfer starts loses much, but not for long."""
LONG_QUEUE = 1.4
"""Round trip over the shortest one that speaks of a long queue."""
CLEAN = 0.005
"""Fraction lost, below which a costlier lane is not needed."""
COLLAPSE, COLLAPSE_FOR = 0.5, 0.8
"""Part of the usual goodput, and for how many seconds: the lane has changed."""
BACKLOG = 1.0
"""Seconds, at least, that an answer waits behind data on a lane that takes too little of them."""
SETTLE = 1.5
"""Seconds after a change that say nothing: a transport that starts is slow."""
VERDICT = 3.5
"""Seconds of a trial."""
ROUND_TRIPS = 15
"""Round trips of a trial, at least: far away everything takes longer to start."""
DISASTER = 0.3
"""Part of the goodput before, below which a trial ends once the lane has settled."""
GAIN, ENOUGH = 1.05, 0.95
"""What a costlier and a cheaper lane must deliver, over what the one before did, to be kept."""
DWELL, MOST_DWELL = 8.0, 128.0
"""Seconds without loss before a cheaper lane is tried again; doubled each time that turns out wrong."""
RELAPSE = 60.0
"""Seconds within which leaving a lane again shows that the return to it was wrong."""
BARRED, MOST_BARRED = 30.0, 600.0
"""Seconds without another trial of a lane after one that failed; doubled each time."""
APART = 6.0
"""Seconds between two moves that nothing forces."""
SILENT = 0.25
"""Seconds, and three round trips, without an answer that is due: the lane is dead for all we know."""
SLOW, SLOW_BY, SLOW_FOR = 1.5, 0.030, 3.0
"""An answer that takes that many times as long, and that many seconds more, for so many seconds."""
MEMORY = 5.0
"""Seconds over which the usual goodput is taken."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One lane, as measured over the last one to two seconds. Times are seconds."""

    name: str
    cost: float
    """CPU a byte, as a multiple of the cheapest."""
    alive: bool | None = None
    """Whether it answers; None: nobody asked lately."""
    silent: float = 0.0
    """For how long nothing has come that was due."""
    backlog: float = 0.0
    """For how long an answer has been waiting behind data that do come."""
    rtt: float | None = None
    best_rtt: float | None = None
    """The shortest round trip of the last minutes."""
    delay: float | None = None
    """What a small exchange takes lately, with all that was sent again."""
    loss: float | None = None
    """Fraction of the bytes that were lost, in the worse direction; None: too few to say."""
    goodput: float = 0.0
    """Bytes a second, both directions together."""
    limited: float = 0.0
    """The part of the time, 0 to 1, in which there was more to send than the lane took."""

    @property
    def long_queue(self) -> bool:
        """Whether packets wait on the way, so that loss is of one's own making."""
        return bool(self.rtt and self.best_rtt and self.rtt > LONG_QUEUE * self.best_rtt)

    @property
    def dead(self) -> bool:
        """Whether it does not answer."""
        return self.alive is False or self.silent > max(SILENT, 3 * (self.best_rtt or 0.0))


@dataclass(frozen=True, slots=True)
class Trial:
    """A move that is being watched."""

    back: str
    """The lane that carried before."""
    before: float
    """What that delivered, bytes a second."""
    need: float
    """What the new one must deliver, over that."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A lane that failed a trial, for how long, and what the other one delivered then."""

    lane: str
    until: float
    pause: float
    goodput: float


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered from one call to the next: see `begin`."""

    lane: str
    since: float
    at: float
    """When the last call was."""
    usual: float | None = None
    """Goodput of the lane while it was the limit."""
    measured: float = 0.0
    """Seconds that `usual` stands on."""
    trial: Trial | None = None
    bars: tuple[Bar, ...] = ()
    voluntary: float = float("-inf")
    """When the last move was that nothing forced."""
    returned: float = float("-inf")
    """When a cheaper lane was taken up again."""
    dwell: float = DWELL
    # Since when something is so; None: it is not.
    lossy: float | None = None
    heavy: float | None = None
    collapsed: float | None = None
    clean: float | None = None
    slow: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The lane that should carry now, why, and what to pass in with the next call."""

    lane: str
    reason: str
    state: State


def begin(lane: str, now: float) -> State:
    """The state before the first call: `lane` carries from `now` on."""
    return State(lane, now, now)


def steer(now: float, lanes: Sequence[Figures], state: State) -> Decision:
    """Decide, with all that is known `now`: a few times a second, and when a lane falls silent."""
    choice = next((lane for lane in lanes if lane.name == state.lane), lanes[0])
    others = sorted((one for one in lanes if one is not choice and one.alive), key=_order)
    usable = [one for one in others if not one.dead]
    state = _observe(now, choice, usable, state)
    if choice.dead:
        return _failover(now, choice, usable, state)
    if state.trial is not None:
        return _judge(now, choice, lanes, state, state.trial)
    if now - state.since >= SETTLE and now - state.voluntary >= APART:
        free = [one for one in usable if not _barred(now, choice, one, state)]
        for rule in (_too_little, _lossy, _cheaper, _slow):
            if free and (decision := rule(now, choice, free, state)):
                return decision
    return Decision(choice.name, _describe(choice, others), state)


# The rules, the first that applies decides.


def _failover(now: float, choice: Figures, usable: list[Figures], state: State) -> Decision:
    what = f"no answer for {choice.silent:.1f} s" if choice.silent else "it does not work"
    if not usable:
        return Decision(choice.name, f"{what}, and no other lane answers", state)
    other = usable[0]
    return _move(now, other, f"{what}; {other.name} answers in {_ms(other.delay)}", state)


def _judge(now: float, choice: Figures, lanes: Sequence[Figures], state: State, trial: Trial) -> Decision:
    """Watch a trial: keep what is good, take back what is not."""
    back = next((lane for lane in lanes if lane.name == trial.back), None)
    age, rtt = now - state.since, choice.rtt or 0.0
    got = state.usual if state.usual is not None else choice.goodput
    figures = f"delivers {_mbit(got)}, {trial.back} delivered {_mbit(trial.before)} Mbit/s"
    settled = age >= SETTLE + 1.0 and age >= ROUND_TRIPS / 2 * rtt
    failed = settled and choice.limited >= LIMITED and got < DISASTER * trial.before
    if age < max(VERDICT, ROUND_TRIPS * rtt) and not failed:
        return Decision(choice.name, f"on trial: {figures}", state)
    kept = replace(state, trial=None)
    if got >= trial.need * trial.before or back is None or back.dead or not back.alive:
        return Decision(choice.name, f"kept after a trial: {figures}", kept)
    if choice.limited < LIMITED and choice.cost < back.cost:
        return Decision(choice.name, "kept after a trial: little is sent, and it costs less", kept)
    if choice.limited >= LIMITED:
        kept = _bar(now, choice.name, trial.before, state)
    return _move(now, back, f"taken back after a trial: {figures}", replace(kept, trial=None))


def _too_little(now: float, choice: Figures, free: list[Figures], state: State) -> Decision | None:
    """The lane delivers much less than it did, or so little that answers wait behind data for seconds."""
    other = free[0]
    if choice.backlog > max(BACKLOG, 10 * (choice.best_rtt or 0.0)):
        reason = f"an answer waits for {choice.backlog:.1f} s, at {_mbit(choice.goodput)} Mbit/s"
    elif _for(now, state.collapsed) >= COLLAPSE_FOR:
        reason = f"delivers {_mbit(choice.goodput)} Mbit/s, before {_mbit(state.usual or 0)}"
    else:
        return None
    return _try(now, Trial(choice.name, choice.goodput, _need(choice, other)), other, reason, state)


def _lossy(now: float, choice: Figures, free: list[Figures], state: State) -> Decision | None:
    """The lane loses what it need not: another transport may cope."""
    if _for(now, state.lossy) < LOSS_FOR and _for(now, state.heavy) < HEAVY_FOR:
        return None
    goodput = state.usual if state.usual is not None else choice.goodput
    reason = f"loses {(choice.loss or 0) * 100:.1f} % and delivers {_mbit(goodput)} Mbit/s"
    costlier = [one for one in free if one.cost >= choice.cost]
    if not costlier:
        return None
    return _try(now, Trial(choice.name, goodput, GAIN), costlier[0], reason, state)


def _cheaper(now: float, choice: Figures, free: list[Figures], state: State) -> Decision | None:
    """There is no loss any more, and a byte costs less elsewhere."""
    other = free[0]
    if other.cost >= choice.cost or min(_for(now, state.clean), now - state.since) < state.dwell:
        return None
    reason = f"no loss for {_for(now, state.clean):.0f} s, and {other.name} costs less"
    state = replace(state, returned=now)
    if choice.limited >= LIMITED:
        trial = Trial(choice.name, state.usual or choice.goodput, ENOUGH)
        return _try(now, trial, other, reason, state)
    return None if _slower(other, choice) else _move(now, other, reason, state, voluntary=True)


def _slow(now: float, choice: Figures, free: list[Figures], state: State) -> Decision | None:
    """Little is sent, and answers are quicker elsewhere."""
    if _for(now, state.slow) < SLOW_FOR:
        return None
    other = min(free, key=lambda one: one.delay or float("inf"))
    reason = f"an answer takes {_ms(choice.delay)}, {_ms(other.delay)} over {other.name}"
    return _move(now, other, reason, state, voluntary=True) if _slower(choice, other) else None


# What the rules stand on.


def _observe(now: float, choice: Figures, usable: list[Figures], state: State) -> State:
    """Bring what is remembered up to date."""
    if choice.name != state.lane:  # somebody else decided
        state = replace(begin(choice.name, now), bars=state.bars)
    limited = choice.limited >= LIMITED
    loss = choice.loss or 0.0
    usual, measured = state.usual, state.measured
    if limited and now - state.since >= SETTLE:
        step = max(0.0, now - state.at)
        measured = min(measured + step, MEMORY)
        usual = choice.goodput if usual is None else usual + (choice.goodput - usual) * _part(step, measured)
    own = choice.long_queue and loss < HEAVY
    slow = not limited and any(_slower(choice, one) for one in usable)
    return replace(
        state,
        at=now,
        usual=usual,
        measured=measured,
        lossy=_since(now, state.lossy, limited and loss >= LOSS and not choice.long_queue),
        heavy=_since(now, state.heavy, limited and loss >= HEAVY),
        collapsed=_since(
            now, state.collapsed, limited and usual is not None and choice.goodput < COLLAPSE * usual
        ),
        clean=_since(now, state.clean, loss < CLEAN or own),
        slow=_since(now, state.slow, slow),
    )


def _try(now: float, trial: Trial, other: Figures, reason: str, state: State) -> Decision:
    """Move to `other`, on trial."""
    decision = _move(now, other, f"{reason}: trying {other.name}", state, voluntary=True)
    return replace(decision, state=replace(decision.state, trial=trial))


def _move(now: float, other: Figures, reason: str, state: State, *, voluntary: bool = False) -> Decision:
    dwell = state.dwell
    if now - state.returned < RELAPSE and other.name != state.lane and state.returned < now:
        dwell = min(2 * dwell, MOST_DWELL)
    elif now - state.since > 2 * RELAPSE:
        dwell = DWELL
    return Decision(
        other.name,
        reason,
        replace(
            begin(other.name, now),
            bars=state.bars,
            returned=state.returned,
            dwell=dwell,
            voluntary=now if voluntary else state.voluntary,
        ),
    )


def _bar(now: float, lane: str, goodput: float, state: State) -> State:
    """No more trials of `lane` for a while."""
    pauses = [bar.pause for bar in state.bars if bar.lane == lane]
    pause = min(2 * pauses[0], MOST_BARRED) if pauses else BARRED
    rest = tuple(bar for bar in state.bars if bar.lane != lane)
    return replace(state, bars=(*rest, Bar(lane, now + pause, pause, goodput)))


def _barred(now: float, choice: Figures, other: Figures, state: State) -> bool:
    """Whether a trial of `other` failed lately, under conditions that are still much the same."""
    return any(
        bar.lane == other.name
        and now < bar.until
        and not (choice.limited >= LIMITED and choice.goodput < COLLAPSE * bar.goodput)
        for bar in state.bars
    )


def _slower(one: Figures, other: Figures) -> bool:
    """Whether an answer takes clearly longer over `one`."""
    return bool(one.delay and other.delay and one.delay > SLOW * other.delay + SLOW_BY)


def _need(choice: Figures, other: Figures) -> float:
    return ENOUGH if other.cost < choice.cost else GAIN


def _order(lane: Figures) -> tuple[float, float]:
    return lane.cost, lane.delay or float("inf")


def _part(step: float, measured: float) -> float:
    return step / measured if measured else 1.0


def _since(now: float, since: float | None, holds: bool) -> float | None:
    return (now if since is None else since) if holds else None


def _for(now: float, since: float | None) -> float:
    return 0.0 if since is None else now - since


def _ms(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds * 1000:.0f} ms"


def _mbit(rate: float) -> str:
    return f"{rate * 8 / 1e6:.1f}"


def _describe(choice: Figures, others: list[Figures]) -> str:
    """Why nothing changes, for people."""
    parts = [f"delivers {_mbit(choice.goodput)} Mbit/s"] if choice.goodput > 12_500 else ["it works"]
    if choice.loss is not None:
        parts.append(f"loses {choice.loss * 100:.1f} %")
    if others and all(choice.cost < other.cost for other in others):
        parts.append("costs least")
    return ", ".join(parts)
