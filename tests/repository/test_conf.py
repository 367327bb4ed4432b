"""The shipped configuration and the documentation keep up with the options and the hooks."""

import configparser
import re
from pathlib import Path

import pytest

from lane import config, hookspecs
from lane.cli import option_parser, reference
from lane.egress.rules import RouteRule
from lane.plugins import load

ROOT = Path(__file__).parents[2]
CONFIGS = {"client": config.client_config, "server": config.server_config}
both = pytest.mark.parametrize("command", CONFIGS)


def text_of(command):
    return (ROOT / "conf" / f"{command}.conf").read_text()


def lines_of(command):
    """From key to value, of the lines that count and those that are commented."""
    return dict(re.findall(r"(?m)^#?([a-z][a-z-]*) = (.*)$", text_of(command)))


def settings_of(command):
    """All options, those of the plugins that ship too."""
    parser = option_parser.build(command)
    load().call_each("lane_add_options", group=parser.add_argument_group("plugins"))
    return parser.settings()


def parse(command, file):
    warnings = []
    namespace, _ = option_parser.parse(command, ["-c", str(file)], warnings.append)
    assert not [line for line in warnings if "ignored" in line]
    return namespace


@both
def test_every_option_has_its_line_and_its_default(command):
    settings = settings_of(command)
    lines = lines_of(command)
    assert lines.keys() == settings.keys()
    for key, action in settings.items():
        if action.default is not None:
            assert lines[key] == action.default, key


@both
def test_the_file_works_as_it_is_and_says_the_defaults(command):
    as_shipped = CONFIGS[command](parse(command, ROOT / "conf" / f"{command}.conf"))
    assert as_shipped == CONFIGS[command](option_parser.defaults(command))


@both
def test_the_file_parses_with_every_line_uncommented(command, tmp_path):
    file = tmp_path / "all.conf"
    text = re.sub(r"(?m)^#([a-z][a-z-]* = )", r"\1", text_of(command))
    file.write_text(text.replace("/etc/lane/plugins", str(tmp_path)))  # must be there
    tmp_path.chmod(0o755)
    namespace = parse(command, file)
    assert namespace.sources.keys() == {key.replace("-", "_") for key in lines_of(command)}
    # The examples have no default to stay at, and need files that are not here: the rest must be right.
    for key, action in settings_of(command).items():
        if action.default is None:
            assert getattr(namespace, action.dest), key
            setattr(namespace, action.dest, None)
    namespace.files = []
    assert CONFIGS[command](namespace) == CONFIGS[command](option_parser.defaults(command))


@pytest.mark.parametrize("path", reference.files(), ids=lambda path: path.name)
def test_the_files_are_what_make_reference_writes(path):
    assert path.read_text() == reference.files()[path], "run `make reference`"


@pytest.mark.parametrize("command", option_parser.COMMANDS)
def test_every_option_is_documented_under_its_command(command):
    text = (ROOT / "docs" / "OPTIONS.md").read_text()
    section = text.split(f"\n## lane {command}\n")[1].split("\n## ")[0]
    assert set(re.findall(r"(?m)^\| `(?:-c FILE, )?--([a-z-]+)[ `]", section)) == {
        *option_parser.build(command).settings(),
        *(["config"] if "-c" in option_parser.build(command).options() else []),
    }


def test_the_example_rules_are_rules(tmp_path):
    lines = lines_of("server")
    namespace = option_parser.defaults("server")
    namespace.allow, namespace.deny, namespace.host = [lines["allow"]], [lines["deny"]], lines["host"]
    made = config.server_config(namespace)
    assert (len(made.allow), len(made.deny)) == (2, 1)
    assert made.host.host == lines["host"]


def test_the_examples_of_the_client_are_right():
    lines = lines_of("client")
    namespace = option_parser.defaults("client")
    for name in ("forward", "redirect", "rule"):
        setattr(namespace, name, [lines[name]])
    made = config.client_config(namespace)
    assert (len(made.forwards), len(made.redirects), len(made.rules)) == (1, 2, 3)


def test_the_examples_of_the_documents_are_rules():
    text = "".join((ROOT / name).read_text() for name in ("docs/RULES.md", "README.md"))
    examples = re.findall(r"--rule '([^']*)'", text) + re.findall(
        r"^(?:lane|direct|block) +\S+$", text, re.MULTILINE
    )
    assert len(examples) == 9
    for example in examples:
        RouteRule.parse(example)


@both
def test_the_unit_runs_the_command_and_is_told_when_it_is_ready(command):
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str
    unit.read(ROOT / "conf" / f"lane-{command}.service")
    assert unit["Service"]["ExecStart"].endswith(f"/lane {command}")
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["DynamicUser"] == "yes"


def hooks():
    return [name for name in vars(hookspecs) if name.startswith("lane_")]


def test_there_are_hooks():
    assert "lane_register_transports" in hooks()


@pytest.mark.parametrize("hook", hooks())
def test_every_hook_has_an_entry_in_the_documentation(hook):
    assert f"`{hook}`" in (ROOT / "docs" / "PLUGINS.md").read_text()
