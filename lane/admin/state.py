"""What the processes of a server have counted: plain values that can be added up, stored and sent.

The names are those of `lane.admin.families`. A process that takes the place of one that died goes on from its
counters, so no sum ever falls.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Self

from lane.server.numbers import Histogram, Labels

Values = dict[str, dict[Labels, float]]
"""Values by metric and labels."""


class State:
    """The numbers of one process, or of several together."""

    def __init__(self) -> None:
        self.counters: Values = {}
        self.gauges: Values = {}
        self.histograms: dict[str, dict[Labels, list[float]]] = {}
        """The count of each bucket, and at last the sum of all values."""
        self.users: dict[str, tuple[int, int]] = {}
        """Bytes up and down of every user."""
        self.online: dict[str, set[str]] = {}
        """The addresses from which a user is connected."""

    def count(self, name: str, values: Mapping[Labels, float]) -> None:
        """Set a counter."""
        self.counters[name] = dict(values)

    def gauge(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        self.gauges.setdefault(name, {})[labels] = value

    def histogram(self, name: str, found: Mapping[Labels, Histogram]) -> None:
        """Set a histogram."""
        self.histograms[name] = {labels: [*one.counts, one.sum] for labels, one in found.items()}

    def lasting(self) -> Self:
        """Only what the counters say, for whoever takes the place of a process that died."""
        kept = type(self)()
        kept.counters, kept.histograms, kept.users = self.counters, self.histograms, self.users
        return kept

    def pack(self) -> bytes:
        """As JSON."""
        tables: dict[str, Mapping[str, Mapping[Labels, Any]]] = {
            "counters": self.counters,
            "gauges": self.gauges,
            "histograms": self.histograms,
        }
        plain: dict[str, Any] = {
            kind: {name: [*values.items()] for name, values in table.items()}
            for kind, table in tables.items()
        }
        plain |= {"users": self.users, "online": {user: [*hosts] for user, hosts in self.online.items()}}
        return json.dumps(plain).encode()

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """The state that `pack` gave."""
        plain, state = json.loads(data), cls()
        for kind in ("counters", "gauges", "histograms"):
            table = {
                name: {tuple(labels): value for labels, value in values}
                for name, values in plain[kind].items()
            }
            setattr(state, kind, table)
        state.users = {user: (up, down) for user, (up, down) in plain["users"].items()}
        state.online = {user: set(hosts) for user, hosts in plain["online"].items()}
        return state


def together(states: Iterable[State]) -> State:
    """The sum of all."""
    total = State()
    for state in states:
        for mine, others in ((total.counters, state.counters), (total.gauges, state.gauges)):
            for name, values in others.items():
                table = mine.setdefault(name, {})
                for labels, value in values.items():
                    table[labels] = table.get(labels, 0) + value
        for name, histograms in state.histograms.items():
            known = total.histograms.setdefault(name, {})
            for labels, counts in histograms.items():
                before = known.get(labels, [0.0] * len(counts))
                known[labels] = [one + other for one, other in zip(before, counts, strict=True)]
        for user, (up, down) in state.users.items():
            was = total.users.get(user, (0, 0))
            total.users[user] = was[0] + up, was[1] + down
        for user, hosts in state.online.items():
            total.online.setdefault(user, set()).update(hosts)
    return total
