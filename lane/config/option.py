"""The description of an option: its name, parser and texts. `lane.config.settings` has all options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

PerCommand = str | Mapping[str, str]
"""A text, or one for each command."""


def _of(text: PerCommand, command: str) -> str:
    return text if isinstance(text, str) else text.get(command, "")


def sentence(text: str) -> str:
    """`text` with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


@dataclass(frozen=True, slots=True)
class Option:
    """One option. An empty text means that there is none."""

    name: str
    """The name: `--name`, `name = value` in a file, and `LANE_NAME` as a variable."""
    metavar: str
    parse: Callable[[Any], Any]
    """Parses the text, or the list of texts if the option can be repeated. Raises UsageError."""
    help: PerCommand
    """The text in `--help`, without the default."""
    default: PerCommand = ""
    kind: Literal["value", "list", "flag", "file", "position"] = "value"
    """`list` can be repeated, `flag` is yes or no, and `file` names a configuration file. A `position` has no
    `--name` before it, and no other source."""
    commands: tuple[str, ...] = ()
    """The commands with this option; empty for those of its group."""
    field: str = ""
    """The field of the configuration for the value, if its name differs."""
    live: tuple[str, ...] = ()
    """The commands that read it, and the file that it names, again on SIGHUP. Others need a restart."""
    secret: Callable[[Any], bool] | None = None
    """Whether a value is secret; None if no value is."""
    tidy: Callable[[str], str] | None = None
    """Cleans the text before anything else. Without it only the line ends are removed."""
    comment: PerCommand = ""
    """The text in conf/ and docs/, if it says more than `help`."""
    example: PerCommand = ""
    """A value for conf/ and docs/, if there is no default."""
    counts: bool = False
    """Whether the line in conf/ is active, and not a comment."""

    @property
    def dest(self) -> str:
        """The name in argparse's namespace."""
        return self.name.replace("-", "_")

    def default_of(self, command: str) -> str | None:
        """The default value; None if it is not a text."""
        return "no" if self.kind == "flag" else _of(self.default, command) or None

    def help_of(self, command: str) -> str:
        """The text in `lane COMMAND --help`."""
        text, default = _of(self.help, command), _of(self.default, command)
        return f"{text} (default: {default})" if default else text

    def description(self, command: str) -> str:
        """The text in conf/ and docs/, in whole sentences."""
        return sentence(_of(self.comment, command) or _of(self.help, command))

    def example_of(self, command: str) -> str:
        """The value in conf/: the default, if there is one."""
        return self.default_of(command) or _of(self.example, command)


@dataclass(frozen=True, slots=True)
class Group:
    """A group of options in `--help` and conf/."""

    title: PerCommand
    commands: tuple[str, ...]
    options: tuple[Option, ...]

    def of(self, command: str) -> list[Option]:
        """The options of the group that `command` has."""
        return [one for one in self.options if command in (one.commands or self.commands)]

    def title_of(self, command: str) -> str:
        """The title of the group for `command`."""
        return _of(self.title, command)
