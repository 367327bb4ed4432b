"""Plugins and the command line: `lane plugins`, and options that plugins add."""

import re

import pytest

from lane.errors import ConfigError, UsageError
from tests.support.command_line import fails, parse

BROKEN = "raise RuntimeError('boom')"
OPTIONS = """
from lane import hookimpl
from lane.errors import ConfigError
@hookimpl
def lane_add_options(group):
    group.add_argument("--good-mood", metavar="MOOD", help="mood of the plugin")
@hookimpl
def lane_configure(options):
    if options.good_mood == "bad":
        raise ConfigError("good-mood: must not be bad")
    if options.good_mood == "broken":
        raise RuntimeError("broken mood")
    int(options.good_mood or 1)
"""


@pytest.fixture
def plugin_dir(tmp_path):
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    return folder


def test_a_plugin_adds_options_and_sees_their_values(run_lane, plugin_dir, conf):
    (plugin_dir / "good.py").write_text(OPTIONS)
    text = run_lane("client", "--plugin-dir", plugin_dir, "--help").stdout
    assert "options of plugins:" in text
    assert "--good-mood MOOD" in text
    file = conf(f"server = embedded\nplugin-dir = {plugin_dir}\ngood-mood = bad\n")
    fails(run_lane("-c", file), 78, "lane: good-mood: must not be bad")
    variables = {"LANE_PLUGIN_DIR": str(plugin_dir), "LANE_GOOD_MOOD": "bad"}
    fails(run_lane("server", env=variables), 78, "lane: good-mood: must not be bad")


@pytest.mark.parametrize("command", ["client", "server", "check"])
def test_a_plugin_that_refuses_its_option_ends_lane_with_a_line(run_lane, plugin_dir, command):
    (plugin_dir / "good.py").write_text(OPTIONS)
    link = ("--server", "example.com:1", "--key=" + "A" * 43) if command == "check" else ()

    def run(mood):
        return run_lane(command, *link, "--plugin-dir", plugin_dir, "--good-mood", mood)

    fails(run("3x"), 2, "lane: plugin good: invalid literal for int.. with base 10: '3x'")
    file = re.escape(f"{plugin_dir}/good.py")
    fails(run("broken"), 78, rf"lane: plugin good \({file}\): lane_configure: RuntimeError: broken mood")


@pytest.mark.parametrize(
    ("declared", "arguments", "line"),
    [
        ("type=int", ["--odd-x", "y"], "argument --odd-x: invalid int value: 'y'"),
        ("type={'a': 1}.__getitem__", ["--odd-x", "y"], "an option of a plugin: KeyError: 'y'"),
        ("type=open", ["--odd-x", "/no/such"], "an option of a plugin: FileNotFoundError: .*"),
        ("help='100 % of it'", ["--help"], "an option of a plugin: TypeError: .*"),
    ],
)
def test_a_plugins_option_that_raises_is_a_line(run_lane, plugin_dir, declared, arguments, line):
    (plugin_dir / "odd.py").write_text(
        "from lane import hookimpl\n"
        f"@hookimpl\ndef lane_add_options(group):\n    group.add_argument('--odd-x', {declared})\n"
    )
    fails(run_lane("server", "--plugin-dir", plugin_dir, *arguments), 2, f"lane: {line}")


def test_a_broken_plugin_is_reported_and_its_keys_are_no_error(plugin_dir, conf):
    (plugin_dir / "good.py").write_text(BROKEN)
    file = conf(f"server = embedded\nplugin-dir = {plugin_dir}\ngood-mood = fine\n")
    warnings = parse("client", "-c", file)[2]
    assert f"plugin good ({plugin_dir}/good.py): RuntimeError: boom" in warnings
    assert f"{file}: good-mood is of a plugin that did not load: ignored" in warnings
    file.write_text(file.read_text() + "goods = 1\n")
    with pytest.raises(ConfigError, match="unknown key 'goods'"):
        parse("client", "-c", file)
    with pytest.raises(UsageError, match="unknown option --good-mood"):
        parse("client", "--plugin-dir", plugin_dir, "--good-mood", "x")


def test_plugins_lists_what_loaded_and_what_did_not(run_lane, plugin_dir):
    (plugin_dir / "broken.py").write_text(BROKEN)
    (plugin_dir / "good.py").write_text("__version__ = '7.7'" + OPTIONS)
    result = run_lane("plugins", "--plugin-dir", plugin_dir)
    assert (result.returncode, result.stderr) == (0, "")
    table, errors = result.stdout.split("\nErrors:\n")
    assert table.split("\n", 1)[0].split() == ["NAME", "VERSION", "FROM", "TRANSPORTS", "HOOKS"]
    (row,) = [line.split(maxsplit=4) for line in table.splitlines() if line.startswith("good ")]
    assert row == ["good", "7.7", str(plugin_dir / "good.py"), "-", "lane_add_options, lane_configure"]
    assert f"  plugin broken ({plugin_dir}/broken.py): RuntimeError: boom\n" in errors
