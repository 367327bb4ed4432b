"""What the figures of `lane speedtest` mean, in words."""

from collections.abc import Sequence
from math import sqrt
from typing import Protocol

NEAR = 0.85
"""A transport that delivers this part of another one's rate delivers as much: figures vary by that."""
BLOATED = 0.1
"""Seconds of delay that data add, from which a call or a game suffers (ITU-T G.114 allows 0.15 s in all)."""
LOSSY = 0.005
"""The loss from which a loss-based congestion control is slow on long paths."""
_SHARES = {
    1: "the same amount",
    2: "half",
    3: "a third",
    4: "a quarter",
    5: "a fifth",
    8: "an eighth",
    9: "a ninth",
}
_SEGMENT = 1448
"""Bytes of data in a TCP segment on Ethernet, with time stamps."""
EXPECTED_LOSS = 0.02


class Measured(Protocol):
    """The figures of one transport: see `lane.cli.speedtest.Result`."""

    transport: str
    cost: float | None
    down: float | None
    up: float | None
    idle: float | None
    loaded: float | None
    loss: float | None
    unanswered: int


def words(results: Sequence[Measured]) -> list[str]:
    """Sentences about `results`, one a line; none if nothing was measured."""
    lanes = [one for one in results if one.cost is not None and one.down is not None]
    if not lanes:
        return []
    lines = [_choice(lanes), *(line for one in lanes if (line := _delay(one)))]
    if waited := sum(one.unanswered for one in lanes):
        lines.append(f"{waited} small message{'s' if waited > 1 else ''} had no answer within 3 s.")
    losses = [one.loss for one in lanes if one.loss is not None]
    if losses and max(losses) >= LOSSY:
        lines.append(
            f"Up to {max(losses) * 100:.1f} % of the bytes are lost. --transport auto, the default, moves"
            " connections to the transport that this slows down least."
        )
    if idle := min((one.idle for one in lanes if one.idle), default=None):
        most = _SEGMENT / idle * sqrt(1.5 / EXPECTED_LOSS) * 8 / 1e6
        lines.append(
            f"At {EXPECTED_LOSS:.0%} loss and this round trip of {idle * 1000:.1f} ms, expect at most"
            f" {most:,.0f} Mbit/s of a TCP connection without BBR (Mathis et al. 1997)."
        )
    if (direct := next((one for one in results if one.cost is None and one.down), None)) is not None:
        best = max(one.down or 0.0 for one in lanes)
        lines.append(f"Through lane: {best / (direct.down or 1.0):.0%} of the rate without it.")
    return lines


def _choice(lanes: Sequence[Measured]) -> str:
    best = max(lanes, key=_both)
    cheap = min((one for one in lanes if _both(one) >= NEAR * _both(best)), key=lambda one: one.cost or 0.0)
    if len(lanes) == 1:
        return f"Only {best.transport} was measured."
    others = [one for one in lanes if one is not cheap]
    other = best if best is not cheap else max(others, key=_both)
    cost = _times(other.cost, cheap.cost)
    if _both(cheap) <= _both(other) / NEAR:
        return f"{cheap.transport} delivers as much as {other.transport}, {cost}."
    factor = f"{_both(cheap) / max(_both(other), 1.0):.1f} times as much as {other.transport}"
    if (cheap.cost or 0.0) <= (other.cost or 0.0):
        return f"{cheap.transport} delivers {factor}, {cost}."
    return f"{cheap.transport} delivers {factor}, for its CPU."


def _times(dear: float | None, cheap: float | None) -> str:
    share = round((dear or 1.0) / (cheap or 1.0))
    return f"at {_SHARES.get(share, f'1/{share}')} of the CPU"


def _delay(one: Measured) -> str:
    if one.idle is None or one.loaded is None or one.loaded - one.idle < BLOATED:
        return ""
    return (
        f"Beside a download over {one.transport}, answers take {one.loaded * 1000:.0f} ms instead of"
        f" {one.idle * 1000:.0f} ms: a queue on the path fills up (bufferbloat)."
    )


def _both(one: Measured) -> float:
    return (one.down or 0.0) + (one.up or 0.0)
