"""The choice of a lane by plugins: what they say to `lane_choose`, and else what lane itself would do."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lane.carriers.path_control import SelectionPolicy
from lane.carriers.path_selection import Decision, SelectionState, select_path
from lane.carriers.path_signals import Figures
from lane.plugins import BadAnswer, Plugins


def steering(plugins: Plugins) -> SelectionPolicy:
    """Asks `plugins` at each look. Where none knows, or one answers wrongly, lane's own policy decides."""

    def choose(now: float, lanes: Sequence[Figures], state: SelectionState) -> Decision:
        names = [lane.name for lane in lanes]
        try:
            found = plugins.ask(
                "lane_choose", partial(_read_choice, names), now=now, lanes=lanes, choice=state.choice
            )
        except BadAnswer:
            found = None
        if found is None:
            return select_path(now, lanes, state)
        name, reason = found
        return Decision(name, reason, replace(state, choice=name))

    return choose


def _read_choice(names: Sequence[str], answer: Any) -> tuple[str, str]:
    """The lane that a plugin chose of `names`, and why. Raises ValueError."""
    name, reason = answer
    if name not in names or not isinstance(reason, str):
        raise ValueError(answer)
    return name, reason
