"""A model of lanes on one link, whose figures come as late as real ones, and of a client that chooses."""

import random
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

from lane.carriers.path_selection import SPACING, SelectionState, select_path
from lane.carriers.path_signals import Figures

TICK = 0.05
LOOK = 5  # ticks from call to call
MBIT = 1e6 / 8
PACKET = 1400
SHARES = {  # loss, and Mbit/s of 30
    "cubic": [(0, 28), (0.02, 3), (0.1, 0.5), (1, 0)],
    "bbr": [(0, 28), (0.02, 26.5), (0.1, 22.6), (1, 0)],
    "quic": [(0, 28), (0.02, 26.6), (0.1, 23.8), (1, 0)],
}


@dataclass
class Link:
    """What the link is like now. `police`: Mbit/s that each kind of lane gets at most."""

    loss: float = 0.0
    mbit: float = 30.0
    rtt: float = 0.05
    blocked: tuple[str, ...] = ()
    police: dict[str, float] = field(default_factory=dict)


def share(kind, loss):
    """Which part of the link a lane fills at random loss."""
    for (left, low), (right, high) in pairwise(SHARES[kind]):
        if left <= loss <= right:
            return (low + (high - low) * (loss - left) / (right - left)) / 30
    raise AssertionError


class Lane:
    """One lane on the link, and what it measures."""

    def __init__(self, name, cost, kind, seed):
        self.name, self.cost, self.kind = name, cost, kind
        self.random = random.Random(f"{seed}{name}")
        self.rate = 0.0  # Mbit/s
        self.since = None  # when the demand on it began
        self.heard = 0.0
        self.asked = None  # when first what has no answer yet
        self.delivered = deque(maxlen=round(1 / TICK))
        self.busy = deque(maxlen=round(1 / TICK))
        self.packets = deque(maxlen=round(2 / TICK))
        self.pings = deque([0.05], maxlen=5)
        self.rtts = deque([0.05], maxlen=4)

    def tick(self, now, link, demand):
        blocked = self.name in link.blocked
        policed = link.police.get(self.name, 1e9)
        self.since = (now if self.since is None else self.since) if demand else None
        goal = min(link.mbit * share(self.kind, link.loss), policed, demand)
        if blocked or not demand:
            self.rate = 0.0
        elif self.rate < goal:
            self.rate = min(goal, self.rate + TICK * max(goal, 1.0))  # it takes a second
        else:
            self.rate += (goal - self.rate) * TICK / 0.3
        limited = bool(demand) and (blocked or demand > goal)
        loss, full = link.loss, limited and self.kind == "cubic" and link.loss < 0.003
        if limited and policed < 20:
            loss = 0.4
        if full and 0.2 < now - self.since < 1.0:
            loss = 0.2  # a slow start overshoots
        if demand or round(now / TICK) % 20 == 0:
            self.asked = now if self.asked is None else self.asked
            if not blocked:
                self.heard, self.asked = now, None
        sent = self.rate * MBIT * TICK / PACKET
        self.packets.append((sent, sent * loss))
        self.delivered.append(self.rate * self.random.uniform(0.95, 1.05))
        self.busy.append(limited and (self.random.random() < 0.9))
        rtt = link.rtt * ((1.7 if full else 1.1) if limited else 1.0) * self.random.uniform(0.98, 1.05)
        if not blocked:
            self.rtts.append(rtt)
            if round(now / TICK) % 20 == 0:
                again = self.random.random() < loss
                self.pings.append(rtt + (0.2 if again else 0.0))

    def figures(self, now, idle_rtt=0.05):
        sent = sum(packets for packets, _ in self.packets)
        return Figures(
            self.name,
            self.cost,
            alive=now - self.heard < 2.5,
            silent=0.0 if self.asked is None else now - self.asked,
            rtt=sum(self.rtts) / len(self.rtts),
            best_rtt=idle_rtt,
            delay=sorted(self.pings)[len(self.pings) // 2],
            loss=sum(lost for _, lost in self.packets) / sent if sent > 60 else None,
            goodput=sum(self.delivered) / self.delivered.maxlen * MBIT,
            limited=sum(self.busy) / self.busy.maxlen,
        )


@dataclass
class Move:
    at: float
    lane: str
    reason: str

    @property
    def voluntary(self):
        return not any(words in self.reason for words in ("no answer", "not answer", "back to"))


class Run:
    """A client on `link(t)` that has `demand(t)` Mbit/s to send."""

    def __init__(self, seconds, link, *, cc="cubic", start="tls", demand=lambda t: 100.0, seed=1, more=()):
        lanes = [Lane(*one, seed) for one in (("tls", 1, cc), ("quic", 20, "quic"), *more)]
        self.moves, self.said, self.choices, self.state = [], [], [], SelectionState(start)
        for number in range(round(seconds / TICK)):
            now = number * TICK
            for lane in lanes:
                lane.tick(now, link(now), demand(now) if lane.name == self.state.choice else 0.0)
            if number % LOOK == 0:
                decision = select_path(now, [lane.figures(now, link(now).rtt) for lane in lanes], self.state)
                assert decision.lane == decision.state.choice
                if decision.lane != self.state.choice:
                    self.moves.append(Move(now, decision.lane, decision.reason))
                elif decision.reason:
                    self.said.append(decision.reason)
                self.state = decision.state
            self.choices.append(self.state.choice)
        starts = [move.at for move in self.moves if move.voluntary]
        assert all(later - first >= SPACING for first, later in pairwise(starts))

    def on(self, at):
        return self.choices[round(at / TICK)]

    def share_of(self, name, start, end):
        part = self.choices[round(start / TICK) : round(end / TICK)]
        return part.count(name) / len(part)

    @property
    def lanes(self):
        return [move.lane for move in self.moves]
