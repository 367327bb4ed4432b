"""Generates conf/*.conf, docs/OPTIONS.md and share/ from the table of options.

`make reference` runs it in a checkout. A test checks that the files are up to date.
"""

import re
import sys
from argparse import Action
from pathlib import Path
from textwrap import dedent, wrap

from lane.cli import shells
from lane.cli.commands import COMMANDS
from lane.cli.option_parser import WITH_PLUGIN_OPTIONS, build
from lane.cli.shipped import MANUAL, SHELLS
from lane.config.option import Option, sentence
from lane.config.settings import BOTH, GROUPS
from lane.plugins import load

ROOT = Path(__file__).parents[2]
"""The checkout."""
_WIDTH = 110
_HEAD = """\
    # lane {command}: copy to /etc/lane/{command}.conf or ~/.config/lane/{command}.conf, or pass it with -c.
    # One `option = value` a line; a comment needs a line of its own. Lines that begin with `#option` show
    # defaults, or examples where there is no default.
"""
_INTRO = """\
    # Options

    Each option can be given on the command line (`--buffer-size 8MB`), as a variable
    (`LANE_BUFFER_SIZE=8MB`) or by a line of a configuration file (`buffer-size = 8MB`); see
    [the README](../README.md#configuration). [conf/](../conf) has files with all options of the client and of
    the server.

    Sizes are written as `8KB`, `16MB` or `1GB` (of 1024), times as `500ms`, `10s`, `10m`, `1h` or `7d`.
    An option with `[yes]` needs no value on the command line; in a file or a variable it is `yes` or `no`.
    An option with "..." can be repeated. A "yes" below SIGHUP says that the process reads the option, and the
    file that it names, [again on SIGHUP](../README.md#changes-without-a-restart); any other option takes a
    restart.

    `make reference` writes this file, `conf/*.conf`, and the completions and the manual page in `share/`.
"""


def files() -> dict[Path, str]:
    """The generated content of each file, by path."""
    found = {ROOT / "conf" / f"{command}.conf": conf(command) for command in BOTH}
    found |= {ROOT / "share" / name: shells.completion(shell) for shell, name in SHELLS.items()}
    found[ROOT / "share" / MANUAL] = shells.manual()
    return {**found, ROOT / "docs" / "OPTIONS.md": document()}


def conf(command: str) -> str:
    """The sample configuration file for `command`: each option with its default or an example."""
    parts = [dedent(_HEAD).format(command=command)]
    for group in GROUPS:
        if options := [option for option in group.of(command) if option.kind != "file"]:
            parts.append(f"## {group.title_of(command)}\n")
            parts += [_conf_lines(one.description(command), _line(one, command)) for one in options]
    parts.append("## options of plugins\n")
    for action in _of_plugins(command):
        line = f"#{_name(action)} = {action.default or action.metavar}"
        parts.append(_conf_lines(sentence(action.help or ""), line))
    return "\n".join(parts)


def document() -> str:
    """docs/OPTIONS.md: the options of each command, and those of lane's own plugins."""
    parts = [dedent(_INTRO)]
    for command, purpose in COMMANDS.items():
        parts.append(f"## lane {command}\n\n{sentence(purpose)}\n")
        for group in GROUPS:
            if options := group.of(command):
                rows = [_row(option, command) for option in options]
                parts.append(f"### {command}: {group.title_of(command)}\n\n{_table(rows, command in BOTH)}")
    names = [f"`lane {command}`" for command in WITH_PLUGIN_OPTIONS]
    rows = [
        (f"`--{_name(each)} {_value(each)}`", _code(each.default), _escaped(sentence(each.help or "")), "")
        for each in _of_plugins(BOTH[0])
    ]
    where = f"{', '.join(names[:-1])} and {names[-1]} have these, of the plugins that ship with lane."
    parts.append(f"## Options of plugins\n\n{where}\n\n{_table(rows, False)}")
    return "\n".join(parts)


def _of_plugins(command: str) -> list[Action]:
    """The options that the installed plugins add to `command`."""
    parser = build(command)
    own = {*parser.settings()}
    load().call_each("lane_add_options", group=parser.add_argument_group("options of plugins"))
    return [action for name, action in parser.settings().items() if name not in own]


def _line(option: Option, command: str) -> str:
    return f"{'' if option.counts else '#'}{option.name} = {option.example_of(command)}"


def _conf_lines(comment: str, line: str) -> str:
    wrapped = wrap(comment, _WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return "".join(f"{each}\n" for each in [*(f"# {text}" for text in wrapped), line])


def _row(option: Option, command: str) -> tuple[str, str, str, str]:
    """The table cells of one option."""
    forms = {
        "value": f"--{option.name} {option.metavar}",
        "list": f"--{option.name} {option.metavar} ...",
        "flag": f"--{option.name} [yes]",
        "file": f"-c {option.metavar}, --{option.name} {option.metavar}",
        "position": option.metavar,
    }
    text, default = _escaped(option.description(command)), option.default_of(command)
    if not default and command in BOTH and (example := option.example_of(command)):
        text += f" Example: {_code(example)}"
    return _code(forms[option.kind]), _code(default), text, "yes" if command in option.live else ""


def _table(rows: list[tuple[str, str, str, str]], reread: bool) -> str:
    """A Markdown table. `reread`: with a column for the options that SIGHUP reads again."""
    width = 4 if reread else 3
    heads = [("option", "default", "meaning", "SIGHUP"), ("---", "---", "---", "---")]
    return "".join(f"| {' | '.join(row[:width])} |\n" for row in [*heads, *rows])


def _escaped(text: str) -> str:
    """`text` with Markdown's special characters escaped."""
    return re.sub(r"([|*])", r"\\\1", text)


def _code(text: str | None) -> str:
    return f"`{text}`" if text else ""


def _name(action: Action) -> str:
    return action.option_strings[-1].removeprefix("--")


def _value(action: Action) -> str:
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar)


def main() -> None:
    """Write the files. Print the names of the changed ones."""
    for path, text in files().items():
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(path.relative_to(ROOT), file=sys.stderr)


if __name__ == "__main__":
    main()
