"""Who chooses the lane that carries: plugins, if they say anything, and lane itself."""

import dataclasses
from types import ModuleType

import pytest

from lane import hookimpl
from lane.carriers import plugin_steering
from lane.carriers.path_selection import SelectionState
from lane.carriers.path_signals import Figures
from lane.plugins import Plugins

LANES = [Figures("cheap", 1, True), Figures("dear", 20, True)]


def steering(answer):
    """What chooses where a plugin answers with what `answer()` gives, and how often that was asked."""
    asked = []

    @hookimpl
    def lane_choose(now, lanes, choice):
        asked.append((now, [lane.name for lane in lanes], choice))
        return answer()

    plugins = Plugins()
    plugin = ModuleType("chooser")
    plugin.lane_choose = lane_choose
    plugins.register(plugin, "chooser")
    assert plugins.errors == []
    return plugin_steering.steering(plugins), asked


def test_a_plugin_chooses():
    choose, asked = steering(lambda: ("dear", "because"))
    decision = choose(1.0, LANES, SelectionState("cheap"))
    assert (decision.lane, decision.reason, decision.state.choice) == ("dear", "because", "dear")
    assert asked == [(1.0, ["cheap", "dear"], "cheap")]


def test_a_plugin_that_says_nothing_leaves_it_to_lane():
    choose, _ = steering(lambda: None)
    dead = [dataclasses.replace(LANES[0], alive=False), LANES[1]]
    assert choose(1.0, dead, SelectionState("cheap")).lane == "dear"


def out_of_seed():
    raise RuntimeError("out of seed")


def leaves():
    raise SystemExit(1)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: ("gone", "because"), lambda: "tls", lambda: "cheap", lambda: ("dear",),
        lambda: ("dear", None), lambda: (["dear"], "because"), lambda: 7, lambda: True, lambda: (),
        out_of_seed, leaves,
    ],
)  # fmt: skip
def test_a_wrong_answer_costs_that_call(caplog, throttled, answer):
    """Lane's own policy decides, the log names the plugin once a minute, and the plugin is asked again."""
    choose, asked = steering(answer)
    dead = [dataclasses.replace(LANES[0], alive=False), LANES[1]]
    for now in range(3):
        assert choose(float(now), dead, SelectionState("cheap")).lane == "dear"
    assert len(asked) == 3
    assert [record.getMessage() for record in caplog.records] == ["lane_choose of the plugin chooser failed"]
    throttled.now += 61
    choose(4.0, dead, SelectionState("cheap"))
    assert [record.getMessage() for record in caplog.records][1:] == [
        "lane_choose of the plugin chooser failed (and 2 times before that)"
    ]
