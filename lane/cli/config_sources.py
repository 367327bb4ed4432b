"""Options from configuration files and `LANE_*` variables.

ConfigArgParse merges them with the command line. It is made strict here. By itself it would accept
abbreviations, sections, and lists in brackets (which are IPv6 hosts for lane), ignore unknown variables,
and end the process.
"""

import os
import re
from argparse import _AppendAction as _Repeatable
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

import configargparse

from lane.errors import ConfigError, UsageError
from lane.files import text_of
from lane.values import unquoted

PREFIX = "LANE_"
_OF_TESTS = "LANE_TEST_"
_MAX_WARNINGS = 10
MAX_FILE = 1 << 20
"""The largest configuration file, bytes."""
_LINK = re.compile(r"[\"']?lane://")
_FILE = "config_file|"  # ConfigArgParse's mark for a file


class Parser(configargparse.ArgumentParser):  # type: ignore[misc]
    """Raises UsageError for an error, and does not end the process."""

    def error(self, message: str) -> None:
        """Raise UsageError. argparse calls this for each error."""
        raise UsageError(message)

    def parse_known_args(
        self,
        args: Any = None,
        namespace: Any = None,
        config_file_contents: Any = None,
        env_vars: Any = None,
        **how: Any,
    ) -> Any:
        """Parse as ConfigArgParse does. A variable's value may be quoted or have a line end."""
        given = os.environ if env_vars is None else env_vars
        tidy = {name: unquoted(text) if name.startswith(PREFIX) else text for name, text in given.items()}
        return super().parse_known_args(args, namespace, config_file_contents, tidy, **how)

    def settings(self) -> dict[str, Any]:
        """The options that files and variables may set: argparse's Action, by name."""
        return {
            name.removeprefix("--"): action
            for action in self._actions
            for name in action.option_strings
            if name.startswith("--") and action.dest not in ("help", "config")
        }

    def options(self, *, valued: bool = False) -> list[str]:
        """All options, as on the command line. `valued`: only those that need a value."""
        actions = [one for one in self._actions if one.nargs is None or not valued]
        return [name for action in actions for name in action.option_strings]

    def convert_item_to_command_line_arg(self, action: Any, key: str, value: Any) -> Any:
        """Convert as ConfigArgParse does. Raises ConfigError if a single value is set twice."""
        if isinstance(value, Several) and action is not None and not isinstance(action, _Repeatable):
            raise ConfigError(f"{value.where}: {key} is set twice")
        return super().convert_item_to_command_line_arg(action, key, value)

    def sources(self) -> dict[str, Path | str]:
        """The file or variable that set each option in the last parse. The command line is not included."""
        found: dict[str, Path | str] = {}
        for source, settings in self.get_source_to_settings_dict().items():
            for key, (action, _) in settings.items():
                if action is not None and source == "environment_variables":
                    found[action.dest] = key
                elif action is not None and source.startswith(_FILE):
                    found[action.dest] = Path(source.removeprefix(_FILE))
        return found

    def unknown_keys(self) -> list[tuple[Path, str]]:
        """The keys in the files of the last parse that are not options."""
        return [
            (Path(source.removeprefix(_FILE)), key)
            for source, settings in self.get_source_to_settings_dict().items()
            if source.startswith(_FILE)
            for key, (action, _) in settings.items()
            if action is None
        ]


class Several(list[str]):
    """The values of a key that a file sets more than once. `where` is the place of the second one."""

    def __init__(self, values: Iterable[str], where: str) -> None:
        super().__init__(values)
        self.where = where


class Syntax(configargparse.ConfigFileParser):  # type: ignore[misc]
    """`key = value` lines, and comments on their own lines. Everything else is an error.

    A value may be quoted, as in similar files of other programs.
    """

    def parse(self, stream: TextIO) -> dict[str, str | Several]:
        """The keys with their values. Raises ConfigError with the file and the line."""
        found: dict[str, str | Several] = {}
        link, indent = "", 0  # the key of a link on the previous line, and the indent of that line
        data = stream.buffer.read(MAX_FILE + 1)  # `open_file` has opened it
        if len(data) > MAX_FILE:
            raise ConfigError(f"{stream.name} is larger than {MAX_FILE} bytes")
        for number, line in enumerate(text_of(data, stream.name).split("\n"), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            match = re.fullmatch(r"([a-z][a-z0-9-]*)\s*=\s*(.*)", text)
            deeper = len(line) - len(line.lstrip()) > indent
            if link and (deeper or not match):  # editors and mails break long lines
                found[link] = f"{found[link]}{text}"
                continue
            if not match:
                raise ConfigError(f"{stream.name}:{number}: expected `key = value`")
            key, value = match.groups()
            if key in ("help", "config"):
                raise ConfigError(f"{stream.name}: unknown key {key!r}")
            before = found.get(key)
            link = key if before is None and _LINK.match(value) else ""
            indent = len(line) - len(line.lstrip())
            if before is None:
                found[key] = unquoted(value)
            elif isinstance(before, Several):
                before.append(unquoted(value))
            else:
                found[key] = Several((before, unquoted(value)), f"{stream.name}:{number}")
        return found


def open_file(path: str) -> TextIO:
    """Open a configuration file for `Syntax`. Raises ConfigError."""
    try:
        return open(path, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def standard_files(names: Iterable[str]) -> list[Path]:
    """The existing standard files with these names, the most important one last."""
    home = os.path.expanduser(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    folders = ("/etc", home) if os.path.isabs(home) else ("/etc",)  # the home may be missing
    paths = [Path(folder, "lane", name) for name in names for folder in folders]
    return [path for path in paths if os.path.isfile(path)]


def given_file(argv: Sequence[str]) -> Path | None:
    """The file of `-c`. Raises ConfigError if it is unreadable; ConfigArgParse would call that bad usage."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--config")
    path = parser.parse_known_args(argv)[0].config
    if path is None:
        return None
    path = os.path.expanduser(path)
    open_file(path).close()
    return Path(path)


def unknown_variables(settings: Iterable[str]) -> list[str]:
    """The first few `LANE_*` variables that match none of `settings`."""
    known = {variable(name) for name in settings}
    found = [name for name in os.environ if name.startswith(PREFIX) and not name.startswith(_OF_TESTS)]
    return sorted(set(found) - known)[:_MAX_WARNINGS]


def variable(name: str) -> str:
    """The environment variable of the option `--name`."""
    return PREFIX + name.replace("-", "_").upper()
