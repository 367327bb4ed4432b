"""The table of options, for itself: what it says holds together."""

import pytest

from lane.cli.option_parser import COMMANDS, defaults
from lane.config.option import Option, sentence
from lane.config.option_reader import Options
from lane.config.settings import BOTH, GROUPS, LIVE, options_of

EVERY = [(command, option) for command in COMMANDS for option in options_of(command)]
ids = [f"{command}-{option.name}" for command, option in EVERY]
each = pytest.mark.parametrize(("command", "option"), EVERY, ids=ids)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_an_option_once(command):
    names = [option.name for option in options_of(command)]
    fields = [option.field or option.dest for option in options_of(command)]
    assert len({*names}) == len(names) == len({*fields})


@each
def test_an_option_is_of_commands_that_there_are_and_is_described(command, option):
    assert {*option.commands, *option.live} <= COMMANDS.keys()
    assert option.help_of(command)
    assert option.description(command).endswith(".")
    assert option.kind == "value" or not option.default


@each
def test_a_default_is_a_value_that_can_be_given(command, option):
    if option.default_of(command) is not None:
        Options(defaults(command), command).value(option.dest)


@pytest.mark.parametrize("command", BOTH)
def test_what_has_no_default_has_an_example(command):
    lacking = [one.name for one in options_of(command) if not one.example_of(command) and one.kind != "file"]
    assert not lacking


def test_no_option_is_of_no_command():
    listed = [option for group in GROUPS for option in group.options]
    assert {id(option) for _, option in EVERY} == {id(option) for option in listed}


def test_what_is_read_again_is_of_that_command():
    for command, names in LIVE.items():
        assert names <= {option.dest for option in options_of(command)}
    assert "request_timeout" in LIVE["server"] - LIVE["client"]


def test_texts_for_each_command():
    option = Option(
        "x", "X", str, {"client": "one", "why": "two"}, default={"why": "2"}, comment={"why": "z"}
    )
    assert [option.help_of(command) for command in ("client", "why")] == ["one", "two (default: 2)"]
    assert [option.description(command) for command in ("client", "why")] == ["One.", "Z."]
    assert [option.default_of(command) for command in ("client", "why")] == [None, "2"]
    assert sentence("done already.") == "Done already."
