"""The choice of a lane by plugins, with the hook `lane_choose`. lane's own policy is the default."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lane.carriers.path_control import SelectionPolicy
from lane.carriers.path_selection import Decision, SelectionState, select_path
from lane.carriers.path_signals import Figures
from lane.plugins import BadAnswer, Plugins


def steering(plugins: Plugins) -> SelectionPolicy:
    """A policy that asks `plugins`. If none answers, or an answer is invalid, lane's own policy decides."""

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
    """The lane of `names` that a plugin chose, and its reason. Raises ValueError for another answer."""
    name, reason = answer
    if name not in names or not isinstance(reason, str):
        raise ValueError(answer)
    return name, reason
